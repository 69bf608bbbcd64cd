//! Who is there, and who holds which shard. The port that Redis implements.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Shard;

/// A node's name in the cluster: 1 to 64 letters, digits, hyphens, dots or underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// Made anew at each start, so that a restarted node is not taken for the one before it.
    pub incarnation: uuid::Uuid,
    /// Leaving: it takes no shard and gives away those it has.
    pub draining: bool,
    /// Its program's version.
    pub version: String,
}

/// A member, and how long it still counts as one if it says nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who announced itself.
    pub member: Member,
    /// What is left of the time that it announced.
    pub time_left: Duration,
}

/// The coordination service did not answer, or not in time. Retrying is safe.
#[derive(Debug, thiserror::Error)]
#[error("the coordination service is unavailable")]
pub struct CoordinationError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Membership and leases. May lose everything at any moment: then members announce themselves and take leases anew.
/// Time is the service's own, so that the nodes' clocks do not matter.
#[async_trait]
pub trait Coordination: Send + Sync {
    /// Tells that this node is alive for `ttl`; answers who is, in order of their names. Where another process has
    /// announced itself under this name, the newer incarnation stays: an older one finds the other in the answer.
    async fn announce(&self, me: &Member, ttl: Duration) -> Result<Vec<Member>, CoordinationError>;

    /// Who is alive, in order of their names.
    async fn members(&self) -> Result<Vec<Sighting>, CoordinationError>;

    /// Tells that this node is gone: at once, not after its time.
    async fn leave(&self, me: &Member) -> Result<(), CoordinationError>;

    /// In one atomic step: of `wanted`, takes for `ttl` what nobody holds and renews what `node` holds already;
    /// answers those that `node` holds now. A lease that ran out and was taken by nobody counts as renewed.
    async fn hold(
        &self,
        node: &NodeId,
        wanted: &[Shard],
        ttl: Duration,
    ) -> Result<Vec<Shard>, CoordinationError>;

    /// Gives leases back; those of others are left alone.
    async fn release(&self, node: &NodeId, shards: &[Shard]) -> Result<(), CoordinationError>;

    /// Who holds each shard whose lease has not run out.
    async fn holders(&self) -> Result<BTreeMap<Shard, NodeId>, CoordinationError>;
}
