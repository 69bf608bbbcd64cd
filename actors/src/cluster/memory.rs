//! A cluster inside one process, for tests: its time is the runtime's, and any node can be cut off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Bus, Coordination, CoordinationError, Inbox, Member, NodeId, Shard, Sighting};

/// Messages that wait in one inbox; what comes on top is lost.
const INBOX: usize = 65_536;

/// Members, leases and inboxes that all clones share. Leases run out by [`tokio::time`], which a test may pause.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
    /// Whose messages and questions come from this clone; unknown where no node was named.
    seen_from: Option<NodeId>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<NodeId, (Member, Instant)>,
    leases: BTreeMap<Shard, (NodeId, Instant)>,
    inboxes: HashMap<NodeId, Vec<mpsc::Sender<Bytes>>>,
    cut: HashSet<NodeId>,
    lost: u64,
}

/// Why a call of a node that a test has cut off fails.
#[derive(Debug, thiserror::Error)]
#[error("{0} is cut off")]
struct CutOff(NodeId);

impl MemoryCluster {
    /// A cluster without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same cluster as `node` sees it. The ports do not say who sends a message or asks for the holders: through
    /// this clone it is `node`, and nobody any more once that is [`cut`](Self::cut) off.
    #[must_use]
    pub fn seen_from(&self, node: &NodeId) -> Self {
        Self { state: Arc::clone(&self.state), seen_from: Some(node.clone()) }
    }

    /// Cuts a node off: what it is sent is lost, as is what it sends through [`seen_from`](Self::seen_from), and its
    /// calls fail. What it announced and holds stays until its time is over.
    pub fn cut(&self, node: &NodeId) {
        self.state.lock().cut.insert(node.clone());
    }

    /// Ends a [`cut`](Self::cut). Messages lost meanwhile stay lost; inboxes go on.
    pub fn heal(&self, node: &NodeId) {
        self.state.lock().cut.remove(node);
    }

    /// Forgets all members and leases, as a coordination service does that is restarted empty.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.members.clear();
        state.leases.clear();
    }

    /// Messages lost so far: by a cut, or because an inbox was full. Those to nobody are not counted.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lock().lost
    }

    /// Does a step for `node`, unless it or the one this clone belongs to is cut off.
    fn step<T>(
        &self,
        node: Option<&NodeId>,
        step: impl FnOnce(&mut State, Instant) -> T,
    ) -> Result<T, CoordinationError> {
        let mut state = self.state.lock();
        for caller in self.seen_from.iter().chain(node) {
            if state.cut.contains(caller) {
                return Err(CoordinationError(Box::new(CutOff(caller.clone()))));
            }
        }
        let now = Instant::now();
        state.members.retain(|_, (_, until)| *until > now);
        state.leases.retain(|_, (_, until)| *until > now);
        Ok(step(&mut state, now))
    }
}

#[async_trait]
impl Bus for MemoryCluster {
    fn send(&self, to: &NodeId, message: Bytes) {
        let mut state = self.state.lock();
        if self.seen_from.iter().chain([to]).any(|node| state.cut.contains(node)) {
            state.lost += 1;
            return;
        }
        let Some(inboxes) = state.inboxes.get_mut(to) else { return };
        let mut lost = 0;
        inboxes.retain(|inbox| match inbox.try_send(message.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                lost += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        state.lost += lost;
    }

    async fn listen(&self, me: &NodeId) -> Result<Inbox, CoordinationError> {
        self.step(Some(me), |state, _| {
            let (sender, inbox) = mpsc::channel(INBOX);
            state.inboxes.entry(me.clone()).or_default().push(sender);
            inbox
        })
    }
}

#[async_trait]
impl Coordination for MemoryCluster {
    async fn announce(&self, me: &Member, ttl: Duration) -> Result<Vec<Member>, CoordinationError> {
        self.step(Some(&me.node), |state, now| {
            let newer = |(other, _): &(Member, Instant)| other.incarnation > me.incarnation;
            if !state.members.get(&me.node).is_some_and(newer) {
                state.members.insert(me.node.clone(), (me.clone(), now + ttl));
            }
            state.members.values().map(|(member, _)| member.clone()).collect()
        })
    }

    async fn members(&self) -> Result<Vec<Sighting>, CoordinationError> {
        self.step(None, |state, now| {
            let sighting = |(member, until): &(Member, Instant)| Sighting {
                member: member.clone(),
                time_left: until.duration_since(now),
            };
            state.members.values().map(sighting).collect()
        })
    }

    async fn leave(&self, me: &Member) -> Result<(), CoordinationError> {
        self.step(Some(&me.node), |state, _| {
            let is_me = |(member, _): &(Member, Instant)| member.incarnation == me.incarnation;
            if state.members.get(&me.node).is_some_and(is_me) {
                state.members.remove(&me.node);
            }
        })
    }

    async fn hold(
        &self,
        node: &NodeId,
        wanted: &[Shard],
        ttl: Duration,
    ) -> Result<Vec<Shard>, CoordinationError> {
        self.step(Some(node), |state, now| {
            let mut held = Vec::with_capacity(wanted.len());
            for shard in wanted {
                if state.leases.get(shard).is_none_or(|(holder, _)| holder == node) {
                    state.leases.insert(*shard, (node.clone(), now + ttl));
                    held.push(*shard);
                }
            }
            held
        })
    }

    async fn release(&self, node: &NodeId, shards: &[Shard]) -> Result<(), CoordinationError> {
        self.step(Some(node), |state, _| {
            for shard in shards {
                if state.leases.get(shard).is_some_and(|(holder, _)| holder == node) {
                    state.leases.remove(shard);
                }
            }
        })
    }

    async fn holders(&self) -> Result<BTreeMap<Shard, NodeId>, CoordinationError> {
        self.step(None, |state, _| {
            state.leases.iter().map(|(shard, (holder, _))| (*shard, holder.clone())).collect()
        })
    }
}
