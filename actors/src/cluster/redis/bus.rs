//! Messages over Redis' publish and subscribe: one channel for each node.
//!
//! Redis keeps no message for whom is not subscribed, and parts with a subscriber that is some 32 MB behind; what is
//! received is therefore moved into the inbox at once, and lost where that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backoff::ExponentialBackoff;
use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Pipeline, RedisResult};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::address::Address;
use super::{Connection, Lost, RedisCluster, in_time};
use crate::cluster::{Bus, CoordinationError, Inbox, NodeId};

/// Messages that wait in one inbox, and as many to be sent.
const WAITING: usize = 65_536;
/// Bytes that wait to be sent.
const WAITING_BYTES: usize = 64 << 20;
/// The largest message, in bytes.
const LARGEST: usize = 8 << 20;
/// Messages that are published together.
const TOGETHER: usize = 512;
/// No message joins a publication of this many bytes: it has to be done within the time of one command.
const TOGETHER_BYTES: usize = 1 << 20;
/// How often a subscription on which nothing is heard is tested: of a peer that vanished TCP says nothing.
const TEST_EVERY: Duration = Duration::from_secs(1);
/// The first wait before subscribing again, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

#[async_trait]
impl Bus for RedisCluster {
    fn send(&self, to: &NodeId, message: Bytes) {
        self.0.outbox.put(self.channel(to), message);
    }

    async fn listen(&self, me: &NodeId) -> Result<Inbox, CoordinationError> {
        let (sender, inbox) = mpsc::channel(WAITING);
        let listener = Listener {
            address: Arc::clone(&self.0.address),
            channel: self.channel(me),
            inbox: sender,
            lost: Arc::clone(&self.0.lost),
        };
        let subscription = listener.subscribe().await?;
        tokio::spawn(listener.run(subscription));
        Ok(inbox)
    }
}

impl RedisCluster {
    fn channel(&self, node: &NodeId) -> String {
        format!("{}to:{node}", self.0.prefix)
    }
}

/// What waits to be published, bounded in messages and in bytes.
pub(super) struct Outbox {
    queue: mpsc::Sender<(String, Bytes)>,
    bytes: Arc<AtomicUsize>,
    lost: Arc<Lost>,
}

impl Outbox {
    /// Starts the task that publishes; it ends when this is dropped.
    pub(super) fn new(connection: Connection, lost: Arc<Lost>) -> Self {
        let (queue, messages) = mpsc::channel(WAITING);
        let bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(publish(connection, messages, Arc::clone(&bytes), Arc::clone(&lost)));
        Self { queue, bytes, lost }
    }

    fn put(&self, channel: String, message: Bytes) {
        let size = message.len();
        if size > LARGEST {
            warn!(channel, size, "a message is too large for the bus");
            return self.lost.add(1);
        }
        let fits = self.bytes.fetch_add(size, Ordering::Relaxed) + size <= WAITING_BYTES;
        if !fits || self.queue.try_send((channel, message)).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            debug!("the bus has no room for a message");
            self.lost.add(1);
        }
    }
}

/// Publishes what waits, as much as there is at once.
async fn publish(
    connection: Connection,
    mut messages: mpsc::Receiver<(String, Bytes)>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<Lost>,
) {
    while let Some((channel, message)) = messages.recv().await {
        let (mut count, mut bytes) = (1, message.len());
        let mut pipeline = Pipeline::new();
        add(&mut pipeline, &channel, &message);
        while count < TOGETHER && bytes < TOGETHER_BYTES {
            let Ok((channel, message)) = messages.try_recv() else { break };
            add(&mut pipeline, &channel, &message);
            count += 1;
            bytes += message.len();
        }
        if let Err(error) = in_time(pipeline.query_async::<()>(&mut connection.get())).await {
            debug!(%error, cause = %error.0, count, "messages to other nodes are lost");
            lost.add(count);
            connection.failed().await;
        }
        waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn add(pipeline: &mut Pipeline, channel: &str, message: &Bytes) {
    pipeline.cmd("PUBLISH").arg(channel).arg(&message[..]).ignore();
}

type Subscription = (PubSubSink, PubSubStream);

/// Fills one inbox, through as many subscriptions as it takes.
struct Listener {
    address: Arc<Address>,
    channel: String,
    inbox: mpsc::Sender<Bytes>,
    lost: Arc<Lost>,
}

impl Listener {
    async fn subscribe(&self) -> Result<Subscription, CoordinationError> {
        let subscribe = async {
            let (mut sink, stream) = self.address.server().await?.get_async_pubsub().await?.split();
            sink.subscribe(&self.channel).await?;
            RedisResult::Ok((sink, stream))
        };
        in_time(subscribe).await
    }

    /// Goes on until the inbox is dropped.
    async fn run(self, first: Subscription) {
        let mut subscription = first;
        loop {
            tokio::select! {
                () = self.inbox.closed() => return,
                () = self.hear(subscription) => {}
            }
            warn!(channel = self.channel, "lost the subscription to messages of other nodes");
            tokio::select! {
                () = self.inbox.closed() => return,
                again = self.subscribe_again() => match again {
                    Ok(again) => subscription = again,
                    // The policy gives up on nothing: only a fault of its own ends here.
                    Err(error) => return warn!(%error, "messages of other nodes are not heard any more"),
                },
            }
            info!(channel = self.channel, "subscribed again to messages of other nodes");
        }
    }

    /// Moves messages until the subscription breaks.
    async fn hear(&self, (mut sink, mut stream): Subscription) {
        let mut tests = interval(TEST_EVERY);
        tests.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = true;
        loop {
            tokio::select! {
                // Messages first: while they come there is nothing to test.
                biased;
                message = stream.next() => {
                    let Some(message) = message else { return };
                    heard = true;
                    self.put(Bytes::copy_from_slice(message.get_payload_bytes()));
                }
                _ = tests.tick() => {
                    let lives = async { sink.ping::<redis::Value>().await.is_ok() };
                    if !heard && !timeout(super::CALL, lives).await.unwrap_or(false) {
                        return;
                    }
                    heard = false;
                }
            }
        }
    }

    fn put(&self, message: Bytes) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(message) {
            debug!(channel = self.channel, "the inbox has no room for a message");
            self.lost.add(1);
        }
    }

    /// Tries until it succeeds.
    async fn subscribe_again(&self) -> Result<Subscription, CoordinationError> {
        let policy = ExponentialBackoff {
            initial_interval: RETRY_FIRST,
            current_interval: RETRY_FIRST,
            max_interval: RETRY_LAST,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let attempt = || async {
            self.subscribe().await.map_err(|error| {
                debug!(cause = %error.0, "cannot subscribe yet");
                backoff::Error::transient(error)
            })
        };
        backoff::future::retry(policy, attempt).await
    }
}
