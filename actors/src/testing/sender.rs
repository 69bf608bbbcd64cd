//! A sender that answers as it is told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pulse_domain::record::ChannelRecord;
use pulse_protocol::ids::{ChannelId, DeliveryId};
use tokio::time::Instant;

use crate::ports::{Message, Sender, Verdict};

/// Answers the verdicts it was given, then `200`, and notes what it was asked to send.
#[derive(Default)]
pub struct ScriptedSender {
    verdicts: Mutex<VecDeque<Verdict>>,
    receivers: Mutex<HashMap<ChannelId, Receiver>>,
    hanging: Mutex<HashSet<ChannelId>>,
    sent: Mutex<Vec<(ChannelId, DeliveryId, String)>>,
}

/// One channel's receiver.
#[derive(Default)]
struct Receiver {
    answers: Option<Verdict>,
    takes: Duration,
    starts: Vec<Instant>,
    under_way: usize,
    most: usize,
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

    /// Every message to this channel is answered with this from now on; as if nothing was said with none.
    pub fn always_answers(&self, channel_id: ChannelId, verdict: Option<Verdict>) {
        self.receivers.lock().entry(channel_id).or_default().answers = verdict;
    }

    /// Every message to this channel takes this long from now on.
    pub fn takes(&self, channel_id: ChannelId, time: Duration) {
        self.receivers.lock().entry(channel_id).or_default().takes = time;
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

    /// When each message to this channel was begun.
    #[must_use]
    pub fn starts(&self, channel_id: ChannelId) -> Vec<Instant> {
        self.receivers.lock().get(&channel_id).map(|it| it.starts.clone()).unwrap_or_default()
    }

    /// How many messages to this channel were under way at once, at most.
    #[must_use]
    pub fn most_at_once(&self, channel_id: ChannelId) -> usize {
        self.receivers.lock().get(&channel_id).map_or(0, |it| it.most)
    }

    fn begin(&self, channel_id: ChannelId) -> (Duration, Option<Verdict>) {
        let mut receivers = self.receivers.lock();
        let receiver = receivers.entry(channel_id).or_default();
        receiver.starts.push(Instant::now());
        receiver.under_way += 1;
        receiver.most = receiver.most.max(receiver.under_way);
        (receiver.takes, receiver.answers.clone())
    }

    fn end(&self, channel_id: ChannelId) {
        self.receivers.lock().entry(channel_id).or_default().under_way -= 1;
    }
}

#[async_trait]
impl Sender for ScriptedSender {
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        let sent = (channel.id, message.delivery_id, message.event.name.to_string());
        self.sent.lock().push(sent);
        let (takes, answers) = self.begin(channel.id);
        if self.hanging.lock().contains(&channel.id) {
            std::future::pending::<()>().await;
        }
        if takes > Duration::ZERO {
            tokio::time::sleep(takes).await;
        }
        // Not at once, as a socket would not either.
        tokio::task::yield_now().await;
        self.end(channel.id);
        let scripted = self.verdicts.lock().pop_front();
        scripted.or(answers).unwrap_or(Verdict::accepted(Some(200)))
    }
}
