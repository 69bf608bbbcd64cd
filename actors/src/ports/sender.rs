//! Carrying one message to one receiver.

use std::time::Duration;

use async_trait::async_trait;
use pulse_domain::record::{ChannelRecord, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::ids::{DeliveryId, OrgId};

/// One message on its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// The org.
    pub org_id: OrgId,
    /// The delivery; the receiver sees it as the message's id.
    pub delivery_id: DeliveryId,
    /// What it is about.
    pub event: JournalEvent,
    /// When this attempt is made.
    pub at: Timestamp,
}

/// What the receiver made of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It accepted the message.
    Accepted {
        /// Its HTTP status.
        status: u16,
    },
    /// It did not, and may later.
    Retry {
        /// Its HTTP status, if it answered.
        status: Option<u16>,
        /// Why, for people; bounded and without secrets.
        error: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It will never accept this message.
    Permanent {
        /// Its HTTP status, if it answered.
        status: Option<u16>,
        /// Why, for people; bounded and without secrets.
        error: String,
    },
    /// It is gone for good (410).
    Gone,
}

/// Carries messages of one kind of channel. Bounded in time by itself.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Makes one attempt.
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict;
}
