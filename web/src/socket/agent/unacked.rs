//! What an agent sent and its home has not acked: kept, so that a home that moves costs no reconnect.

use std::collections::VecDeque;

use pulse_domain::org::Input;
use pulse_domain::presence::ConnectionId;
use pulse_protocol::agent::{AgentFrame, FrameError};
use pulse_protocol::ids::AgentId;

/// Bytes of frames that are kept for one socket. One whose agent has more in flight when its home is lost is closed,
/// and the agent sends the frames again itself.
const BYTES_MAX: usize = 256 * 1024;

/// State frames as they came, in order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    frames: VecDeque<(u64, Box<str>)>,
    bytes: usize,
    /// The last number that was not kept.
    dropped: u64,
}

impl Unacked {
    /// Keeps a frame, or all that are kept are too many to.
    pub(super) fn keep(&mut self, seq: u64, text: &str) {
        if self.bytes + text.len() > BYTES_MAX {
            self.dropped = self.dropped.max(seq);
            self.frames.clear();
            self.bytes = 0;
            return;
        }
        self.bytes += text.len();
        self.frames.push_back((seq, text.into()));
    }

    /// Forgets what is durable.
    pub(super) fn acked(&mut self, acked: u64) {
        while self.frames.front().is_some_and(|(seq, _)| *seq <= acked) {
            let frame = self.frames.pop_front();
            self.bytes -= frame.map_or(0, |(_, text)| text.len());
        }
    }

    /// Every frame after `seq`; none if some were not kept.
    pub(super) fn after(&self, seq: u64) -> Option<impl Iterator<Item = (u64, &str)>> {
        let later = self.frames.iter().filter(move |(number, _)| *number > seq);
        (self.dropped <= seq).then_some(later.map(|(number, text)| (*number, &**text)))
    }
}

/// A numbered frame as the home takes it; none for what has no number.
pub(super) fn input(agent_id: AgentId, connection: ConnectionId, text: &str) -> Option<Input> {
    match AgentFrame::parse(text) {
        Ok(frame) => frame.seq().map(|_| Input::Frame { agent_id, connection, frame }),
        Err(FrameError::Rejected { seq, reason }) => {
            Some(Input::Unreadable { agent_id, connection, seq, reason })
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(unacked: &Unacked, seq: u64) -> Option<Vec<u64>> {
        unacked.after(seq).map(|frames| frames.map(|(seq, _)| seq).collect())
    }

    #[test]
    fn what_is_acked_is_forgotten_and_the_rest_kept_in_order() {
        let mut unacked = Unacked::default();
        (1..=5).for_each(|seq| unacked.keep(seq, "frame"));
        unacked.acked(2);
        assert_eq!(after(&unacked, 0), Some(vec![3, 4, 5]));
        assert_eq!(after(&unacked, 4), Some(vec![5]));
        unacked.acked(9);
        assert_eq!(after(&unacked, 0), Some(vec![]));
        assert_eq!(unacked.bytes, 0);
    }

    #[test]
    fn too_much_is_not_kept_and_said_to_be_missing_until_it_is_acked() {
        let mut unacked = Unacked::default();
        let large = "x".repeat(BYTES_MAX / 2);
        (1..=3).for_each(|seq| unacked.keep(seq, &large));
        unacked.keep(4, "small");
        assert_eq!(after(&unacked, 2), None);
        assert_eq!(after(&unacked, 3), Some(vec![4]));
    }
}
