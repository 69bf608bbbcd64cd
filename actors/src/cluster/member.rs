//! This node's part in the cluster: it tells that it is there, takes its share of the shards, gives away what is not
//! its share any more, and knows where the others are.
//!
//! - **M1** A shard is served only while its lease is held **and** its epoch is claimed.
//! - **M2** A shard is given back only when its homes have stopped.
//! - **M3** A node that could not renew its leases for their time serves nothing until it has them again.
//! - **M4** Of two processes under one name the newer stays; the older serves nothing more and says so.
//! - **M5** A node that cannot write, or hears no message, gives its shards away: to others they are worth more.
//! - **M6** A shard whose epoch is over is claimed anew, even if its lease never seemed to be lost: another node may
//!   have held it while this one stood still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::routes::{RoutesWriter, Table};
use super::{Claims, Coordination, Fence, Member, NodeId, Post, Shard};
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
    staying(members).map(|(node, _)| node).max_by_key(|node| (weight(node), *node))
}

/// Those that take shards. One that was leaving and is gone changes nothing.
fn staying(members: &[Member]) -> impl Iterator<Item = (&NodeId, uuid::Uuid)> {
    let staying = members.iter().filter(|member| !member.draining);
    staying.map(|member| (&member.node, member.incarnation))
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
    /// This node's end of the bus.
    pub post: Post,
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
    is_superseded: bool,
    is_leaving: bool,
    /// The epochs begun when rounds began to fail; none while they do not.
    epochs_before: Option<u64>,
}

/// How a node's part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked for.
    Left,
    /// A newer process has its name.
    Superseded,
}

/// Whether another process that runs has the name of `me`. Takes two rounds of that other one, if there is one: what a
/// killed one announced is still there, and is not renewed.
///
/// # Errors
///
/// Returns an error if the coordination service does not answer.
pub async fn is_taken(
    coordination: &dyn Coordination,
    me: &NodeId,
) -> Result<bool, super::CoordinationError> {
    const WAIT: Duration = RENEW_EVERY.saturating_mul(2);
    let seen = async || {
        let members = coordination.members().await?;
        let mine = members.into_iter().find(|sighting| sighting.member.node == *me);
        Ok(mine.map(|sighting| sighting.time_left))
    };
    let Some(before) = seen().await? else { return Ok(false) };
    tokio::time::sleep(WAIT).await;
    let after: Option<Duration> = seen().await?;
    // Half of the wait for what the answers took.
    Ok(after.is_some_and(|after| after + WAIT / 2 > before))
}

/// Why a round did not come to its end; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("a newer process runs under this node's name")]
    Superseded,
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
            is_superseded: false,
            is_leaving: false,
            epochs_before: None,
        }
    }

    /// Takes part until `leaving` says otherwise; then gives its shards to the others, tells them that it is gone and
    /// returns.
    pub async fn run(mut self, mut leaving: watch::Receiver<bool>) -> Ended {
        let mut leave_by = None;
        loop {
            if *leaving.borrow_and_update() {
                self.is_leaving = true;
                leave_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
            }
            self.round().await;
            if self.is_superseded {
                // The leases bear the name, so they are the other's now.
                let all: Vec<Shard> = self.held.here.keys().copied().collect();
                self.stop_serving(&all).await;
                return Ended::Superseded;
            }
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
        Ended::Left
    }

    /// Tells, takes, gives and looks, once.
    pub async fn round(&mut self) {
        self.ports.post.call_out();
        self.me.draining = self.is_leaving || !self.is_able();
        self.give_up_if_late().await;
        let round = self.try_round().await;
        let outcome = if round.is_ok() { "done" } else { "failed" };
        self.ports.directory.metrics().rounds.with_label_values(&[outcome]).inc();
        match round {
            Ok(()) => {
                self.renewed_at = Instant::now();
                self.epochs_before = None;
                self.ports.routes.cut_off(false);
            }
            Err(RoundError::Superseded) => {
                error!(node = %self.me.node, "a newer process runs under this node's name");
                self.is_superseded = true;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(node = %self.me.node, %error, cause, "a round of the cluster failed; trying again");
                // The round may have taken longer than what was left.
                self.give_up_if_late().await;
                self.look_for_others().await;
            }
        }
    }

    /// M5.
    fn is_able(&self) -> bool {
        let (can_write, is_deaf) = (self.ports.claims.can_write(), self.ports.post.is_deaf());
        let is_able = can_write && !is_deaf;
        if !is_able && !self.me.draining {
            warn!(can_write, is_deaf, "this node cannot serve; giving its shards to others");
        }
        is_able
    }

    /// Without the coordination service a node cannot know whether all are without it or it alone. In the first case its
    /// agents and dashboards are best kept: nobody else can serve them. In the second others take its shards, and that
    /// the database shows.
    async fn look_for_others(&mut self) {
        let Ok(epochs) = self.ports.claims.epochs().await else { return };
        let before = *self.epochs_before.get_or_insert(epochs);
        if epochs > before {
            self.ports.routes.cut_off(true);
        }
    }

    async fn try_round(&mut self) -> Result<(), RoundError> {
        let members = self.ports.coordination.announce(&self.me, LEASE_TTL).await?;
        let twin =
            |other: &Member| other.node == self.me.node && other.incarnation != self.me.incarnation;
        if members.iter().any(twin) {
            return Err(RoundError::Superseded);
        }
        if members != self.members {
            let nodes: Vec<_> = members.iter().map(|member| member.node.to_string()).collect();
            info!(?nodes, "members of the cluster");
            self.share = share(&self.me.node, &members);
            if !staying(&members).eq(staying(&self.members)) {
                self.members_since = Instant::now();
            }
            self.members = members;
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

    /// M6. Given back, so that it is the next holder's, this node or another, to claim it.
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
        let asked_at = Instant::now();
        let got = self.ports.coordination.hold(&self.me.node, &wanted, LEASE_TTL).await?;
        self.ports.routes.held_until(asked_at + LEASE_TTL);
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
    async fn give_up_if_late(&mut self) {
        if self.renewed_at.elapsed() <= LEASE_TTL || self.held.here.is_empty() {
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
