//! One message on one channel: tried until it is accepted, refused for good, or given up.
//!
//! - **V1** Every delivery that is not ended has a next attempt.
//! - **V2** An ended delivery is tried again only when a person replays it; its id never changes.
//! - **V3** It is `delivered` only if the receiver accepted it.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, DeliveryState};

/// Attempts until a delivery is given up.
pub const TRIES_MAX: u32 = 12;
/// Delay before the second attempt, before jitter.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Each delay is this many times the one before it.
const GROWTH: u32 = 3;
/// No delay is longer. With [`TRIES_MAX`] attempts a receiver has about 34 hours to come back, 17 on average.
const DELAY_MAX: Duration = Duration::from_secs(10 * 3_600);
/// No delay is shorter, however the jitter falls.
const DELAY_MIN: Duration = Duration::from_millis(500);
/// A receiver cannot ask to be left alone for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Where the delivery is now.
    pub state: DeliveryState,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
}

/// Decides what follows attempt number `tries` (from 1), which ended with `outcome`.
///
/// `retry_after` is how long the receiver asked to be left alone; `jitter`, in 0 to 1, spreads the retries of
/// many deliveries over the whole delay (full jitter).
#[must_use]
pub fn after_attempt(
    outcome: AttemptOutcome,
    tries: u32,
    retry_after: Option<Duration>,
    jitter: f64,
    now: Timestamp,
) -> Next {
    match outcome {
        AttemptOutcome::Accepted => ended(DeliveryState::Delivered),
        AttemptOutcome::Permanent | AttemptOutcome::Gone => ended(DeliveryState::Dead),
        AttemptOutcome::Retry if tries >= TRIES_MAX => ended(DeliveryState::Dead),
        AttemptOutcome::Retry => {
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let delay = full_delay(tries).mul_f64(jitter.clamp(0.0, 1.0)).max(DELAY_MIN).max(asked);
            Next { state: DeliveryState::Retrying, next_attempt_at: Some(now + delay) }
        }
    }
}

const fn ended(state: DeliveryState) -> Next {
    Next { state, next_attempt_at: None }
}

/// The delay after attempt number `tries`, before jitter.
fn full_delay(tries: u32) -> Duration {
    let factor = GROWTH.saturating_pow(tries.saturating_sub(1));
    FIRST_DELAY.saturating_mul(factor).min(DELAY_MAX)
}

/// Whether nothing more happens to a delivery by itself.
#[must_use]
pub const fn is_ended(state: DeliveryState) -> bool {
    !matches!(state, DeliveryState::Queued | DeliveryState::Retrying)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);

    #[test]
    fn acceptance_and_refusal_end_it() {
        let after = |outcome| after_attempt(outcome, 1, None, 0.5, NOW).state;
        assert_eq!(after(AttemptOutcome::Accepted), DeliveryState::Delivered);
        assert_eq!(after(AttemptOutcome::Permanent), DeliveryState::Dead);
        assert_eq!(after(AttemptOutcome::Gone), DeliveryState::Dead);
    }

    #[test]
    fn delays_grow_threefold_to_ten_hours() {
        let delays: Vec<u64> = (1..TRIES_MAX).map(|tries| full_delay(tries).as_secs()).collect();
        assert_eq!(delays, [5, 15, 45, 135, 405, 1_215, 3_645, 10_935, 32_805, 36_000, 36_000]);
    }

    #[test]
    fn the_receiver_is_left_alone_as_long_as_it_asked_but_not_for_ever() {
        let at =
            |asked| after_attempt(AttemptOutcome::Retry, 1, Some(asked), 1.0, NOW).next_attempt_at;
        assert_eq!(at(Duration::from_secs(60)), Some(NOW + Duration::from_secs(60)));
        assert_eq!(at(Duration::from_secs(9_000_000)), Some(NOW + RETRY_AFTER_MAX));
    }

    proptest! {
        /// V1 and V3: whatever the receiver does, it ends after at most TRIES_MAX attempts, delivered only if
        /// accepted, and waits within its bounds until then.
        #[test]
        fn every_delivery_ends(
            outcomes in prop::collection::vec(prop::sample::select(AttemptOutcome::ALL), 40),
            jitter in 0.0_f64..1.0,
        ) {
            let (mut now, mut tries) = (NOW, 0);
            for outcome in outcomes {
                tries += 1;
                let next = after_attempt(outcome, tries, None, jitter, now);
                prop_assert_eq!(next.state == DeliveryState::Delivered, outcome == AttemptOutcome::Accepted);
                prop_assert_eq!(is_ended(next.state), next.next_attempt_at.is_none());
                match next.next_attempt_at {
                    None => break,
                    Some(at) => {
                        prop_assert!(at >= now + DELAY_MIN && at <= now + DELAY_MAX);
                        now = at;
                    }
                }
            }
            prop_assert!(tries <= TRIES_MAX);
        }
    }
}
