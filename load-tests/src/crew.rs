//! What all agents of a run share: what they are to do, where they come in, and what they count together.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use backoff::ExponentialBackoff;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::checker::Fault;
use crate::entrance::Entrance;
use crate::stats::Latencies;
use crate::wire::Clock;

/// What all agents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Heartbeats only; the window drains.
    Idle,
    /// A closed loop: the window is kept full.
    Closed,
    /// An open loop: one report frame each interval, late or not.
    Paced(Duration),
    /// Leave.
    Stop,
}

/// What all agents of a run share.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) clock: Clock,
    pub(crate) mode: watch::Receiver<Mode>,
    pub(crate) reports_per_frame: usize,
    /// Longest wait between two attempts to reconnect; the protocol says 60 s.
    pub(crate) backoff_max: Duration,
    /// First connections under way at once. Reconnects are bounded by their back-off alone.
    pub(crate) doors: Semaphore,
    pub(crate) tally: Tally,
}

/// What all agents count together.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) online: watch::Sender<usize>,
    pub(crate) acked_changes: AtomicU64,
    pub(crate) unacked_frames: AtomicI64,
    pub(crate) lost_connections: AtomicU64,
    pub(crate) failed_attempts: AtomicU64,
    /// From the moment a frame was due to its ack.
    pub(crate) ack_latency: Mutex<Latencies>,
    /// From the moment a frame was due to the moment it was sent: the generator's own lag.
    pub(crate) lag: Mutex<Latencies>,
    faults: Mutex<Vec<Fault>>,
}

/// Faults beyond these tell nothing new.
const FAULTS_MAX: usize = 100;

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            online: watch::Sender::new(0),
            acked_changes: AtomicU64::new(0),
            unacked_frames: AtomicI64::new(0),
            lost_connections: AtomicU64::new(0),
            failed_attempts: AtomicU64::new(0),
            ack_latency: Mutex::new(Latencies::new()),
            lag: Mutex::new(Latencies::new()),
            faults: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn fault(&self, fault: Fault) {
        let mut faults = self.faults.lock();
        if faults.len() < FAULTS_MAX {
            faults.push(fault);
        }
    }

    pub(crate) fn first_fault(&self) -> Option<Fault> {
        self.faults.lock().first().cloned()
    }

    pub(crate) fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut *self.faults.lock())
    }

    /// Starts the two distributions anew and returns what was in them: to the ack, and the generator's lag.
    pub(crate) fn take_latencies(&self) -> (Latencies, Latencies) {
        let fresh = Latencies::new;
        let ack = std::mem::replace(&mut *self.ack_latency.lock(), fresh());
        (ack, std::mem::replace(&mut *self.lag.lock(), fresh()))
    }
}

/// Full jitter, as the protocol wants it of agents: a wait between zero and 0.5 s, then 1 s, 2 s, … up to `max`.
pub(crate) fn full_jitter(max: Duration) -> ExponentialBackoff {
    ExponentialBackoff {
        // The library draws between (1 - factor) and (1 + factor) times its interval.
        current_interval: Duration::from_millis(250),
        initial_interval: Duration::from_millis(250),
        randomization_factor: 1.0,
        multiplier: 2.0,
        max_interval: max / 2,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

#[cfg(test)]
mod tests {
    use backoff::backoff::Backoff as _;

    use super::*;

    #[test]
    fn the_wait_grows_with_full_jitter_up_to_its_bound() {
        let mut backoff = full_jitter(Duration::from_secs(2));
        let waits: Vec<_> = (0..1_000).filter_map(|_| backoff.next_backoff()).collect();
        assert!(waits[0] <= Duration::from_millis(500));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(2)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(1_500)));
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(200)));
    }
}
