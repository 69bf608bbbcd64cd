//! One hub of many nodes.
//!
//! ```text
//! node A                                     node B
//! edge ── RemoteHome ══ a line on the Bus ══ RemoteEdge ── OrgActor (the home)
//! ```
//!
//! An org belongs to one of [`SHARDS`] shards. A shard's home is the node that holds its lease
//! ([`Coordination`], Redis) **and** claimed its epoch in the database ([`Claims`]). The lease only decides who tries; every
//! transaction of the journal checks the epoch, so a node that was paused past its lease writes nothing.
//!
//! Nothing here is trusted with durability: what the bus loses, doubles or delays breaks a line, and a broken line is
//! an ordinary loss of the home, after which edges attach anew.

pub mod bus;
pub mod coordination;
mod line;
pub mod member;
#[cfg(any(test, feature = "testing"))]
mod memory;
pub mod post;
pub mod redis;
pub(crate) mod remote_edge;
pub mod remote_home;
pub mod routes;
pub mod shard;

pub use bus::{Bus, Inbox};
pub use coordination::{Coordination, CoordinationError, Member, NodeId, Sighting};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryCluster;
pub use post::Post;
pub use redis::{RedisCluster, check_address};
pub use remote_home::RemoteHome;
pub use routes::{Route, Routes};
pub use shard::{Claims, Fence, SHARDS, Shard};
