//! The bus and the coordination over Redis.
//!
//! Every key and channel bears the tag `{pulse}`, so that they share one slot of a Redis Cluster. Each operation is
//! one script, and time is Redis' own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, Script};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{Bus, Coordination, CoordinationError, Inbox, Member, NodeId, Shard};

/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Messages that wait for Redis, and those that wait for this process.
const QUEUE: usize = 65_536;
/// Bytes that wait for Redis.
const QUEUE_BYTES: usize = 64 << 20;
/// Messages sent with one write.
const PIPELINE: usize = 512;

const MEMBERS: &str = "{pulse}:members";
const LEASES: &str = "{pulse}:leases";

/// Lua's words for "milliseconds now".
const NOW: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) ";

const ANNOUNCE: &str = "
redis.call('HSET', KEYS[1], ARGV[1], (now + ARGV[3]) .. '|' .. ARGV[2])
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends, member = string.match(all[i + 1], '^(%d+)|(.*)$')
  if tonumber(ends) > now then out[#out + 1] = member else redis.call('HDEL', KEYS[1], all[i]) end
end
return out";

const LEAVE: &str = "
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.find(held, ARGV[2], 1, true) then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0";

const HOLD: &str = "
local out = {}
for i = 3, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local ends, node = nil, nil
  if held then ends, node = string.match(held, '^(%d+)|(.*)$') end
  if not held or node == ARGV[1] or tonumber(ends) <= now then
    redis.call('HSET', KEYS[1], ARGV[i], (now + ARGV[2]) .. '|' .. ARGV[1])
    out[#out + 1] = tonumber(ARGV[i])
  end
end
return out";

const RELEASE: &str = "
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held and string.match(held, '^%d+|(.*)$') == ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0";

const HOLDERS: &str = "
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends, node = string.match(all[i + 1], '^(%d+)|(.*)$')
  if tonumber(ends) > now then
    out[#out + 1] = all[i]
    out[#out + 1] = node
  end
end
return out";

struct Scripts {
    announce: Script,
    leave: Script,
    hold: Script,
    release: Script,
    holders: Script,
}

/// One Redis; clones share its connections.
#[derive(Clone)]
pub struct RedisCluster {
    client: Client,
    manager: ConnectionManager,
    scripts: Arc<Scripts>,
    outbox: mpsc::Sender<(String, Bytes)>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl From<RedisError> for CoordinationError {
    fn from(error: RedisError) -> Self {
        Self(Box::new(error))
    }
}

fn channel(node: &NodeId) -> String {
    format!("{{pulse}}:to:{node}")
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

impl RedisCluster {
    /// Connects; what is lost later comes back by itself.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is none, or Redis does not answer now.
    pub async fn connect(url: &str) -> Result<Self, CoordinationError> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_number_of_retries(1);
        let manager = client.get_connection_manager_with_config(config).await?;
        let script = |code: &str| Script::new(&format!("{NOW}{code}"));
        let scripts = Scripts {
            announce: script(ANNOUNCE),
            leave: script(LEAVE),
            hold: script(HOLD),
            release: script(RELEASE),
            holders: script(HOLDERS),
        };
        let (outbox, queue) = mpsc::channel(QUEUE);
        let (waiting, lost) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let writer = Writer {
            manager: manager.clone(),
            queue,
            waiting: Arc::clone(&waiting),
            lost: Arc::clone(&lost),
        };
        tokio::spawn(writer.run());
        Ok(Self { client, manager, scripts: Arc::new(scripts), outbox, waiting, lost })
    }

    /// Messages that this process could not hand to Redis.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Coordination for RedisCluster {
    async fn announce(&self, me: &Member, ttl: Duration) -> Result<Vec<Member>, CoordinationError> {
        let json = serde_json::to_string(me).map_err(|error| CoordinationError(Box::new(error)))?;
        let mut script = self.scripts.announce.key(MEMBERS);
        script.arg(&me.node.0).arg(json).arg(millis(ttl));
        let all: Vec<String> = script.invoke_async(&mut self.manager.clone()).await?;
        let read = |json: &String| serde_json::from_str::<Member>(json);
        let members: Result<Vec<Member>, _> = all.iter().map(read).collect();
        let mut members = members.map_err(|error| CoordinationError(Box::new(error)))?;
        members.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(members)
    }

    async fn leave(&self, me: &Member) -> Result<(), CoordinationError> {
        let mut script = self.scripts.leave.key(MEMBERS);
        script.arg(&me.node.0).arg(me.incarnation.to_string());
        let _: u64 = script.invoke_async(&mut self.manager.clone()).await?;
        Ok(())
    }

    async fn hold(
        &self,
        node: &NodeId,
        wanted: &[Shard],
        ttl: Duration,
    ) -> Result<Vec<Shard>, CoordinationError> {
        let mut script = self.scripts.hold.key(LEASES);
        script.arg(&node.0).arg(millis(ttl));
        for shard in wanted {
            script.arg(shard.number());
        }
        let held: Vec<u16> = script.invoke_async(&mut self.manager.clone()).await?;
        Ok(held.into_iter().filter_map(Shard::numbered).collect())
    }

    async fn release(&self, node: &NodeId, shards: &[Shard]) -> Result<(), CoordinationError> {
        let mut script = self.scripts.release.key(LEASES);
        script.arg(&node.0);
        for shard in shards {
            script.arg(shard.number());
        }
        let _: u64 = script.invoke_async(&mut self.manager.clone()).await?;
        Ok(())
    }

    async fn holders(&self) -> Result<BTreeMap<Shard, NodeId>, CoordinationError> {
        let script = self.scripts.holders.key(LEASES);
        let held: Vec<(u16, String)> = script.invoke_async(&mut self.manager.clone()).await?;
        let held = held.into_iter();
        Ok(held.filter_map(|(shard, node)| Some((Shard::numbered(shard)?, NodeId(node)))).collect())
    }
}

#[async_trait]
impl Bus for RedisCluster {
    fn send(&self, to: &NodeId, message: Bytes) {
        let size = message.len();
        let fits = self.waiting.fetch_add(size, Ordering::AcqRel) + size <= QUEUE_BYTES;
        if !fits || self.outbox.try_send((channel(to), message)).is_err() {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn listen(&self, me: &NodeId) -> Result<Inbox, CoordinationError> {
        let (inbox, messages) = mpsc::channel(QUEUE);
        let (subscribed, is_subscribed) = oneshot::channel();
        let listener = Listener {
            client: self.client.clone(),
            channel: channel(me),
            inbox,
            first: Some(subscribed),
        };
        tokio::spawn(listener.run());
        let never = || RedisError::from((ErrorKind::Io, "no subscription in time"));
        match tokio::time::timeout(ANSWER_WITHIN * 3, is_subscribed).await {
            Ok(Ok(())) => Ok(messages),
            _ => Err(never().into()),
        }
    }
}

/// Hands messages to Redis, all that wait with one write.
struct Writer {
    manager: ConnectionManager,
    queue: mpsc::Receiver<(String, Bytes)>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(PIPELINE);
        while self.queue.recv_many(&mut batch, PIPELINE).await > 0 {
            let mut pipeline = redis::pipe();
            let (count, mut size) = (batch.len() as u64, 0);
            for (channel, message) in batch.drain(..) {
                size += message.len();
                pipeline.cmd("PUBLISH").arg(channel).arg(&message[..]).ignore();
            }
            if let Err(error) = pipeline.query_async::<()>(&mut self.manager).await {
                debug!(%error, count, "messages to other nodes were lost");
                self.lost.fetch_add(count, Ordering::Relaxed);
            }
            self.waiting.fetch_sub(size, Ordering::AcqRel);
        }
    }
}

/// Hears what is sent to one node, again and again.
struct Listener {
    client: Client,
    channel: String,
    inbox: mpsc::Sender<Bytes>,
    first: Option<oneshot::Sender<()>>,
}

impl Listener {
    async fn run(mut self) {
        let policy = backoff::ExponentialBackoff {
            initial_interval: Duration::from_millis(50),
            max_interval: Duration::from_secs(1),
            max_elapsed_time: None,
            ..backoff::ExponentialBackoff::default()
        };
        while !self.inbox.is_closed() {
            let client = &self.client;
            let channel = &self.channel;
            let inbox = &self.inbox;
            let subscribe = || async move {
                if inbox.is_closed() {
                    return Ok(None);
                }
                let subscribing = async {
                    let mut heard = client.get_async_pubsub().await?;
                    heard.subscribe(channel).await?;
                    Ok::<_, RedisError>(heard)
                };
                match tokio::time::timeout(ANSWER_WITHIN, subscribing).await {
                    Ok(Ok(heard)) => Ok(Some(heard)),
                    Ok(Err(error)) => Err(backoff::Error::transient(error.to_string())),
                    Err(elapsed) => Err(backoff::Error::transient(elapsed.to_string())),
                }
            };
            let Ok(Some(heard)) = backoff::future::retry(policy.clone(), subscribe).await else {
                return;
            };
            if let Some(first) = self.first.take() {
                // Whoever waited may have given up.
                let _ = first.send(());
            }
            let mut messages = heard.into_on_message();
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = self.inbox.closed() => return,
                };
                let Some(message) = message else { break };
                // What does not fit is lost; the numbers of its line tell.
                if self.inbox.try_send(Bytes::copy_from_slice(message.get_payload_bytes())).is_err()
                {
                    warn!("messages from other nodes wait too long; one was lost");
                }
            }
            warn!(channel = %self.channel, "the subscription to the bus ended; subscribing again");
        }
    }
}
