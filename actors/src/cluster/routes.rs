//! Where each shard's home is, as this node knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::ids::OrgId;
use tokio::sync::watch;

use super::{Fence, NodeId, Shard};

/// Where an org's home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// On this node, which may write under this epoch.
    Here(Fence),
    /// On another node.
    There(NodeId),
    /// On none that is known: the shard is moving.
    Nowhere,
}

/// All routes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Shards whose home is this node.
    pub here: BTreeMap<Shard, Fence>,
    /// Who holds the others.
    pub there: BTreeMap<Shard, NodeId>,
}

/// The latest table; cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    table: watch::Receiver<Arc<Table>>,
}

impl Routes {
    /// No routes yet, and the way to publish them.
    #[must_use]
    pub fn new() -> (watch::Sender<Arc<Table>>, Self) {
        let (writer, table) = watch::channel(Arc::default());
        (writer, Self { table })
    }

    /// Where the org's home is now.
    #[must_use]
    pub fn of(&self, org_id: OrgId) -> Route {
        let (table, shard) = (self.table.borrow(), Shard::of(org_id));
        if let Some(fence) = table.here.get(&shard) {
            return Route::Here(*fence);
        }
        table.there.get(&shard).cloned().map_or(Route::Nowhere, Route::There)
    }

    /// The whole table.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// Resolves when the routes change, or after `patience`.
    pub async fn changed(&self, patience: Duration) {
        let mut table = self.table.clone();
        table.mark_unchanged();
        // Neither a writer that is gone nor the end of the patience is news: the caller looks again.
        drop(tokio::time::timeout(patience, table.changed()).await);
    }
}
