//! Whether a resource changes to and fro.

use std::time::Duration;

use pulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

/// So many changes …
const CHANGES: usize = 6;
/// … within this are flapping …
pub const WITHIN: Duration = Duration::from_secs(600);
/// … until there is none for this long.
pub const SETTLES_AFTER: Duration = Duration::from_secs(300);

/// The latest changes of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flap {
    /// When it changed, the latest six.
    pub changes: Vec<Timestamp>,
    /// Whether it is flapping.
    pub is_on: bool,
}

impl Flap {
    pub(super) fn changed(&mut self, at: Timestamp) {
        if self.changes.len() == CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(at);
    }

    /// Whether it changed often enough to be called flapping.
    pub(super) fn begins(&self) -> bool {
        match (self.changes.first(), self.changes.last()) {
            (Some(first), Some(last)) => {
                self.changes.len() == CHANGES && last.duration_since(*first) <= WITHIN
            }
            _ => false,
        }
    }

    /// When it has settled, if it does not change before.
    pub(super) fn settles_at(&self) -> Option<Timestamp> {
        let last = self.changes.last().copied()?;
        self.is_on.then(|| last + SETTLES_AFTER)
    }

    /// Until when its changes may count.
    pub(super) fn counts_until(&self) -> Option<Timestamp> {
        Some(*self.changes.last()? + WITHIN)
    }
}
