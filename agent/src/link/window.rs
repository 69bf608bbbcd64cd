//! What may be sent when: the window of unacked frames, and the pace.
//!
//! - **W1** At most [`WINDOW`] frames are sent and not acked.
//! - **W2** Frames go out in order, each once on a connection.
//! - **W3** No more than [`FRAMES_BURST`] frames at once and [`FRAMES_PER_SECOND`] in the long run, which is
//!   under what the hub allows by default (200 a second, a burst of 1,000), so that a full spool drains.

use std::time::Duration;

use tokio::time::Instant;

/// Most frames in flight.
pub const WINDOW: u64 = 256;
/// The pace in the long run.
pub(super) const FRAMES_PER_SECOND: u32 = 150;
/// Frames that may go out at once after a pause.
pub(super) const FRAMES_BURST: u32 = 400;

/// What of the spool was sent and acked on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    acked: u64,
    sent: u64,
}

impl Window {
    /// A connection on which everything up to `acked` is done.
    #[must_use]
    pub const fn new(acked: u64) -> Self {
        Self { acked, sent: acked }
    }

    /// The last frame sent.
    #[must_use]
    pub const fn sent(self) -> u64 {
        self.sent
    }

    /// Whether every frame up to `last` was acked.
    #[must_use]
    pub const fn is_done(self, last: u64) -> bool {
        self.acked >= last
    }

    /// How many of the frames up to `last` may be sent now.
    #[must_use]
    pub fn room(self, last: u64) -> u64 {
        let in_flight = self.sent - self.acked;
        last.saturating_sub(self.sent).min(WINDOW.saturating_sub(in_flight))
    }

    /// Frame `seq` goes out; false if it is not the next one.
    #[must_use]
    pub fn send(&mut self, seq: u64) -> bool {
        let is_next = seq == self.sent + 1;
        if is_next {
            self.sent = seq;
        }
        is_next
    }

    /// The hub acked everything up to `seq`; gives what is newly acked. An ack of what was not sent counts as
    /// one of all that was.
    pub fn ack(&mut self, seq: u64) -> Option<u64> {
        let acked = seq.min(self.sent);
        (acked > self.acked).then(|| {
            self.acked = acked;
            acked
        })
    }
}

/// A token bucket over frames.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the bucket would be full.
    full_at: Instant,
}

impl Pace {
    /// A full bucket.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one frame out; may only be called when [`Pace::room`] is not zero.
    pub fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + PER_FRAME;
    }

    /// How many frames may go out at `now`.
    #[must_use]
    pub fn room(&self, now: Instant) -> u64 {
        let owed =
            self.full_at.saturating_duration_since(now).as_nanos().div_ceil(PER_FRAME.as_nanos());
        u64::from(FRAMES_BURST).saturating_sub(u64::try_from(owed).unwrap_or(u64::MAX))
    }

    /// When a quarter of the burst may go out again, so that a long spool goes in batches and not frame by frame.
    #[must_use]
    pub fn refilled_at(&self) -> Instant {
        self.full_at.checked_sub(PER_FRAME * (FRAMES_BURST * 3 / 4)).unwrap_or(self.full_at)
    }
}

const PER_FRAME: Duration = Duration::from_nanos(1_000_000_000 / FRAMES_PER_SECOND as u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_more_than_the_window_is_in_flight() {
        let mut window = Window::new(10);
        for seq in 11..=10 + WINDOW {
            assert!(window.room(10_000) > 0 && window.send(seq));
        }
        assert_eq!(window.room(10_000), 0);
        assert_eq!(window.ack(12), Some(12));
        assert_eq!(window.room(10_000), 2);
        assert_eq!(window.ack(12), None);
    }

    #[test]
    fn a_frame_out_of_turn_is_noticed() {
        let mut window = Window::new(3);
        assert!(!window.send(5) && !window.send(3) && window.send(4));
    }

    #[test]
    fn the_pace_allows_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut sent = 0;
        for step in 0..100 {
            let now = start + Duration::from_millis(step * 100);
            while pace.room(now) > 0 {
                pace.take(now);
                sent += 1;
            }
        }
        let allowed = FRAMES_BURST + FRAMES_PER_SECOND * 10;
        assert!(sent <= allowed && sent > allowed - 50, "{sent} of {allowed}");
        assert!(pace.room(pace.refilled_at()) >= u64::from(FRAMES_BURST / 4) - 1);
    }

    proptest! {
        #[test]
        fn w1_and_w2_hold_for_any_order_of_sends_and_acks(
            steps in prop::collection::vec((any::<bool>(), 0_u64..600), 1..300),
        ) {
            let mut window = Window::new(0);
            let (mut sent, mut acked) = (0, 0);
            for (is_send, number) in steps {
                if is_send {
                    for _ in 0..window.room(u64::MAX).min(number) {
                        sent += 1;
                        prop_assert!(window.send(sent));
                    }
                } else if let Some(newly) = window.ack(number) {
                    prop_assert!(newly > acked && newly <= sent);
                    acked = newly;
                }
                prop_assert!(sent - acked <= WINDOW);
            }
        }
    }
}
