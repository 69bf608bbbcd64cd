//! New ids for the machines, which draw none themselves.

use pulse_domain::org::Ids;
use uuid::Uuid;

/// Draws UUIDv7s: they sort by the time they were drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeOrderedIds;

impl Ids for TimeOrderedIds {
    fn next(&mut self) -> Uuid {
        Uuid::now_v7()
    }
}
