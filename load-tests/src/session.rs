//! What is kept of a connection while it lives and afterwards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One connection of an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// The node it was to.
    pub(crate) address: SocketAddr,
    pub(crate) welcomed_at: Instant,
    pub(crate) ended_at: Instant,
}

/// When the newest change was due that its agent saw acked, or that a viewer saw: microseconds of the run.
#[derive(Debug, Default)]
pub(crate) struct Freshness(AtomicU64);

impl Freshness {
    pub(crate) fn renew(&self, due_us: u64) {
        self.0.fetch_max(due_us, Ordering::Relaxed);
    }

    /// Whether a change that was due then or later is among them.
    pub(crate) fn is_after(&self, us: u64) -> bool {
        self.0.load(Ordering::Relaxed) >= us
    }
}
