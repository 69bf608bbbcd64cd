//! One channel, as its attempts tell: how well it delivers, and when it is left alone.
//!
//! - **H1** An accepted attempt closes the breaker: an enabled channel is healthy, and nothing is held against it.
//! - **H2** A channel is switched off when its receiver is gone for good, or when every attempt of
//!   [`FAILING_MAX`] failed, and at least [`TRIP_AFTER`] did; only a person enables it again.
//! - **H3** [`TRIP_AFTER`] failures in a row open the breaker for a while, twice as long each time; then one attempt
//!   decides. A receiver that asks to be left alone is, for as long as it asks.
//! - **H4** What is this hub's own fault changes nothing.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, AttemptOutcome, ChannelHealth};

use super::delivery::RETRY_AFTER_MAX;
use crate::record::{Breaker, ChannelRecord};

/// Failures in a row that open the breaker.
pub const TRIP_AFTER: u32 = 10;
/// How long it is open the first time, before jitter.
const PAUSE: Duration = Duration::from_secs(30);
/// It is open no longer, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// No pause is shorter than this part of what it would be, however the jitter falls.
const PAUSE_LEAST: f64 = 0.5;
/// A channel whose every attempt failed for this long is switched off, if there were [`TRIP_AFTER`] of them.
pub const FAILING_MAX: Duration = Duration::from_secs(5 * 24 * 3_600);
/// People are told of a channel that has failed for this long, once.
pub const TELL_AFTER: Duration = Duration::from_secs(3_600);

/// How a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How well it delivers.
    pub health: ChannelHealth,
    /// What its last attempts say of the receiver.
    pub breaker: Breaker,
}

impl Condition {
    /// Of a channel as it is stored.
    #[must_use]
    pub const fn of(record: &ChannelRecord) -> Self {
        Self { health: record.health, breaker: record.breaker }
    }

    /// Of a channel that a person has switched on.
    #[must_use]
    pub const fn fresh() -> Self {
        let breaker =
            Breaker { failures: 0, failing_since: None, trips: 0, paused_until: None, told: false };
        Self { health: ChannelHealth::Healthy, breaker }
    }

    /// What of it is shown.
    #[must_use]
    pub const fn shown(&self) -> (ChannelHealth, Option<Timestamp>, Option<Timestamp>) {
        (self.health, self.breaker.failing_since, self.breaker.paused_until)
    }

    /// How it is after an attempt. `retry_after` is how long the receiver asked to be left alone; `jitter`, in 0 to 1,
    /// spreads the probes of many channels.
    #[must_use]
    pub fn after_attempt(
        self,
        attempt: &Attempt,
        retry_after: Option<Duration>,
        jitter: f64,
        now: Timestamp,
    ) -> Self {
        if self.health == ChannelHealth::Disabled {
            return self;
        }
        if attempt.outcome == AttemptOutcome::Accepted {
            return Self::fresh();
        }
        let mut breaker = self.breaker.after_failure(retry_after, jitter, now);
        let failing =
            breaker.failing_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        breaker.told |= failing >= TELL_AFTER;
        // A channel that is seldom used has not shown much by a few failures.
        let is_given_up = failing >= FAILING_MAX && breaker.failures >= TRIP_AFTER;
        let health = match attempt.outcome {
            AttemptOutcome::Gone => ChannelHealth::Disabled,
            _ if is_given_up => ChannelHealth::Disabled,
            // A credential or an address that a person must put right.
            AttemptOutcome::Permanent if matches!(attempt.status, Some(401 | 403 | 404)) => {
                ChannelHealth::NeedsAttention
            }
            _ if self.health == ChannelHealth::NeedsAttention => ChannelHealth::NeedsAttention,
            _ => ChannelHealth::Degraded,
        };
        Self { health, breaker }
    }
}

impl Breaker {
    fn after_failure(mut self, retry_after: Option<Duration>, jitter: f64, now: Timestamp) -> Self {
        self.failures = self.failures.saturating_add(1);
        self.failing_since = self.failing_since.or(Some(now));
        // An attempt that began before the pause says nothing new about it.
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let trips_now = self.trips > 0 || self.failures >= TRIP_AFTER;
        if trips_now && !is_paused {
            self.paused_until = Some(now + pause(self.trips, jitter));
            self.trips = self.trips.saturating_add(1);
        }
        if let Some(asked) = retry_after {
            self.paused_until = self.paused_until.max(Some(now + asked.min(RETRY_AFTER_MAX)));
        }
        self
    }

    /// Until when nothing is sent; none if something may be.
    #[must_use]
    pub fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until)
    }
}

/// How long the breaker stays open after it was opened `trips` times in a row before.
fn pause(trips: u32, jitter: f64) -> Duration {
    let full = PAUSE.saturating_mul(2_u32.saturating_pow(trips)).min(PAUSE_MAX);
    full.mul_f64(PAUSE_LEAST + (1.0 - PAUSE_LEAST) * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);

    fn attempt(outcome: AttemptOutcome, status: Option<u16>) -> Attempt {
        Attempt { at: NOW, duration_ms: 1, outcome, status, answer: None, error: None }
    }

    fn failure() -> Attempt {
        attempt(AttemptOutcome::Retry, Some(500))
    }

    fn after(condition: Condition, made: &Attempt, now: Timestamp) -> Condition {
        condition.after_attempt(made, None, 1.0, now)
    }

    /// A channel whose breaker has just opened.
    fn opened() -> Condition {
        (0..TRIP_AFTER).fold(Condition::fresh(), |condition, _| after(condition, &failure(), NOW))
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_table_of_health() {
        use AttemptOutcome::{Accepted, Gone, Permanent, Retry};
        use ChannelHealth::{Degraded, Disabled, Healthy, NeedsAttention};
        for (health, outcome, status, expected) in [
            (Healthy, Retry, Some(500), Degraded),
            (Healthy, Retry, None, Degraded),
            (Healthy, Permanent, Some(422), Degraded),
            (Healthy, Permanent, Some(404), NeedsAttention),
            (NeedsAttention, Retry, Some(500), NeedsAttention),
            (NeedsAttention, Accepted, Some(200), Healthy),
            (Degraded, Accepted, Some(204), Healthy),
            (Degraded, Gone, Some(410), Disabled),
            (Disabled, Accepted, Some(200), Disabled),
        ] {
            let before = Condition { health, ..Condition::fresh() };
            let now = after(before, &attempt(outcome, status), NOW);
            assert_eq!(now.health, expected, "{health} {outcome} {status:?}");
        }
    }

    #[test]
    fn ten_failures_in_a_row_open_the_breaker_and_a_success_closes_it() {
        let nine = (1..TRIP_AFTER).fold(Condition::fresh(), |it, _| after(it, &failure(), NOW));
        assert_eq!((nine.breaker.paused_until, nine.breaker.failing_since), (None, Some(NOW)));
        let between = after(nine, &attempt(AttemptOutcome::Accepted, None), NOW);
        assert_eq!(between, Condition::fresh());
        assert_eq!(after(nine, &failure(), NOW).breaker.paused_until, Some(NOW + seconds(30)));
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_twice_as_long() {
        let mut condition = opened();
        let mut pauses = vec![];
        for _ in 0..8 {
            let now = condition.breaker.paused_until.unwrap();
            condition = after(condition, &failure(), now);
            let until = condition.breaker.paused_until.unwrap();
            pauses.push(until.duration_since(now).as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 900, 900, 900, 900]);
    }

    #[test]
    fn an_attempt_that_began_before_the_pause_does_not_prolong_it() {
        let opened = opened();
        let late = after(opened, &failure(), NOW + seconds(29));
        assert_eq!(late.breaker.paused_until, opened.breaker.paused_until);
        assert_eq!(late.breaker.trips, 1);
    }

    #[test]
    fn a_receiver_that_asks_for_it_is_left_alone_after_one_failure() {
        let busy = attempt(AttemptOutcome::Retry, Some(429));
        let asked = |wait| Condition::fresh().after_attempt(&busy, Some(wait), 0.0, NOW);
        let condition = asked(seconds(120));
        assert_eq!(condition.breaker.holds_until(NOW), Some(NOW + seconds(120)));
        assert_eq!((condition.breaker.failures, condition.breaker.trips), (1, 0));
        assert_eq!(condition.breaker.holds_until(NOW + seconds(120)), None);
        let for_ever = asked(Duration::from_secs(u64::MAX / 2_000)).breaker.paused_until;
        assert_eq!(for_ever, Some(NOW + RETRY_AFTER_MAX));
    }

    #[test]
    fn five_days_of_failures_switch_it_off_and_one_success_within_them_does_not() {
        let begun = (1..TRIP_AFTER).fold(Condition::fresh(), |it, _| after(it, &failure(), NOW));
        let almost = after(begun, &failure(), NOW + FAILING_MAX - Duration::from_millis(1));
        assert_eq!(almost.health, ChannelHealth::Degraded);
        assert_eq!(after(begun, &failure(), NOW + FAILING_MAX).health, ChannelHealth::Disabled);
        let well = after(almost, &attempt(AttemptOutcome::Accepted, None), NOW + seconds(1));
        let again = after(well, &failure(), NOW + FAILING_MAX);
        assert_eq!(again.health, ChannelHealth::Degraded);
    }

    #[test]
    fn a_few_failures_days_apart_do_not_switch_it_off() {
        let few = (2..TRIP_AFTER).fold(Condition::fresh(), |it, _| after(it, &failure(), NOW));
        let ninth = after(few, &failure(), NOW + FAILING_MAX);
        assert_eq!(ninth.health, ChannelHealth::Degraded);
        let tenth = after(ninth, &failure(), NOW + FAILING_MAX);
        assert_eq!(tenth.health, ChannelHealth::Disabled);
    }

    #[test]
    fn it_is_told_of_after_an_hour_until_it_delivers() {
        let begun = after(Condition::fresh(), &failure(), NOW);
        assert!(!after(begun, &failure(), NOW + TELL_AFTER - seconds(1)).breaker.told);
        let told = after(begun, &failure(), NOW + TELL_AFTER);
        assert!(told.breaker.told);
        assert!(!after(told, &attempt(AttemptOutcome::Accepted, None), NOW).breaker.told);
    }

    proptest! {
        /// H1 to H3, whatever the receiver answers and whenever.
        #[test]
        fn whatever_the_receiver_does(
            steps in prop::collection::vec(
                (prop::sample::select(AttemptOutcome::ALL), 0_u64..100_000, prop::option::of(0_u64..200_000)),
                0..80,
            ),
            jitter in 0.0_f64..1.0,
        ) {
            let (mut condition, mut now, mut failing_since) = (Condition::fresh(), NOW, None);
            for (outcome, wait, asked) in steps {
                now = now + Duration::from_secs(wait);
                let before = condition;
                condition = before.after_attempt(&attempt(outcome, None), asked.map(seconds), jitter, now);
                if before.health == ChannelHealth::Disabled {
                    prop_assert_eq!(condition, before);
                    continue;
                }
                if outcome == AttemptOutcome::Accepted {
                    prop_assert_eq!(condition, Condition::fresh());
                    failing_since = None;
                    continue;
                }
                let since = *failing_since.get_or_insert(now);
                prop_assert_eq!(condition.breaker.failing_since, Some(since));
                let is_long = now >= since + FAILING_MAX && condition.breaker.failures >= TRIP_AFTER;
                let is_off = outcome == AttemptOutcome::Gone || is_long;
                prop_assert_eq!(condition.health == ChannelHealth::Disabled, is_off);
                prop_assert!(condition.health != ChannelHealth::Healthy);
                if condition.breaker.failures >= TRIP_AFTER {
                    prop_assert!(condition.breaker.holds_until(now).is_some(), "open after enough failures");
                }
                let longest = PAUSE_MAX.max(asked.map_or(Duration::ZERO, seconds)).min(RETRY_AFTER_MAX);
                let earlier = before.breaker.paused_until;
                prop_assert!(condition.breaker.paused_until <= earlier.max(Some(now + longest)));
            }
        }
    }
}
