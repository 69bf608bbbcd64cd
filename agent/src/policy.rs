//! Which results of a check are worth a report.
//!
//! The hub keeps the device's status and applies the failure threshold, so it needs every result that could
//! move it, and now and then one to know that the check still runs. All else stays here.
//!
//! - **R1** A result whose status differs from the last one reported is reported.
//! - **R2** Failing results are reported until `failure_threshold` of them in a row have been.
//! - **R3** No two reports of a check are more than [`REPORT_WITHIN`] apart, unless its interval is longer.

use std::time::Duration;

use pulse_protocol::status::DeviceStatus;
use tokio::time::Instant;

/// The longest silence about a check that runs.
pub const REPORT_WITHIN: Duration = Duration::from_secs(60);

/// What was reported about one check so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    last: Option<(DeviceStatus, Instant)>,
    failures: u32,
}

/// What the policy needs to know of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Time between two runs.
    pub interval: Duration,
    /// Failures in a row until the hub believes them.
    pub failure_threshold: u32,
}

impl Reported {
    /// Takes a result found at `now`; true if it is to be reported, and then counts it as reported.
    #[must_use]
    pub fn take(&mut self, status: DeviceStatus, terms: Terms, now: Instant) -> bool {
        let failing = status != DeviceStatus::Online;
        let wanted = match self.last {
            None => true,
            Some((last, _)) if last != status => true,
            Some(_) if failing && self.failures < terms.failure_threshold => true,
            // The next result would come too late.
            Some((_, at)) => now + terms.interval > at + REPORT_WITHIN,
        };
        if wanted {
            self.failures = if failing { self.failures.saturating_add(1) } else { 0 };
            self.last = Some((status, now));
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulse_protocol::status::DeviceStatus::{Degraded, Offline, Online};

    use super::*;

    fn terms(interval_s: u64, failure_threshold: u32) -> Terms {
        Terms { interval: Duration::from_secs(interval_s), failure_threshold }
    }

    /// Runs a check every `interval_s` and tells which of its results were reported.
    fn play(terms: Terms, statuses: &[DeviceStatus]) -> Vec<bool> {
        let start = Instant::now();
        let mut reported = Reported::default();
        let at = |run: usize| start + terms.interval * u32::try_from(run).unwrap();
        statuses
            .iter()
            .enumerate()
            .map(|(run, status)| reported.take(*status, terms, at(run)))
            .collect()
    }

    #[test]
    fn the_first_result_and_each_change_are_reported() {
        let told = play(
            terms(1, 1),
            &[Online, Online, Degraded, Degraded, Offline, Offline, Online, Online],
        );
        assert_eq!(told, [true, false, true, false, true, false, true, false]);
    }

    #[test]
    fn failures_are_reported_until_the_threshold_can_be_reached() {
        let told = play(
            terms(1, 3),
            &[Online, Offline, Offline, Offline, Offline, Online, Offline, Offline],
        );
        assert_eq!(told, [true, true, true, true, false, true, true, true]);
    }

    #[test]
    fn a_slow_check_reports_every_result() {
        assert_eq!(play(terms(60, 1), &[Online; 4]), [true; 4]);
        assert_eq!(play(terms(300, 1), &[Online; 3]), [true; 3]);
    }

    #[test]
    fn a_check_every_25_s_never_stays_silent_for_more_than_a_minute() {
        assert_eq!(play(terms(25, 1), &[Online; 5]), [true, false, true, false, true]);
    }

    fn any_status() -> impl Strategy<Value = DeviceStatus> {
        prop_oneof![Just(Online), Just(Offline), Just(Degraded), Just(DeviceStatus::Unknown)]
    }

    proptest! {
        #[test]
        fn r1_and_r3_hold_for_any_script(
            interval_s in 1_u64..60,
            threshold in 1_u32..6,
            statuses in prop::collection::vec(any_status(), 1..200),
        ) {
            let told = play(terms(interval_s, threshold), &statuses);
            let (mut last, mut silent_s) = (None, 0);
            for (status, told) in statuses.into_iter().zip(told) {
                prop_assert!(told || last == Some(status));
                silent_s = if told { 0 } else { silent_s + interval_s };
                prop_assert!(silent_s <= 60);
                if told {
                    last = Some(status);
                }
            }
        }

        #[test]
        fn r2_holds_for_any_script(
            threshold in 1_usize..6,
            statuses in prop::collection::vec(any_status(), 1..100),
        ) {
            let told = play(terms(1, u32::try_from(threshold).unwrap()), &statuses);
            let mut row = 0;
            for (status, told) in statuses.into_iter().zip(told) {
                row = if status == Online { 0 } else { row + 1 };
                prop_assert!(told || row == 0 || row > threshold);
            }
        }
    }
}
