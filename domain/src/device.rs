//! Status of one device: as bad as its worst check.
//!
//! A check that was good is believed to be down only after `failure_threshold` failures in a row. The first
//! status of a device is news but no alert. When its agent goes offline a device is `unknown`, because nobody
//! can tell; it returns by report, and an alert is raised only if it comes back other than it was last known.
//! Until their own reports are back its other configured checks count as they were last known: a standing fault
//! of one check is not over because another one reports first.
//!
//! - **D1** The device's status is the worst of its checks' (`unknown` only if all are, or its agent is away).
//! - **D2** `known` is the last status other than `unknown`.
//! - **D3** A status event always changes the status; an alert always changes what is known.
//! - **D4** Between two beliefs there are at most `failure_threshold - 1` unbelieved failures.

use pulse_protocol::Timestamp;
use pulse_protocol::status::{Cause, DeviceStatus};

use crate::record::{CheckKey, CheckState, DeviceStateRecord};

/// How a device is; its settings live elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceState {
    /// As bad as its worst check.
    pub status: DeviceStatus,
    /// The last status other than `unknown`.
    pub known: Option<DeviceStatus>,
    /// Since when it has this status.
    pub since: Timestamp,
    /// Of the last answer, in milliseconds.
    pub response_time_ms: Option<f64>,
    /// Its checks, those with a result; while the device is `unknown`, as they were last known.
    pub checks: Vec<CheckState>,
}

/// One result of a check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckReport {
    /// Which check.
    pub key: CheckKey,
    /// Its `failure_threshold`, at least 1.
    pub threshold: u32,
    /// What was found.
    pub status: DeviceStatus,
    /// How long the answer took, in milliseconds.
    pub response_time_ms: Option<f64>,
    /// When, not later than now.
    pub at: Timestamp,
}

/// What became true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A failure that is not believed yet.
    Counted {
        /// Which check.
        key: CheckKey,
        /// Failures in a row.
        failures: u32,
    },
    /// A check has a result that is believed.
    Measured {
        /// Which check.
        key: CheckKey,
        /// How it is.
        status: DeviceStatus,
        /// How long the answer took, in milliseconds.
        response_time_ms: Option<f64>,
    },
    /// The device's status changed.
    Changed(StatusChange),
}

/// A change of a device's status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatusChange {
    /// How it was.
    pub previous: DeviceStatus,
    /// How it is.
    pub current: DeviceStatus,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: Cause,
    /// The check that decided it, and how that is.
    pub decided_by: Option<(CheckKey, DeviceStatus)>,
    /// Whether somebody should be told.
    pub alert: bool,
}

impl DeviceState {
    /// A device nobody has looked at, added at `since`.
    #[must_use]
    pub const fn new(since: Timestamp) -> Self {
        Self {
            status: DeviceStatus::Unknown,
            known: None,
            since,
            response_time_ms: None,
            checks: Vec::new(),
        }
    }

    /// The status of one check: nobody can tell while nobody can tell how the device is.
    #[must_use]
    pub fn check_status(&self, key: CheckKey) -> DeviceStatus {
        match self.status {
            DeviceStatus::Unknown => DeviceStatus::Unknown,
            _ => self.result(key),
        }
    }

    /// The last result of one check that was believed, even while nobody can tell how the device is.
    #[must_use]
    pub fn result(&self, key: CheckKey) -> DeviceStatus {
        self.check(key).map_or(DeviceStatus::Unknown, |check| check.status)
    }

    /// One check, if it has a result.
    #[must_use]
    pub fn check(&self, key: CheckKey) -> Option<&CheckState> {
        self.checks.iter().find(|check| check.key == key)
    }

    /// What a result makes true.
    #[must_use]
    pub fn decide_report(&self, report: &CheckReport) -> Vec<Event> {
        let CheckReport { key, status, response_time_ms, .. } = *report;
        let (was, failures) = self
            .check(key)
            .map_or((DeviceStatus::Unknown, 0), |check| (check.status, check.failures));
        if status == DeviceStatus::Offline
            && self.believed_good(was)
            && failures + 1 < report.threshold
        {
            return vec![Event::Counted { key, failures: failures + 1 }];
        }
        let mut events = vec![Event::Measured { key, status, response_time_ms }];
        let current = worst(
            self.checks
                .iter()
                .filter(|check| check.key != key)
                .map(|check| check.status)
                .chain([status]),
        );
        // With a threshold it is the hub that decides, from several results; without, the report itself.
        let cause = if report.threshold > 1 { Cause::Check } else { Cause::Reported };
        events.extend(self.change_to(current, report.at, cause, Some((key, status))));
        events
    }

    /// Whether a single failure may be a lost packet.
    fn believed_good(&self, check: DeviceStatus) -> bool {
        let good = |status| matches!(status, DeviceStatus::Online | DeviceStatus::Degraded);
        good(check) || (check == DeviceStatus::Unknown && self.known.is_some_and(good))
    }

    /// What the loss of its agent makes true.
    #[must_use]
    pub fn decide_agent_lost(&self, now: Timestamp) -> Option<Event> {
        self.change_to(DeviceStatus::Unknown, now, Cause::AgentOffline, None)
    }

    /// What a change of its settings makes true: only the checks of `keys` remain.
    #[must_use]
    pub fn decide_checks_kept(
        &self,
        keep: impl Fn(CheckKey) -> bool,
        now: Timestamp,
    ) -> Option<Event> {
        if self.status == DeviceStatus::Unknown {
            // Settings tell nobody how it is.
            return None;
        }
        let current =
            worst(self.checks.iter().filter(|check| keep(check.key)).map(|check| check.status));
        self.change_to(current, now, Cause::Check, None)
    }

    /// Forgets the results of checks that are gone.
    pub fn retain_checks(&mut self, keep: impl Fn(CheckKey) -> bool) {
        self.checks.retain(|check| keep(check.key));
    }

    fn change_to(
        &self,
        current: DeviceStatus,
        since: Timestamp,
        cause: Cause,
        decided_by: Option<(CheckKey, DeviceStatus)>,
    ) -> Option<Event> {
        (current != self.status).then(|| {
            let alert = current != DeviceStatus::Unknown
                && self.known.is_some_and(|known| known != current);
            let previous = self.status;
            Event::Changed(StatusChange { previous, current, since, cause, decided_by, alert })
        })
    }

    /// Folds an event into the state.
    pub fn apply(&mut self, event: &Event) {
        match *event {
            Event::Counted { key, failures } => self.check_mut(key).failures = failures,
            Event::Measured { key, status, response_time_ms } => {
                let check = self.check_mut(key);
                check.status = status;
                check.failures = 0;
                self.response_time_ms = response_time_ms;
            }
            Event::Changed(change) => {
                self.status = change.current;
                self.since = change.since;
                if change.current == DeviceStatus::Unknown {
                    self.response_time_ms = None;
                    if change.cause == Cause::AgentOffline {
                        self.lose_results();
                    } else {
                        // Only then is a device unknown: this also holds for results that no event told of.
                        self.checks
                            .iter_mut()
                            .for_each(|check| check.status = DeviceStatus::Unknown);
                    }
                } else {
                    self.known = Some(change.current);
                }
            }
        }
    }

    fn lose_results(&mut self) {
        for check in &mut self.checks {
            check.failures = 0;
            // What nobody configured may never be reported again; the rest will be.
            if matches!(check.key, CheckKey::Implicit(_)) {
                check.status = DeviceStatus::Unknown;
            }
        }
    }

    fn check_mut(&mut self, key: CheckKey) -> &mut CheckState {
        let at = self.checks.iter().position(|check| check.key == key).unwrap_or_else(|| {
            self.checks.push(CheckState { key, status: DeviceStatus::Unknown, failures: 0 });
            self.checks.len() - 1
        });
        &mut self.checks[at]
    }
}

impl From<DeviceStateRecord> for DeviceState {
    fn from(record: DeviceStateRecord) -> Self {
        let DeviceStateRecord { status, known, since, response_time_ms, checks, .. } = record;
        Self { status, known, since, response_time_ms, checks }
    }
}

fn worst(statuses: impl Iterator<Item = DeviceStatus>) -> DeviceStatus {
    const fn badness(status: DeviceStatus) -> u8 {
        match status {
            DeviceStatus::Unknown => 0,
            DeviceStatus::Online => 1,
            DeviceStatus::Degraded => 2,
            DeviceStatus::Offline => 3,
        }
    }
    statuses.max_by_key(|status| badness(*status)).unwrap_or(DeviceStatus::Unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulse_protocol::ids::CheckId;
    use pulse_protocol::status::CheckKind;

    use super::*;
    use DeviceStatus::{Degraded, Offline, Online, Unknown};

    const PING: CheckKey = CheckKey::Implicit(CheckKind::Ping);
    const HTTP: CheckKey = CheckKey::Configured(CheckId::from_uuid(uuid::Uuid::from_u128(1)));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ms(seconds * 1_000)
    }

    fn report(key: CheckKey, threshold: u32, status: DeviceStatus) -> CheckReport {
        CheckReport { key, threshold, status, response_time_ms: None, at: at(1) }
    }

    /// Plays reports; returns the device and the status changes.
    fn play(device: &mut DeviceState, reports: &[CheckReport]) -> Vec<StatusChange> {
        let mut changes = vec![];
        for report in reports {
            for event in device.decide_report(report) {
                device.apply(&event);
                if let Event::Changed(change) = event {
                    changes.push(change);
                }
            }
        }
        changes
    }

    fn lose_agent(device: &mut DeviceState) -> bool {
        let event = device.decide_agent_lost(at(2));
        event.iter().for_each(|event| device.apply(event));
        event.is_some()
    }

    #[test]
    fn the_first_status_is_news_but_no_alert() {
        let mut device = DeviceState::new(at(0));
        let changes = play(&mut device, &[report(PING, 3, Offline)]);
        assert_eq!((changes[0].previous, changes[0].current), (Unknown, Offline));
        assert!(!changes[0].alert);
    }

    #[test]
    fn a_good_check_is_believed_down_at_its_threshold() {
        let mut device = DeviceState::new(at(0));
        let down = report(PING, 3, Offline);
        let changes = play(&mut device, &[report(PING, 3, Online), down, down]);
        assert_eq!((changes.len(), device.status), (1, Online));
        let changes = play(&mut device, &[down]);
        assert_eq!((changes[0].current, changes[0].cause), (Offline, Cause::Check));
        assert!(changes[0].alert);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let mut device = DeviceState::new(at(0));
        let (up, down) = (report(PING, 3, Online), report(PING, 3, Offline));
        assert_eq!(play(&mut device, &[up, down, down, up, down, down]).len(), 1);
        assert_eq!(device.status, Online);
    }

    #[test]
    fn the_device_is_as_bad_as_its_worst_check() {
        let mut device = DeviceState::new(at(0));
        let changes = play(
            &mut device,
            &[
                report(PING, 1, Online),
                report(HTTP, 1, Degraded),
                report(PING, 1, Offline),
                report(PING, 1, Online),
            ],
        );
        let seen: Vec<_> = changes.iter().map(|change| change.current).collect();
        assert_eq!(seen, [Online, Degraded, Offline, Degraded]);
    }

    #[test]
    fn a_device_returns_from_its_agents_absence_by_report_and_without_an_alert() {
        let mut device = DeviceState::new(at(0));
        play(&mut device, &[report(PING, 1, Online)]);
        assert!(lose_agent(&mut device));
        assert!(!lose_agent(&mut device), "it is unknown already");
        let changes = play(&mut device, &[report(PING, 1, Online)]);
        assert_eq!(
            (changes[0].previous, changes[0].current, changes[0].alert),
            (Unknown, Online, false)
        );
    }

    #[test]
    fn a_device_that_fell_while_its_agent_was_away_raises_the_alert_on_return() {
        let mut device = DeviceState::new(at(0));
        play(&mut device, &[report(PING, 2, Online)]);
        lose_agent(&mut device);
        let changes = play(&mut device, &[report(PING, 2, Offline), report(PING, 2, Offline)]);
        assert_eq!((changes.len(), changes[0].current, changes[0].alert), (1, Offline, true));
    }

    #[test]
    fn a_standing_fault_of_one_check_is_no_news_when_its_agent_returns() {
        let mut device = DeviceState::new(at(0));
        play(&mut device, &[report(PING, 1, Online), report(HTTP, 1, Offline)]);
        lose_agent(&mut device);
        assert_eq!((device.check_status(PING), device.check_status(HTTP)), (Unknown, Unknown));
        let changes = play(&mut device, &[report(PING, 1, Online), report(HTTP, 1, Offline)]);
        assert_eq!((changes.len(), changes[0].current, changes[0].alert), (1, Offline, false));
        let changes = play(&mut device, &[report(HTTP, 1, Online)]);
        assert_eq!((changes[0].current, changes[0].alert), (Online, true));
    }

    #[test]
    fn settings_do_not_bring_a_device_back_from_its_agents_absence() {
        let mut device = DeviceState::new(at(0));
        play(&mut device, &[report(PING, 1, Online), report(HTTP, 1, Offline)]);
        let change = device.decide_checks_kept(|key| key == PING, at(1));
        assert!(matches!(change, Some(Event::Changed(change)) if change.current == Online));
        lose_agent(&mut device);
        assert_eq!(device.decide_checks_kept(|key| key == PING, at(3)), None);
    }

    fn status() -> impl Strategy<Value = DeviceStatus> {
        prop::sample::select(DeviceStatus::ALL)
    }

    proptest! {
        /// D1 to D4 hold after any script.
        #[test]
        fn the_invariants_hold_after_any_script(
            threshold in 1_u32..5,
            steps in prop::collection::vec(prop::option::of((prop::bool::ANY, status())), 0..80),
        ) {
            let mut device = DeviceState::new(at(0));
            let counted = |event: &Event| matches!(event, Event::Counted { .. });
            let mut away = false;
            for step in steps {
                let before = device.clone();
                let events = match step {
                    Some((ping, status)) => {
                        device.decide_report(&report(if ping { PING } else { HTTP }, threshold, status))
                    }
                    None => device.decide_agent_lost(at(2)).into_iter().collect(),
                };
                for event in &events {
                    device.apply(event);
                    if let Event::Changed(change) = event {
                        prop_assert_ne!(change.previous, change.current);
                        prop_assert_eq!(change.previous, before.status);
                        if change.alert {
                            prop_assert!(before.known.is_some());
                            prop_assert_ne!(before.known, device.known);
                        }
                    }
                }
                away = if step.is_none() { true } else { away && events.iter().all(counted) };
                let of_checks = worst(device.checks.iter().map(|check| check.status));
                prop_assert_eq!(device.status, if away { Unknown } else { of_checks });
                if device.status != Unknown {
                    prop_assert_eq!(device.known, Some(device.status));
                }
                prop_assert!(device.checks.iter().all(|check| check.failures < threshold));
            }
        }
    }
}
