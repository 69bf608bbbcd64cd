//! How soon silence is believed.

use std::time::Duration;

use super::keys;
use super::source::Check;

/// Bounds of interval, timeout and grace, as for an org's own.
const MS_MIN: u64 = 1_000;
const MS_MAX: u64 = 300_000;

/// Heartbeats and grace, for orgs that set none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// Agents send a frame at least this often.
    pub(crate) heartbeat_interval: Duration,
    /// Silence of this length ends a connection; at least twice the interval.
    pub(crate) heartbeat_timeout: Duration,
    /// An agent that is back within this is not announced offline.
    pub(crate) offline_grace: Duration,
}

impl Liveness {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let interval = check.number(keys::HEARTBEAT_INTERVAL_MS, MS_MIN, MS_MAX);
        let timeout = check.number(keys::HEARTBEAT_TIMEOUT_MS, MS_MIN, MS_MAX);
        let grace = check.number(keys::OFFLINE_GRACE_MS, MS_MIN, MS_MAX);
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout < 2 * interval
        {
            let least = 2 * interval;
            let problem = format!("{timeout} is less than twice the interval: at least {least}");
            check.fault(keys::HEARTBEAT_TIMEOUT_MS, problem);
        }
        Some(Self {
            heartbeat_interval: Duration::from_millis(interval?),
            heartbeat_timeout: Duration::from_millis(timeout?),
            offline_grace: Duration::from_millis(grace?),
        })
    }
}
