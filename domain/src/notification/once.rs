//! Events that are told as they are: nothing is wrong, and nothing is told later.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::Suppression;
use serde::{Deserialize, Serialize};

/// The last time an event of one name about one resource was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// When.
    pub told_at: Timestamp,
}

/// Why such an event is not told now; none if it is.
#[must_use]
pub fn decide(
    before: Option<&Once>,
    cooldown: Duration,
    hold: Option<Suppression>,
    now: Timestamp,
) -> Option<Suppression> {
    let cools = before.is_some_and(|before| before.told_at + cooldown > now);
    hold.or(cools.then_some(Suppression::Cooldown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cooldown_ends_when_it_ends() {
        let before = Once { told_at: Timestamp::from_unix_ms(1_000) };
        let at =
            |ms| decide(Some(&before), Duration::from_secs(5), None, Timestamp::from_unix_ms(ms));
        assert_eq!(at(5_999), Some(Suppression::Cooldown));
        assert_eq!(at(6_000), None);
        let held = Some(Suppression::Maintenance);
        assert_eq!(decide(None, Duration::ZERO, held, Timestamp::from_unix_ms(0)), held);
    }
}
