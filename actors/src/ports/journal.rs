//! The journal: where every decision becomes durable, in groups.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use pulse_domain::record::Batch;
use pulse_protocol::ids::OrgId;

use super::store::StoreError;
use crate::cluster::Fence;

/// Hears what became of submissions. Called from the journal's own task: it must not wait.
pub trait Confirm: Send + Sync {
    /// Every submission of this home up to and including `ticket` is durable.
    fn committed(&self, ticket: u64);

    /// A submission could not be made durable. Nothing of it or of any later one from this home is, or will
    /// be: what the home holds in memory is wrong and it must start anew from the store.
    fn failed(&self, error: &StoreError);
}

/// One life of one org's home. After a failure the journal takes nothing more from it.
pub struct Home {
    /// The org.
    pub org_id: OrgId,
    /// What it may write under; none where there is but one node.
    pub fence: Option<Fence>,
    /// Hears what became of its submissions.
    pub confirm: Box<dyn Confirm>,
    failed: AtomicBool,
}

impl Home {
    /// A home that has submitted nothing yet.
    #[must_use]
    pub fn new(org_id: OrgId, fence: Option<Fence>, confirm: Box<dyn Confirm>) -> Arc<Self> {
        Arc::new(Self { org_id, fence, confirm, failed: AtomicBool::new(false) })
    }

    /// Whether a submission of this home failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Marks the home as failed, and tells it the first time.
    pub fn fail(&self, error: &StoreError) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.confirm.failed(error);
        }
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("org_id", &self.org_id).finish_non_exhaustive()
    }
}

/// One batch on its way to the journal.
#[derive(Debug)]
pub struct Submission {
    /// Who submits.
    pub home: Arc<Home>,
    /// Grows by one with each submission of the home.
    pub ticket: u64,
    /// What must become durable.
    pub batch: Batch,
}

/// Takes submissions into a bounded queue and commits them in groups.
///
/// Submissions of one home are committed in the order they were submitted. Several may share a transaction,
/// also with those of other homes; a fault in one home's batch does not fail another's.
pub trait Journal: Send + Sync {
    /// Queues a submission.
    ///
    /// # Errors
    ///
    /// Hands the submission back when the queue is full: then [`Journal::submit`] it.
    fn try_submit(&self, submission: Submission) -> Result<(), Box<Submission>>;

    /// Queues a submission when there is room for it, in the order of those who wait: whoever is woken has its place,
    /// and need not try for one against the others.
    fn submit(&self, submission: Submission) -> BoxFuture<'static, ()>;
}
