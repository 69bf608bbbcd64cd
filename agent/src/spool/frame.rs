//! Numbers on frames.

use pulse_protocol::agent::AgentFrame;

/// The frame with `seq` as its number; a frame that takes none stays as it is.
#[must_use]
pub(super) fn numbered(mut frame: AgentFrame, number: u64) -> AgentFrame {
    match &mut frame {
        AgentFrame::Report(frame) => frame.seq = number,
        AgentFrame::ScanStarted(frame) => frame.seq = number,
        AgentFrame::ScanCompleted(frame) => frame.seq = number,
        AgentFrame::Segments(frame) => frame.seq = number,
        AgentFrame::CommandResult(frame) => frame.seq = number,
        AgentFrame::Hello(_)
        | AgentFrame::Heartbeat(_)
        | AgentFrame::ScanProgress(_)
        | AgentFrame::Bye(_) => {}
    }
    frame
}
