//! When each check runs.
//!
//! - **S1** A check runs every `interval_s`; its first run comes after a random part of a short spread.
//! - **S2** Two runs of one check never overlap; a run that takes longer than the interval skips the missed ones.
//! - **S3** A new configuration leaves unchanged checks alone: neither their clock nor their run is touched.
//! - **S4** The result of a run whose check was changed or removed meanwhile is not used.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pulse_protocol::agent::CheckConfig;
use pulse_protocol::ids::CheckId;
use tokio::time::Instant;

use crate::policy::{Reported, Terms};

/// Time the first runs of many new checks are spread over, for each of them.
const SPREAD_PER_CHECK: Duration = Duration::from_millis(20);
/// The least the first runs are spread over.
const SPREAD_MIN: Duration = Duration::from_secs(1);
/// The shortest interval taken; what is below would be a busy loop.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// One run that is to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Tells this run from those of an earlier configuration of the same check.
    pub generation: u64,
    /// What to do.
    pub check: CheckConfig,
}

struct Entry {
    check: CheckConfig,
    generation: u64,
    due_at: Instant,
    running: bool,
    reported: Reported,
}

impl Entry {
    fn interval(&self) -> Duration {
        Duration::from_secs(self.check.interval_s.into()).max(INTERVAL_MIN)
    }
}

/// The clock of all checks.
#[derive(Default)]
pub struct Schedule {
    entries: HashMap<CheckId, Entry>,
    /// Those that wait for their time; a running check is not in it.
    waiting: BTreeSet<(Instant, CheckId)>,
    generation: u64,
}

impl Schedule {
    /// Takes the whole new list of checks. `fraction` gives a random number from 0 up to 1 for each new check.
    pub fn apply(
        &mut self,
        checks: Vec<CheckConfig>,
        now: Instant,
        mut fraction: impl FnMut() -> f64,
    ) {
        let mut earlier = std::mem::take(&mut self.entries);
        self.waiting.clear();
        let is_kept =
            |check: &CheckConfig| earlier.get(&check.check_id).is_some_and(|e| e.check == *check);
        let new = checks.iter().filter(|check| !is_kept(check)).count();
        let spread = (SPREAD_PER_CHECK * u32::try_from(new).unwrap_or(u32::MAX)).max(SPREAD_MIN);
        for check in checks {
            let check_id = check.check_id;
            let entry = match earlier.remove(&check_id) {
                Some(entry) if entry.check == check => entry,
                _ => self.enter(check, now, spread, fraction()),
            };
            if !entry.running {
                self.waiting.insert((entry.due_at, check_id));
            }
            self.entries.insert(check_id, entry);
        }
    }

    fn enter(
        &mut self,
        check: CheckConfig,
        now: Instant,
        spread: Duration,
        fraction: f64,
    ) -> Entry {
        self.generation += 1;
        let generation = self.generation;
        let mut entry =
            Entry { check, generation, due_at: now, running: false, reported: Reported::default() };
        entry.due_at += spread.min(entry.interval()).mul_f64(fraction.clamp(0.0, 1.0));
        entry
    }

    /// Starts what is due at `now`, at most `slots` of them, the longest overdue first.
    pub fn start_due(&mut self, now: Instant, slots: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        while runs.len() < slots {
            let Some((due_at, check_id)) =
                self.waiting.first().copied().filter(|(due_at, _)| *due_at <= now)
            else {
                break;
            };
            self.waiting.remove(&(due_at, check_id));
            if let Some(entry) = self.entries.get_mut(&check_id) {
                entry.running = true;
                runs.push(Run { generation: entry.generation, check: entry.check.clone() });
            }
        }
        runs
    }

    /// Ends a run; its check waits for its next time. Gives what the report policy needs, or nothing if the
    /// run's check was changed or removed meanwhile.
    pub fn finish(
        &mut self,
        check_id: CheckId,
        generation: u64,
        now: Instant,
    ) -> Option<(&mut Reported, Terms)> {
        let entry =
            self.entries.get_mut(&check_id).filter(|entry| entry.generation == generation)?;
        let interval = entry.interval();
        let late = now.saturating_duration_since(entry.due_at);
        let periods = u32::try_from(late.as_nanos() / interval.as_nanos())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        entry.due_at += interval.saturating_mul(periods);
        entry.running = false;
        self.waiting.insert((entry.due_at, check_id));
        let terms = Terms { interval, failure_threshold: entry.check.failure_threshold };
        Some((&mut entry.reported, terms))
    }

    /// When the next check is due; nothing if all run or there are none.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due_at, _)| *due_at)
    }

    /// How many checks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no checks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::ids::DeviceId;
    use pulse_protocol::status::CheckKind;

    use super::*;

    fn check(interval_s: u32) -> CheckConfig {
        CheckConfig {
            check_id: CheckId::new(),
            device_id: DeviceId::new(),
            address: "192.0.2.1".to_owned(),
            check: CheckKind::Ping,
            port: None,
            url: None,
            interval_s,
            timeout_ms: 1000,
            failure_threshold: 1,
            expect: None,
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A schedule whose checks were entered at the returned instant, without jitter.
    fn schedule(checks: &[CheckConfig]) -> (Schedule, Instant) {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.apply(checks.to_vec(), start, || 0.0);
        (schedule, start)
    }

    #[test]
    fn a_check_runs_at_its_interval() {
        let (mut schedule, start) = schedule(&[check(10)]);
        let mut started = Vec::new();
        for second in 0..35 {
            for run in schedule.start_due(start + s(second), 64) {
                started.push(second);
                assert!(
                    schedule
                        .finish(run.check.check_id, run.generation, start + s(second))
                        .is_some()
                );
            }
        }
        assert_eq!(started, [0, 10, 20, 30]);
    }

    #[test]
    fn a_slow_run_neither_overlaps_nor_piles_up() {
        let (mut schedule, start) = schedule(&[check(10)]);
        let run = schedule.start_due(start, 64).remove(0);
        assert!(schedule.start_due(start + s(25), 64).is_empty());
        assert_eq!(schedule.next_due(), None);
        assert!(schedule.finish(run.check.check_id, run.generation, start + s(25)).is_some());
        assert_eq!(schedule.next_due(), Some(start + s(30)));
    }

    #[test]
    fn slots_bound_what_starts_and_the_longest_overdue_goes_first() {
        let (early, late) = (check(10), check(30));
        let (mut schedule, start) = schedule(&[early.clone(), late.clone()]);
        for run in schedule.start_due(start, 64) {
            assert!(schedule.finish(run.check.check_id, run.generation, start).is_some());
        }
        let first = schedule.start_due(start + s(40), 1);
        assert_eq!(first[0].check, early);
        let second = schedule.start_due(start + s(40), 1);
        assert_eq!(second[0].check, late);
    }

    #[test]
    fn first_runs_are_spread_within_the_interval() {
        let checks: Vec<_> = (0..1000).map(|_| check(10)).collect();
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let mut steps = (0..1000).map(|step| f64::from(step) / 1000.0);
        schedule.apply(checks, start, || steps.next().unwrap());
        let by_half = schedule.start_due(start + s(5), usize::MAX).len();
        assert!((400..=600).contains(&by_half), "{by_half}");
        assert_eq!(by_half + schedule.start_due(start + s(10), usize::MAX).len(), 1000);
    }

    #[test]
    fn an_unchanged_check_keeps_its_clock_and_its_run() {
        let (kept, other) = (check(10), check(10));
        let (mut schedule, start) = schedule(std::slice::from_ref(&kept));
        let run = schedule.start_due(start, 64).remove(0);
        schedule.apply(vec![kept.clone(), other], start + s(3), || 0.9);
        assert!(
            schedule.start_due(start + s(3), 64).is_empty(),
            "its run goes on, and the other waits"
        );
        assert!(schedule.finish(kept.check_id, run.generation, start + s(4)).is_some());
        assert_eq!(schedule.start_due(start + s(10), 64).len(), 2);
    }

    #[test]
    fn the_result_of_a_changed_or_removed_check_is_not_used() {
        let changed = check(10);
        let (mut schedule, start) = schedule(std::slice::from_ref(&changed));
        let run = schedule.start_due(start, 64).remove(0);
        schedule.apply(
            vec![CheckConfig { timeout_ms: 5, ..changed.clone() }],
            start + s(1),
            || 0.0,
        );
        assert!(schedule.finish(changed.check_id, run.generation, start + s(2)).is_none());
        assert_eq!(
            schedule.start_due(start + s(2), 64).len(),
            1,
            "the new form runs on its own clock"
        );
        schedule.apply(Vec::new(), start + s(3), || 0.0);
        assert!(schedule.is_empty() && schedule.next_due().is_none());
    }

    #[test]
    fn an_interval_of_zero_is_no_busy_loop() {
        let (mut schedule, start) = schedule(&[check(0)]);
        let run = schedule.start_due(start, 64).remove(0);
        assert!(schedule.finish(run.check.check_id, run.generation, start).is_some());
        assert_eq!(schedule.next_due(), Some(start + s(1)));
    }
}
