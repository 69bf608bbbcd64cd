//! One message on one channel: tried until it is accepted, refused for good, or given up.
//!
//! - **V1** Every delivery that is not ended has a next attempt.
//! - **V2** An ended delivery is tried again only when a person replays it; its id never changes.
//! - **V3** It is `delivered` only if the receiver accepted it.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, DeliveryState};

/// Attempts until a delivery is given up, on the hub's own schedule.
pub const TRIES_MAX: u32 = 14;
/// Delay before the second attempt, before jitter.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Each delay is this many times the one before it.
const GROWTH: u32 = 3;
/// No delay is longer. With [`TRIES_MAX`] attempts and full jitter a receiver has about 28 hours to come back on
/// average, and 56 at most.
const DELAY_MAX: Duration = Duration::from_secs(37_800);
/// No delay is shorter, however the jitter falls.
const DELAY_MIN: Duration = Duration::from_millis(500);
/// A receiver cannot ask to be left alone for longer.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

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
/// `own` is the channel's own schedule in seconds, taken as it is; the hub's when it is empty. `retry_after` is how
/// long the receiver asked to be left alone; `jitter`, in 0 to 1, spreads the retries of many deliveries over the whole
/// delay (full jitter).
#[must_use]
pub fn after_attempt(
    outcome: AttemptOutcome,
    tries: u32,
    own: &[u32],
    retry_after: Option<Duration>,
    jitter: f64,
    now: Timestamp,
) -> Next {
    match outcome {
        AttemptOutcome::Accepted => ended(DeliveryState::Delivered),
        AttemptOutcome::Permanent | AttemptOutcome::Gone => ended(DeliveryState::Dead),
        AttemptOutcome::Retry => match delay(tries, own, jitter) {
            None => ended(DeliveryState::Dead),
            Some(delay) => {
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                let next_attempt_at = Some(now + delay.max(asked));
                Next { state: DeliveryState::Retrying, next_attempt_at }
            }
        },
    }
}

const fn ended(state: DeliveryState) -> Next {
    Next { state, next_attempt_at: None }
}

/// How long to wait after attempt number `tries`; none if it was the last.
fn delay(tries: u32, own: &[u32], jitter: f64) -> Option<Duration> {
    if own.is_empty() {
        let drawn = full_delay(tries).mul_f64(jitter.clamp(0.0, 1.0));
        return (tries < TRIES_MAX).then(|| drawn.max(DELAY_MIN));
    }
    let index = usize::try_from(tries).ok()?.checked_sub(1)?;
    own.get(index).map(|seconds| Duration::from_secs(u64::from(*seconds)))
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
        let after = |outcome| after_attempt(outcome, 1, &[], None, 0.5, NOW).state;
        assert_eq!(after(AttemptOutcome::Accepted), DeliveryState::Delivered);
        assert_eq!(after(AttemptOutcome::Permanent), DeliveryState::Dead);
        assert_eq!(after(AttemptOutcome::Gone), DeliveryState::Dead);
    }

    #[test]
    fn a_receiver_has_28_hours_on_average_to_come_back() {
        let delays: Vec<u64> = (1..TRIES_MAX).map(|tries| full_delay(tries).as_secs()).collect();
        assert_eq!(
            delays,
            [5, 15, 45, 135, 405, 1_215, 3_645, 10_935, 32_805, 37_800, 37_800, 37_800, 37_800]
        );
        let on_average = delays.iter().sum::<u64>() / 2;
        assert!((27 * 3_600..29 * 3_600).contains(&on_average), "{on_average} s");
    }

    #[test]
    fn a_channels_own_schedule_is_taken_as_it_is() {
        let after = |tries, jitter| {
            after_attempt(AttemptOutcome::Retry, tries, &[0, 60], None, jitter, NOW)
        };
        let wait = |seconds| Next {
            state: DeliveryState::Retrying,
            next_attempt_at: Some(NOW + Duration::from_secs(seconds)),
        };
        for jitter in [0.0, 0.3, 1.0] {
            assert_eq!(after(1, jitter), wait(0));
            assert_eq!(after(2, jitter), wait(60));
            assert_eq!(after(3, jitter), ended(DeliveryState::Dead), "one more try than waits");
        }
    }

    #[test]
    fn the_receiver_is_left_alone_as_long_as_it_asked_but_not_for_ever() {
        let at = |own: &[u32], asked| {
            after_attempt(AttemptOutcome::Retry, 1, own, Some(asked), 1.0, NOW).next_attempt_at
        };
        for own in [&[][..], &[1]] {
            assert_eq!(at(own, Duration::from_secs(60)), Some(NOW + Duration::from_secs(60)));
            assert_eq!(at(own, Duration::from_secs(9_000_000)), Some(NOW + RETRY_AFTER_MAX));
        }
    }

    proptest! {
        /// V1 and V3: whatever the receiver does, it ends after at most as many attempts as the schedule has,
        /// delivered only if accepted, and waits within its bounds until then.
        #[test]
        fn every_delivery_ends(
            outcomes in prop::collection::vec(prop::sample::select(AttemptOutcome::ALL), 40),
            own in prop::collection::vec(0_u32..86_400, 0..20),
            jitter in 0.0_f64..1.0,
        ) {
            let tries_max = if own.is_empty() { TRIES_MAX as usize } else { own.len() + 1 };
            let (mut now, mut tries) = (NOW, 0);
            for outcome in outcomes {
                tries += 1;
                let next = after_attempt(outcome, tries, &own, None, jitter, now);
                prop_assert_eq!(next.state == DeliveryState::Delivered, outcome == AttemptOutcome::Accepted);
                prop_assert_eq!(is_ended(next.state), next.next_attempt_at.is_none());
                match next.next_attempt_at {
                    None => break,
                    Some(at) if own.is_empty() => {
                        prop_assert!(at >= now + DELAY_MIN && at <= now + DELAY_MAX);
                        now = at;
                    }
                    Some(at) => {
                        let exact = Duration::from_secs(own[tries as usize - 1].into());
                        prop_assert_eq!(at, now + exact);
                        now = at;
                    }
                }
            }
            prop_assert!(tries as usize <= tries_max);
        }
    }
}
