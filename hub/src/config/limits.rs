//! What one agent, one address and the node may use. Each can be lifted with 0.

use std::num::NonZeroU32;

use super::Key;
use super::keys;
use super::source::Check;

/// Limits; none where a field is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Agent handshakes a second from one address before 429.
    pub(crate) handshakes_per_address: Option<NonZeroU32>,
    /// Agent handshakes a second on this node before 429.
    pub(crate) handshakes_per_node: Option<NonZeroU32>,
    /// Frames a second of one agent before 4029.
    pub(crate) frames: Option<FrameRate>,
    /// State frames of one agent that are not yet acked before its socket is not read.
    pub(crate) unacked_frames: Option<NonZeroU32>,
}

/// A rate with room for bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRate {
    /// What is allowed for ever.
    pub(crate) per_second: NonZeroU32,
    /// What is allowed at once.
    pub(crate) burst: NonZeroU32,
}

impl Limits {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let handshakes_per_address = limit(check, keys::LIMIT_HANDSHAKES_PER_ADDRESS);
        let handshakes_per_node = limit(check, keys::LIMIT_HANDSHAKES_PER_NODE);
        let per_second = limit(check, keys::LIMIT_FRAMES_PER_SECOND);
        let burst = limit(check, keys::LIMIT_FRAMES_BURST);
        let unacked_frames = limit(check, keys::LIMIT_UNACKED_FRAMES);
        if matches!((per_second, burst), (Some(Some(_)), Some(None))) {
            let problem = "must be at least 1 while PULSE_LIMIT_FRAMES_PER_SECOND is a limit";
            check.fault(keys::LIMIT_FRAMES_BURST, problem);
        }
        let frames = per_second?.zip(burst?);
        Some(Self {
            handshakes_per_address: handshakes_per_address?,
            handshakes_per_node: handshakes_per_node?,
            frames: frames.map(|(per_second, burst)| FrameRate { per_second, burst }),
            unacked_frames: unacked_frames?,
        })
    }
}

/// The outer option says whether the value is good, the inner whether there is a limit.
fn limit(check: &mut Check, key: &Key) -> Option<Option<NonZeroU32>> {
    let number = check.number(key, 0, u64::from(u32::MAX))?;
    Some(u32::try_from(number).ok().and_then(NonZeroU32::new))
}
