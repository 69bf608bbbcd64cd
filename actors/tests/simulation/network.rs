//! The bus and the coordination service, as each process sees them.
//!
//! The bus loses, doubles, delays and so reorders messages; pairs of nodes may be parted. The coordination service
//! keeps its contract on a clock of its own; a node may be cut off from it, and it may forget everything. It leases
//! only shards that an org of this world is in: the others are treated as if nobody could have them, which changes
//! nothing but the time a seed takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pulse_actors::cluster::{
    Bus, Coordination, CoordinationError, Inbox, Member, NodeId, Shard, Sighting,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::plan::Mutation;
use crate::world::World;

/// Messages that wait in one inbox; what comes on top is lost.
const INBOX: usize = 4_096;
/// A call to a service that does not answer fails after this.
const CALL_TIMEOUT: Duration = Duration::from_millis(400);

/// Names of nodes: `n0`, `n1`, …
pub(crate) mod name {
    use pulse_actors::cluster::NodeId;

    pub(crate) fn of(node: usize) -> NodeId {
        NodeId(format!("n{node}"))
    }

    pub(crate) fn number(node: &NodeId) -> usize {
        node.0[1..].parse().unwrap_or(usize::MAX)
    }
}

#[derive(Default)]
pub(crate) struct Network {
    members: BTreeMap<NodeId, (Member, Instant)>,
    leases: BTreeMap<Shard, (NodeId, Instant)>,
    inboxes: BTreeMap<usize, mpsc::Sender<Bytes>>,
}

impl Network {
    /// All members and leases are forgotten.
    pub(crate) fn wipe(&mut self) {
        self.members.clear();
        self.leases.clear();
    }

    /// Whose lease of the shard has not run out.
    pub(crate) fn holder(&self, shard: Shard) -> Option<usize> {
        let (node, until) = self.leases.get(&shard)?;
        (*until > Instant::now()).then(|| name::number(node))
    }
}

/// One process's end of the network.
pub(crate) struct NodeNetwork {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    /// Which life of the node: what a process sent in its last moment must not come from its successor.
    pub(crate) life: u64,
}

impl NodeNetwork {
    fn deliver(&self, to: usize, message: Bytes, delay: Duration) {
        self.world.after(delay, move |world| {
            if let Some(inbox) = world.network.lock().inboxes.get(&to) {
                // Full, or its process is gone.
                drop(inbox.try_send(message));
            }
        });
    }

    /// One step of the coordination service.
    async fn step<T>(
        &self,
        step: impl FnOnce(&mut Network, Instant) -> T,
    ) -> Result<T, CoordinationError> {
        tokio::time::sleep(self.world.between(0, 2)).await;
        if self.world.weather.lock().is_cut(self.node) {
            tokio::time::sleep(CALL_TIMEOUT).await;
            return Err(CoordinationError("the node is cut off".into()));
        }
        let now = Instant::now();
        let done = {
            let mut network = self.world.network.lock();
            network.members.retain(|_, (_, until)| *until > now);
            if !self.world.lacks(Mutation::EndlessLeases) {
                network.leases.retain(|_, (_, until)| *until > now);
            }
            step(&mut network, now)
        };
        tokio::time::sleep(self.world.between(0, 2)).await;
        Ok(done)
    }
}

#[async_trait]
impl Bus for NodeNetwork {
    fn send(&self, to: &NodeId, message: Bytes) {
        let (world, to) = (&self.world, name::number(to));
        let chances = world.chances();
        let is_gone = !world.is_alive(self.node, self.life);
        if is_gone || world.weather.lock().are_parted(self.node, to) {
            return;
        }
        if world.happens(chances.message_lost) {
            return world.note(format_args!("n{} to n{to}: lost", self.node));
        }
        if world.happens(chances.message_doubled) {
            self.deliver(to, message.clone(), world.between(1, 300));
        }
        let late = world.happens(chances.message_late);
        let delay = if late { world.between(2, 400) } else { Duration::from_millis(1) };
        self.deliver(to, message, delay);
    }

    async fn listen(&self, _: &NodeId) -> Result<Inbox, CoordinationError> {
        let (sender, inbox) = mpsc::channel(INBOX);
        self.step(|network, _| drop(network.inboxes.insert(self.node, sender))).await?;
        Ok(inbox)
    }
}

#[async_trait]
impl Coordination for NodeNetwork {
    async fn announce(&self, me: &Member, ttl: Duration) -> Result<Vec<Member>, CoordinationError> {
        self.step(|network, now| {
            let newer = |(other, _): &(Member, Instant)| other.incarnation > me.incarnation;
            if !network.members.get(&me.node).is_some_and(newer) {
                network.members.insert(me.node.clone(), (me.clone(), now + ttl));
            }
            network.members.values().map(|(member, _)| member.clone()).collect()
        })
        .await
    }

    async fn members(&self) -> Result<Vec<Sighting>, CoordinationError> {
        self.step(|network, now| {
            let sighting = |(member, until): &(Member, Instant)| Sighting {
                member: member.clone(),
                time_left: until.duration_since(now),
            };
            network.members.values().map(sighting).collect()
        })
        .await
    }

    async fn leave(&self, me: &Member) -> Result<(), CoordinationError> {
        self.step(|network, _| {
            let is_me = |(member, _): &(Member, Instant)| member.incarnation == me.incarnation;
            if network.members.get(&me.node).is_some_and(is_me) {
                network.members.remove(&me.node);
            }
        })
        .await
    }

    async fn hold(
        &self,
        node: &NodeId,
        wanted: &[Shard],
        ttl: Duration,
    ) -> Result<Vec<Shard>, CoordinationError> {
        let inhabited = self.world.inhabited();
        self.step(|network, now| {
            let mut held = Vec::new();
            for shard in wanted.iter().filter(|shard| inhabited.contains(shard)) {
                if network.leases.get(shard).is_none_or(|(holder, _)| holder == node) {
                    network.leases.insert(*shard, (node.clone(), now + ttl));
                    held.push(*shard);
                }
            }
            held
        })
        .await
    }

    async fn release(&self, node: &NodeId, shards: &[Shard]) -> Result<(), CoordinationError> {
        self.step(|network, _| {
            for shard in shards {
                if network.leases.get(shard).is_some_and(|(holder, _)| holder == node) {
                    network.leases.remove(shard);
                }
            }
        })
        .await
    }

    async fn holders(&self) -> Result<BTreeMap<Shard, NodeId>, CoordinationError> {
        self.step(|network, _| {
            network.leases.iter().map(|(shard, (holder, _))| (*shard, holder.clone())).collect()
        })
        .await
    }
}
