//! How many attempts may be under way on this node.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pulse_protocol::ids::OrgId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts on one node: each is a task and a socket.
const NODE_MAX: usize = 1_024;
/// Attempts of one org: what its dead receivers hold up leaves room for everybody else.
const ORG_MAX: usize = 64;

/// The room that attempts share.
pub struct Room {
    node: Arc<Semaphore>,
    orgs: Mutex<HashMap<OrgId, Weak<Semaphore>>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { node: Arc::new(Semaphore::new(NODE_MAX)), orgs: Mutex::default() }
    }
}

/// A place for one attempt, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _node: Option<OwnedSemaphorePermit>,
    _org: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Waits for a place, first among the org's own.
    pub(super) async fn enter(&self, org_id: OrgId) -> Place {
        let org = self.of(org_id);
        // They are never closed, so there is a place in the end.
        let org = org.acquire_owned().await.ok();
        let node = Arc::clone(&self.node).acquire_owned().await.ok();
        Place { _node: node, _org: org }
    }

    fn of(&self, org_id: OrgId) -> Arc<Semaphore> {
        let mut orgs = self.orgs.lock();
        if let Some(org) = orgs.get(&org_id).and_then(Weak::upgrade) {
            return org;
        }
        // Orgs that send nothing leave an entry behind: as many as there are places may stay.
        if orgs.len() >= NODE_MAX {
            orgs.retain(|_, org| org.strong_count() > 0);
        }
        let org = Arc::new(Semaphore::new(ORG_MAX));
        orgs.insert(org_id, Arc::downgrade(&org));
        org
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::task::unconstrained;

    use super::*;

    #[tokio::test]
    async fn one_org_takes_no_more_than_its_share() {
        let room = Room::default();
        let (busy, other) = (OrgId::new(), OrgId::new());
        let mut places = vec![];
        for _ in 0..ORG_MAX {
            places.push(room.enter(busy).await);
        }
        // Unconstrained: what has taken many turns is told to wait for its next, free place or not.
        let at_once = |org_id| unconstrained(room.enter(org_id)).now_or_never();
        assert!(at_once(busy).is_none());
        assert!(at_once(other).is_some());
        places.pop();
        assert!(at_once(busy).is_some());
    }

    #[tokio::test]
    async fn what_orgs_leave_behind_is_bounded() {
        let room = Room::default();
        for _ in 0..3 * NODE_MAX {
            drop(room.enter(OrgId::new()).await);
        }
        assert!(room.orgs.lock().len() <= NODE_MAX);
    }
}
