//! Shards: what is leased, claimed and moved.

use async_trait::async_trait;
use pulse_protocol::ids::OrgId;

use super::NodeId;
use crate::ports::StoreError;

/// How many shards all orgs are spread over. Never changes: nodes of all versions must agree.
pub const SHARDS: u16 = 1_024;

/// One of [`SHARDS`] parts of all orgs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(u16);

impl Shard {
    /// The shard of an org, by the random low bits of its id.
    #[must_use]
    pub const fn of(org_id: OrgId) -> Self {
        Self((org_id.uuid().as_u128() % SHARDS as u128) as u16)
    }

    /// The shard of this number; none from [`SHARDS`] on.
    #[must_use]
    pub const fn numbered(number: u16) -> Option<Self> {
        if number < SHARDS { Some(Self(number)) } else { None }
    }

    /// All shards, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// Its number, below [`SHARDS`].
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What a home may write under: refused once somebody has claimed a later epoch of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence {
    /// The shard.
    pub shard: Shard,
    /// The epoch that this node claimed. Grows by one with each claim.
    pub epoch: u64,
}

/// The record, in the database, of who claimed a shard last.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Begins a new epoch of each shard. When it returns, no transaction under an earlier epoch can commit any more,
    /// and all that did are visible: what is loaded from now on is the latest.
    async fn claim(&self, node: &NodeId, shards: &[Shard]) -> Result<Vec<Fence>, StoreError>;

    /// How many epochs were ever begun, of all shards: it grows with every claim of any node.
    async fn epochs(&self) -> Result<u64, StoreError>;

    /// Whether claims and commits can be expected to succeed now. Answers at once, from what was seen lately.
    fn can_write(&self) -> bool;
}
