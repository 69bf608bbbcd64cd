//! Messages between nodes. One port, under one contract, with two implementations: in the process and over Redis.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{CoordinationError, NodeId};

/// What was sent to one node, in the order the bus delivers it. Bounded: what does not fit is lost.
pub type Inbox = mpsc::Receiver<Bytes>;

/// Carries messages to nodes by name. May lose, double and delay; mostly delivers in order and within milliseconds.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends without waiting. What cannot be queued is lost, and counted as such by the implementation.
    fn send(&self, to: &NodeId, message: Bytes);

    /// Everything that is sent to `me` from when this returns. A bus that was cut off goes on by itself when it can.
    async fn listen(&self, me: &NodeId) -> Result<Inbox, CoordinationError>;
}
