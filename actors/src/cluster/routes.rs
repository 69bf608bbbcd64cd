//! Where each shard's home is, as this node knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pulse_protocol::ids::OrgId;
use tokio::sync::Notify;
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

/// The latest table, and who waits for the next. Not a watch channel: that wakes those who wait in an order drawn at
/// random, and a simulated node must do the same thing twice.
#[derive(Debug, Default)]
struct Shared {
    table: RwLock<Arc<Table>>,
    /// Until when the shards of this node are its own; none before it had any.
    held_until: RwLock<Option<Instant>>,
    is_cut_off: AtomicBool,
    changed: Notify,
    /// What the database refused, for the member to claim anew.
    refused: Mutex<BTreeSet<Fence>>,
}

/// Publishes the routes of one node.
#[derive(Debug)]
pub struct RoutesWriter(Arc<Shared>);

impl RoutesWriter {
    /// Shows `table` to everybody, unless it is what they see already.
    pub fn publish(&self, table: &Table) {
        if **self.0.table.read() == *table {
            return;
        }
        *self.0.table.write() = Arc::new(table.clone());
        self.0.changed.notify_waiters();
    }

    /// Until when this node may take itself for the home of its shards.
    pub fn held_until(&self, until: Instant) {
        *self.0.held_until.write() = Some(until);
    }

    /// Whether the others go on without this node.
    pub fn cut_off(&self, is_cut_off: bool) {
        if self.0.is_cut_off.swap(is_cut_off, Ordering::AcqRel) != is_cut_off {
            self.0.changed.notify_waiters();
        }
    }

    /// What was [refused](Routes::refuse) since this was asked last.
    pub(super) fn take_refused(&self) -> BTreeSet<Fence> {
        std::mem::take(&mut *self.0.refused.lock())
    }
}

/// The latest table; cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    shared: Arc<Shared>,
}

impl Routes {
    /// No routes yet, and the way to publish them.
    #[must_use]
    pub fn new() -> (RoutesWriter, Self) {
        let shared = Arc::<Shared>::default();
        (RoutesWriter(Arc::clone(&shared)), Self { shared })
    }

    /// Where the org's home is now. A node that was paused for longer than its leases last is home to nothing from its
    /// first step on, before it hears of it.
    #[must_use]
    pub fn of(&self, org_id: OrgId) -> Route {
        let (table, shard) = (self.shared.table.read(), Shard::of(org_id));
        if let Some(fence) = table.here.get(&shard) {
            let is_held = self.shared.held_until.read().is_some_and(|until| Instant::now() < until);
            return if is_held { Route::Here(*fence) } else { Route::Nowhere };
        }
        table.there.get(&shard).cloned().map_or(Route::Nowhere, Route::There)
    }

    /// Whether this node is known to be cut off from nodes that serve: its agents and dashboards are better off there.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.shared.is_cut_off.load(Ordering::Acquire)
    }

    /// Notes that the database takes nothing more under this fence: somebody else has claimed the shard, even if the
    /// lease does not say so.
    pub fn refuse(&self, fence: Fence) {
        self.shared.refused.lock().insert(fence);
    }

    /// The whole table.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.shared.table.read())
    }

    /// Resolves when the routes change, or after `patience`.
    pub async fn changed(&self, patience: Duration) {
        // The end of the patience is no news: the caller looks again.
        drop(tokio::time::timeout(patience, self.shared.changed.notified()).await);
    }
}
