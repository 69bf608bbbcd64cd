//! Members and leases in Redis. Each operation is one script, and so one atomic step by Redis' own clock.
//!
//! ```text
//! {pulse}:members   node  → milliseconds it is alive until | member as JSON
//! {pulse}:leases    shard → milliseconds it is held until | node
//! ```
//!
//! Redis' own expiry is not used: it knows keys, or fields only in its newest versions.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation};

use super::{RedisCluster, in_time, unavailable};
use crate::cluster::{Coordination, CoordinationError, Member, NodeId, Shard, Sighting};

/// What every script begins with: the time, and how a value is split.
const PRELUDE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function until_and(text, after)
  return string.format('%.0f', now + after) .. '|' .. text
end
-- What a field holds; nothing once its time is over, and then it is deleted.
local function read(key, field, value)
  local till, text = string.match(value or '', '^(%d+)|(.*)$')
  if till and tonumber(till) > now then return text end
  if value then redis.call('HDEL', key, field) end
  return nil
end
-- All fields whose time is not over, each followed by what it holds.
local function read_all(key)
  local stored, found = redis.call('HGETALL', key), {}
  for i = 1, #stored, 2 do
    local text = read(key, stored[i], stored[i + 1])
    if text then
      found[#found + 1] = stored[i]
      found[#found + 1] = text
    end
  end
  return found
end
";

/// Incarnations are ids that sort by their time, as text too.
const ANNOUNCE: &str = r"
local text = read(KEYS[1], ARGV[1], redis.call('HGET', KEYS[1], ARGV[1]))
if not (text and cjson.decode(text).incarnation > ARGV[4]) then
  redis.call('HSET', KEYS[1], ARGV[1], until_and(ARGV[2], ARGV[3]))
end
return read_all(KEYS[1])
";

const MEMBERS: &str = r"
local found = {}
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
  local till, text = string.match(value, '^(%d+)|(.*)$')
  if till and tonumber(till) > now then
    found[#found + 1] = text
    found[#found + 1] = tonumber(till) - now
  end
end
return found
";

const LEAVE: &str = r"
local text = read(KEYS[1], ARGV[1], redis.call('HGET', KEYS[1], ARGV[1]))
if text and cjson.decode(text).incarnation == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return true
";

const HOLD: &str = r"
local held = {}
for i = 3, #ARGV do
  local holder = read(KEYS[1], ARGV[i], redis.call('HGET', KEYS[1], ARGV[i]))
  if not holder or holder == ARGV[1] then
    redis.call('HSET', KEYS[1], ARGV[i], until_and(ARGV[1], ARGV[2]))
    held[#held + 1] = ARGV[i]
  end
end
return held
";

const RELEASE: &str = r"
for i = 2, #ARGV do
  local holder = read(KEYS[1], ARGV[i], redis.call('HGET', KEYS[1], ARGV[i]))
  if holder == ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return true
";

const HOLDERS: &str = "return read_all(KEYS[1])";

/// The scripts, hashed once, and the keys they work on.
pub(super) struct Scripts {
    members: String,
    leases: String,
    announce: Script,
    sightings: Script,
    leave: Script,
    hold: Script,
    release: Script,
    holders: Script,
}

impl Scripts {
    pub(super) fn new(prefix: &str) -> Self {
        let script = |body: &str| Script::new(&format!("{PRELUDE}{body}"));
        Self {
            members: format!("{prefix}members"),
            leases: format!("{prefix}leases"),
            announce: script(ANNOUNCE),
            sightings: script(MEMBERS),
            leave: script(LEAVE),
            hold: script(HOLD),
            release: script(RELEASE),
            holders: script(HOLDERS),
        }
    }
}

impl RedisCluster {
    async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CoordinationError> {
        let mut calls = self.0.calls.get();
        let answer = in_time(script.invoke_async(&mut calls)).await;
        if answer.is_err() {
            self.0.calls.failed().await;
        }
        answer
    }
}

#[async_trait]
impl Coordination for RedisCluster {
    async fn announce(&self, me: &Member, ttl: Duration) -> Result<Vec<Member>, CoordinationError> {
        let scripts = &self.0.scripts;
        let text = serde_json::to_string(me).map_err(unavailable)?;
        let mut script = scripts.announce.key(&scripts.members);
        script.arg(&me.node.0).arg(text).arg(milliseconds(ttl)).arg(me.incarnation.to_string());
        let found: Vec<(String, String)> = self.run(&script).await?;
        let mut members: Vec<Member> = found.iter().filter_map(|(_, text)| member(text)).collect();
        members.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(members)
    }

    async fn members(&self) -> Result<Vec<Sighting>, CoordinationError> {
        let scripts = &self.0.scripts;
        let found: Vec<(String, u64)> = self.run(&scripts.sightings.key(&scripts.members)).await?;
        let sighting = |(text, left): (String, u64)| {
            Some(Sighting { member: member(&text)?, time_left: Duration::from_millis(left) })
        };
        let mut members: Vec<_> = found.into_iter().filter_map(sighting).collect();
        members.sort_by(|one, other| one.member.node.cmp(&other.member.node));
        Ok(members)
    }

    async fn leave(&self, me: &Member) -> Result<(), CoordinationError> {
        let scripts = &self.0.scripts;
        let mut script = scripts.leave.key(&scripts.members);
        script.arg(&me.node.0).arg(me.incarnation.to_string());
        self.run(&script).await
    }

    async fn hold(
        &self,
        node: &NodeId,
        wanted: &[Shard],
        ttl: Duration,
    ) -> Result<Vec<Shard>, CoordinationError> {
        let scripts = &self.0.scripts;
        let mut script = scripts.hold.key(&scripts.leases);
        script.arg(&node.0).arg(milliseconds(ttl)).arg(numbers(wanted));
        let held: Vec<u16> = self.run(&script).await?;
        Ok(held.into_iter().filter_map(Shard::numbered).collect())
    }

    async fn release(&self, node: &NodeId, shards: &[Shard]) -> Result<(), CoordinationError> {
        let scripts = &self.0.scripts;
        let mut script = scripts.release.key(&scripts.leases);
        script.arg(&node.0).arg(numbers(shards));
        self.run(&script).await
    }

    async fn holders(&self) -> Result<BTreeMap<Shard, NodeId>, CoordinationError> {
        let scripts = &self.0.scripts;
        let found: Vec<(u16, String)> = self.run(&scripts.holders.key(&scripts.leases)).await?;
        let holder = |(number, node)| Some((Shard::numbered(number)?, NodeId(node)));
        Ok(found.into_iter().filter_map(holder).collect())
    }
}

/// What a node of whatever version announced; one that cannot be read must not hide the others.
fn member(text: &str) -> Option<Member> {
    let member = serde_json::from_str(text);
    if let Err(error) = &member {
        tracing::warn!(%error, "a member of the cluster announced itself unreadably");
    }
    member.ok()
}

fn numbers(shards: &[Shard]) -> Vec<u16> {
    shards.iter().map(|shard| shard.number()).collect()
}

/// Bounded, so that the sum with the time stays exact in Lua's floating point.
fn milliseconds(ttl: Duration) -> u64 {
    const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000;
    u64::try_from(ttl.as_millis()).unwrap_or(YEAR).min(YEAR)
}
