//! A sender that answers as it is told.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pulse_domain::record::ChannelRecord;
use pulse_protocol::ids::{ChannelId, DeliveryId};

use crate::ports::{Message, Sender, Verdict};

/// Answers the verdicts it was given, then `200`, and notes what it was asked to send.
#[derive(Default)]
pub struct ScriptedSender {
    verdicts: Mutex<VecDeque<Verdict>>,
    hanging: Mutex<HashSet<ChannelId>>,
    sent: Mutex<Vec<(ChannelId, DeliveryId, String)>>,
}

impl ScriptedSender {
    /// A sender whose every message is accepted.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The answer to the next message without one.
    pub fn will_answer(&self, verdict: Verdict) {
        self.verdicts.lock().push_back(verdict);
    }

    /// Messages to this channel are never answered.
    pub fn hang(&self, channel_id: ChannelId) {
        self.hanging.lock().insert(channel_id);
    }

    /// What was sent, in order: channel, delivery, name of the event.
    #[must_use]
    pub fn sent(&self) -> Vec<(ChannelId, DeliveryId, String)> {
        self.sent.lock().clone()
    }
}

#[async_trait]
impl Sender for ScriptedSender {
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        let sent = (channel.id, message.delivery_id, message.event.name.to_string());
        self.sent.lock().push(sent);
        if self.hanging.lock().contains(&channel.id) {
            std::future::pending::<()>().await;
        }
        // Not at once, as a socket would not either.
        tokio::task::yield_now().await;
        self.verdicts.lock().pop_front().unwrap_or(Verdict::accepted(Some(200)))
    }
}
