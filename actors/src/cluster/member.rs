//! This node's part in the cluster: it tells that it is there, takes its share of the shards, gives away what is not
//! its share any more, and knows where the others are.
//!
//! - **M1** A shard is served only while its lease is held **and** its epoch is claimed.
//! - **M2** A shard is given back only when its homes have stopped.
//! - **M3** A node that could not renew its leases for their time serves nothing until it has them again.
//! - **M4** A shard whose epoch is over is claimed anew, even if its lease never seemed to be lost: another node may
//!   have held it while this one stood still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::routes::{RoutesWriter, Table};
use super::{Claims, Coordination, Fence, Member, NodeId, Shard};
use crate::directory::Directory;

/// How long a lease lasts, and how long a silent node counts as a member.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// How often a node renews.
pub const RENEW_EVERY: Duration = Duration::from_millis(500);
/// Members must have been the same for this long before shards move: after a restart of the coordination service the
/// first to come back must not take everything.
const SETTLE: Duration = Duration::from_millis(1_500);
/// A node that leaves has this long to give its shards away.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Homes have this long to stop before their shard is given away; what they had taken and not told is sent again.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// The node that should hold a shard: of all that are not leaving, the one with the highest hash (rendezvous hashing),
/// so that a node that comes or goes moves its own share alone.
#[must_use]
pub fn owner(shard: Shard, members: &[Member]) -> Option<&NodeId> {
    let weight = |node: &NodeId| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(shard.number().to_be_bytes());
        hash.update(node.0.as_bytes());
        hash.finalize().into()
    };
    let staying = members.iter().filter(|member| !member.draining);
    staying.map(|member| &member.node).max_by_key(|node| (weight(node), *node))
}

fn share(me: &NodeId, members: &[Member]) -> BTreeSet<Shard> {
    Shard::all().filter(|shard| owner(*shard, members) == Some(me)).collect()
}

/// What a member needs.
pub struct MemberPorts {
    /// Leases and membership.
    pub coordination: Arc<dyn Coordination>,
    /// Epochs.
    pub claims: Arc<dyn Claims>,
    /// The homes of this node.
    pub directory: Directory,
    /// Where the routes are published.
    pub routes: RoutesWriter,
}

/// This node's part in the cluster.
pub struct ClusterMember {
    me: Member,
    ports: MemberPorts,
    members: Vec<Member>,
    members_since: Instant,
    share: BTreeSet<Shard>,
    held: Table,
    renewed_at: Instant,
}

/// Why a round did not come to its end; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Coordination(#[from] super::CoordinationError),
    #[error("the epochs of new shards could not be claimed")]
    Claims(#[from] crate::ports::StoreError),
}

impl ClusterMember {
    /// A member that nobody knows yet.
    #[must_use]
    pub fn new(me: Member, ports: MemberPorts) -> Self {
        let now = Instant::now();
        Self {
            me,
            ports,
            members: Vec::new(),
            members_since: now,
            share: BTreeSet::new(),
            held: Table::default(),
            renewed_at: now,
        }
    }

    /// Takes part until `leaving` says otherwise; then gives its shards to the others, tells them that it is gone and
    /// returns.
    pub async fn run(mut self, mut leaving: watch::Receiver<bool>) {
        let mut leave_by = None;
        loop {
            if *leaving.borrow_and_update() {
                self.me.draining = true;
                leave_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
            }
            self.round().await;
            let is_over =
                self.held.here.is_empty() || leave_by.is_some_and(|by| Instant::now() > by);
            if leave_by.is_some() && is_over {
                break;
            }
            // Only the writer's end is news beside the change itself: then nobody needs this node any more.
            if let Ok(Err(_)) = tokio::time::timeout(RENEW_EVERY, leaving.changed()).await {
                break;
            }
        }
        self.leave().await;
    }

    /// Tells, takes, gives and looks, once.
    pub async fn round(&mut self) {
        if self.renewed_at.elapsed() > LEASE_TTL {
            self.give_up().await;
        }
        match self.try_round().await {
            Ok(()) => self.renewed_at = Instant::now(),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(node = %self.me.node, %error, cause, "a round of the cluster failed; trying again");
            }
        }
    }

    async fn try_round(&mut self) -> Result<(), RoundError> {
        let members = self.ports.coordination.announce(&self.me, LEASE_TTL).await?;
        if members != self.members {
            let nodes: Vec<_> = members.iter().map(|member| member.node.to_string()).collect();
            info!(?nodes, "members of the cluster");
            self.share = share(&self.me.node, &members);
            self.members = members;
            self.members_since = Instant::now();
        }
        let is_settled = self.members_since.elapsed() >= SETTLE;
        if is_settled {
            self.give_surplus().await?;
        }
        self.give_refused().await?;
        self.hold(is_settled).await?;
        self.look().await
    }

    async fn give_surplus(&mut self) -> Result<(), RoundError> {
        let surplus: Vec<Shard> =
            self.held.here.keys().filter(|shard| !self.share.contains(shard)).copied().collect();
        if !surplus.is_empty() {
            info!(shards = surplus.len(), "giving shards to other nodes");
            self.stop_serving(&surplus).await;
            self.ports.coordination.release(&self.me.node, &surplus).await?;
        }
        Ok(())
    }

    /// M4. Given back, so that it is the next holder's, this node or another, to claim it.
    async fn give_refused(&mut self) -> Result<(), RoundError> {
        let refused = self.ports.routes.take_refused();
        let is_held = |fence: &Fence| self.held.here.get(&fence.shard) == Some(fence);
        let over: Vec<Shard> = refused.into_iter().filter(is_held).map(|it| it.shard).collect();
        if !over.is_empty() {
            warn!(shards = over.len(), "other nodes claimed shards that this one held");
            self.stop_serving(&over).await;
            self.ports.coordination.release(&self.me.node, &over).await?;
        }
        Ok(())
    }

    async fn hold(&mut self, may_take: bool) -> Result<(), RoundError> {
        let mut wanted: BTreeSet<Shard> = self.held.here.keys().copied().collect();
        if may_take {
            wanted.extend(&self.share);
        }
        let wanted: Vec<Shard> = wanted.into_iter().collect();
        let got = self.ports.coordination.hold(&self.me.node, &wanted, LEASE_TTL).await?;
        let got: BTreeSet<Shard> = got.into_iter().collect();
        let lost: Vec<Shard> =
            self.held.here.keys().filter(|shard| !got.contains(shard)).copied().collect();
        if !lost.is_empty() {
            warn!(shards = lost.len(), "other nodes took shards from this one");
            self.stop_serving(&lost).await;
        }
        let fresh: Vec<Shard> =
            got.into_iter().filter(|shard| !self.held.here.contains_key(shard)).collect();
        if !fresh.is_empty() {
            let fences = self.ports.claims.claim(&self.me.node, &fresh).await?;
            info!(shards = fences.len(), "serving shards");
            self.held.here.extend(fences.into_iter().map(|fence| (fence.shard, fence)));
            self.publish();
            self.ports.directory.wake_shards(fresh.into_iter().collect());
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), RoundError> {
        let mut there = self.ports.coordination.holders().await?;
        there.retain(|_, node| *node != self.me.node);
        self.held.there = there;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.ports.routes.publish(&self.held);
    }

    /// Takes no more for these shards, and waits until their homes have stopped.
    async fn stop_serving(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.held.here.remove(shard);
        }
        self.publish();
        let shards = shards.iter().copied().collect();
        self.ports.directory.hand_over(&shards, HAND_OVER_WITHIN).await;
    }

    /// M3.
    async fn give_up(&mut self) {
        if self.held.here.is_empty() {
            return;
        }
        warn!(
            shards = self.held.here.len(),
            "leases could not be renewed; serving nothing until they can"
        );
        let all: Vec<Shard> = self.held.here.keys().copied().collect();
        self.held.there.clear();
        self.stop_serving(&all).await;
    }

    async fn leave(mut self) {
        let all: Vec<Shard> = self.held.here.keys().copied().collect();
        self.stop_serving(&all).await;
        let released = self.ports.coordination.release(&self.me.node, &all).await;
        if let Err(error) = released.and(self.ports.coordination.leave(&self.me).await) {
            warn!(%error, "the others learn only after some seconds that this node has left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &[&str]) -> Vec<Member> {
        let member = |name: &&str| Member {
            node: NodeId((*name).to_owned()),
            incarnation: uuid::Uuid::nil(),
            draining: false,
            version: "1".to_owned(),
        };
        names.iter().map(member).collect()
    }

    #[test]
    fn every_shard_has_one_owner_and_the_shares_are_alike() {
        let three = members(&["a", "b", "c"]);
        let shares: Vec<_> = three.iter().map(|member| share(&member.node, &three)).collect();
        assert_eq!(
            shares.iter().map(BTreeSet::len).sum::<usize>(),
            usize::from(super::super::SHARDS)
        );
        for share in &shares {
            assert!((270..=410).contains(&share.len()), "{} shards of 1,024", share.len());
        }
    }

    #[test]
    fn a_node_that_comes_or_goes_moves_its_own_share_alone() {
        let (two, three) = (members(&["a", "b"]), members(&["a", "b", "c"]));
        for shard in Shard::all() {
            let (before, after) = (owner(shard, &two), owner(shard, &three));
            assert!(before == after || after.is_some_and(|node| node.0 == "c"));
        }
    }

    #[test]
    fn a_node_that_is_leaving_owns_nothing() {
        let mut both = members(&["a", "b"]);
        both[0].draining = true;
        assert!(Shard::all().all(|shard| owner(shard, &both).is_some_and(|node| node.0 == "b")));
        both[1].draining = true;
        assert!(Shard::all().all(|shard| owner(shard, &both).is_none()));
    }
}
