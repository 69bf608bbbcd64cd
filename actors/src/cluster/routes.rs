//! Where each shard's home is, as this node knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::ids::OrgId;
use tokio::sync::watch;
use tokio::time::Instant;

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
    held_until: watch::Receiver<Instant>,
    is_cut_off: watch::Receiver<bool>,
}

/// Publishes the routes.
#[derive(Debug)]
pub struct RoutesWriter {
    table: watch::Sender<Arc<Table>>,
    held_until: watch::Sender<Instant>,
    is_cut_off: watch::Sender<bool>,
}

impl RoutesWriter {
    /// Whether the others go on without this node.
    pub fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.send_if_modified(|was| std::mem::replace(was, is_cut_off) != is_cut_off);
    }

    /// Publishes a table, if it is another than the last.
    pub fn publish(&self, next: &Table) {
        self.table.send_if_modified(|table| {
            let changed = **table != *next;
            if changed {
                *table = Arc::new(next.clone());
            }
            changed
        });
    }

    /// Until when this node may take itself for the home of its shards.
    pub fn held_until(&self, until: Instant) {
        self.held_until.send_replace(until);
    }
}

impl Routes {
    /// No routes yet, and the way to publish them.
    #[must_use]
    pub fn new() -> (RoutesWriter, Self) {
        let (table, tables) = watch::channel(Arc::default());
        let (held_until, times) = watch::channel(Instant::now());
        let (is_cut_off, cuts) = watch::channel(false);
        let writer = RoutesWriter { table, held_until, is_cut_off };
        (writer, Self { table: tables, held_until: times, is_cut_off: cuts })
    }

    /// Whether this node is known to be cut off from nodes that serve: its agents and dashboards are better off there.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        *self.is_cut_off.borrow()
    }

    /// Where the org's home is now. A node that was paused for longer than its leases last is home to nothing from its
    /// first step on, before it hears of it.
    #[must_use]
    pub fn of(&self, org_id: OrgId) -> Route {
        let (table, shard) = (self.table.borrow(), Shard::of(org_id));
        if let Some(fence) = table.here.get(&shard) {
            let is_held = Instant::now() < *self.held_until.borrow();
            return if is_held { Route::Here(*fence) } else { Route::Nowhere };
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
