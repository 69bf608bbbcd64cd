//! Ports in memory and sessions that record, for tests: nothing here waits for anything but the test.

mod edge;
mod journal;
mod mail;
mod sender;
mod store;
mod world;

use pulse_protocol::Timestamp;
use tokio::time::Instant;

pub use edge::{RecordingAgent, RecordingViewer};
pub use journal::FakeJournal;
pub use mail::{MemoryCause, MemoryMails, ScriptedMailSender};
pub use sender::ScriptedSender;
pub use store::MemoryStore;
pub use world::{Fleet, World, eventually, hello, report, settle};

use crate::ports::Clock;

/// The instant at which a [`ManualClock`] starts.
pub const NOON: Timestamp = Timestamp::from_unix_ms(1_772_366_400_000);

/// A wall clock that goes with the runtime's timers, so that moving tokio's paused time moves both.
#[derive(Clone, Copy, Debug)]
pub struct ManualClock {
    started_at: Instant,
}

impl ManualClock {
    /// A clock that shows [`NOON`] now.
    #[must_use]
    pub fn new() -> Self {
        Self { started_at: Instant::now() }
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        NOON + self.started_at.elapsed()
    }
}
