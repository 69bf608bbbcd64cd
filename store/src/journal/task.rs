//! The journal's task: gathers groups, commits them, tells the homes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pulse_actors::ports::{Home, StoreError, Submission};
use pulse_domain::record::Batch;
use pulse_protocol::ids::OrgId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;
use tracing::{debug, error, info, warn};

use super::commit::{Committer, Fault};
use super::plan::Plan;
use super::{CommitStats, JournalOptions, Outcome};
use crate::Database;

/// A group takes no more submissions once it holds this many rows: some 20 ms of work for one core, which bounds
/// what a submission waits for the group before it. The disk's share of a row is small by then.
const GROUP_ROWS: usize = 2_000;

/// After a group of this many rows the next one is worth waiting for.
const LARGE_GROUP_ROWS: usize = 64;

pub(super) struct Task {
    committer: Committer,
    options: JournalOptions,
    submissions: mpsc::Receiver<Submission>,
    stopped: watch::Receiver<bool>,
    last_group_rows: usize,
}

impl Task {
    pub(super) fn new(
        database: &Database,
        options: JournalOptions,
        submissions: mpsc::Receiver<Submission>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let committer = Committer::new(database);
        Self { committer, options, submissions, stopped, last_group_rows: 0 }
    }

    pub(super) async fn run(mut self) {
        while let Some(group) = self.gather().await {
            self.settle(group).await;
        }
    }

    /// The next submission and all that wait behind it, up to the limit; none once stopped and drained.
    async fn gather(&mut self) -> Option<Vec<Submission>> {
        let first = self.first().await?;
        let mut rows = rows_of(&first);
        let mut group = vec![first];
        while rows < GROUP_ROWS
            && let Ok(next) = self.submissions.try_recv()
        {
            rows += rows_of(&next);
            group.push(next);
        }
        if self.last_group_rows >= LARGE_GROUP_ROWS && !self.options.linger.is_zero() {
            let until = tokio::time::Instant::now() + self.options.linger;
            while rows < GROUP_ROWS
                && let Ok(Some(next)) = timeout_at(until, self.submissions.recv()).await
            {
                rows += rows_of(&next);
                group.push(next);
            }
        }
        self.last_group_rows = rows;
        Some(group)
    }

    async fn first(&mut self) -> Option<Submission> {
        let stopped = async {
            // Fails when every handle is gone; then the queue ends by itself.
            drop(self.stopped.wait_for(|stopped| *stopped).await);
        };
        tokio::select! {
            submission = self.submissions.recv() => return submission,
            () = stopped => {}
        }
        self.submissions.close();
        self.submissions.recv().await
    }

    async fn settle(&mut self, group: Vec<Submission>) {
        let (group, misplaced) = in_order(group);
        match self.commit(&group).await {
            Ok(()) => confirm(&group),
            Err(Fault::Unavailable(error)) => self.give_up(&group, &error),
            // One home cannot be anybody else's victim.
            Err(Fault::Refused(error)) if is_one_home(&group) => self.give_up(&group, &error),
            Err(Fault::Refused(error)) => {
                debug!(%error, submissions = group.len(), "group refused, trying each home alone");
                self.settle_each(group).await;
            }
        }
        for (home, error) in misplaced {
            warn!(org.id = %home.org_id, %error, "submission out of order");
            home.fail(&error);
        }
    }

    async fn settle_each(&mut self, group: Vec<Submission>) {
        let mut homes = by_home(group).into_iter();
        while let Some(group) = homes.next() {
            match self.commit(&group).await {
                Ok(()) => confirm(&group),
                Err(Fault::Refused(error)) => self.give_up(&group, &error),
                Err(Fault::Unavailable(error)) => {
                    self.give_up(&group, &error);
                    homes.by_ref().for_each(|group| self.give_up(&group, &error));
                }
            }
        }
    }

    async fn commit(&mut self, group: &[Submission]) -> Result<(), Fault> {
        if group.is_empty() {
            return Ok(());
        }
        let plan = Plan::of(group);
        let began_at = Instant::now();
        let committed = self.committer.commit(&plan).await;
        let outcome = match &committed {
            Ok(()) => Outcome::Committed,
            Err(Fault::Refused(_)) => Outcome::Refused,
            Err(Fault::Unavailable(_)) => Outcome::Unavailable,
        };
        (self.options.on_commit)(&CommitStats {
            outcome,
            homes: plan.homes(),
            submissions: group.len(),
            events: plan.events(),
            rows: plan.rows(),
            duration: began_at.elapsed(),
            queue_len: self.submissions.len(),
        });
        committed
    }

    fn give_up(&self, group: &[Submission], error: &StoreError) {
        for submission in group {
            let home = &submission.home;
            if home.has_failed() {
                continue;
            }
            if matches!(error, StoreError::Fenced { .. }) {
                // Shards move: its home is elsewhere now, and nothing that was confirmed is lost.
                info!(org.id = %home.org_id, "submission of a home whose shard was claimed by another node");
            } else {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                error!(org.id = %home.org_id, %error, cause, "submission not durable, its home starts anew");
            }
            home.fail(error);
        }
    }
}

fn rows_of(submission: &Submission) -> usize {
    submission.batch.events.len() + submission.batch.writes.len()
}

/// Keeps what can be written: nothing of homes that failed, and of each org only batches that follow on one
/// another. Homes whose batch does not follow come back with their error, to be told after the rest.
fn in_order(group: Vec<Submission>) -> (Vec<Submission>, Vec<(Arc<Home>, StoreError)>) {
    let mut heads: HashMap<OrgId, u64> = HashMap::new();
    let mut misplaced: Vec<(Arc<Home>, StoreError)> = Vec::new();
    let mut kept = Vec::with_capacity(group.len());
    for submission in group {
        let Submission { home, batch, .. } = &submission;
        if home.has_failed() || misplaced.iter().any(|(other, _)| Arc::ptr_eq(other, home)) {
            continue;
        }
        let head = heads.entry(batch.org_id).or_insert(batch.after_seq);
        if *head != batch.after_seq || !is_numbered(batch) {
            let (org_id, expected_seq) = (batch.org_id, batch.after_seq);
            misplaced.push((Arc::clone(home), StoreError::Conflict { org_id, expected_seq }));
            continue;
        }
        *head = batch.last_seq();
        kept.push(submission);
    }
    (kept, misplaced)
}

/// Whether the batch's events bear the numbers that follow on `after_seq`.
fn is_numbered(batch: &Batch) -> bool {
    (batch.after_seq + 1..).zip(&batch.events).all(|(seq, event)| event.seq == seq)
}

fn is_one_home(group: &[Submission]) -> bool {
    group.windows(2).all(|pair| Arc::ptr_eq(&pair[0].home, &pair[1].home))
}

/// The submissions of each home, in the order in which the homes first appear.
fn by_home(group: Vec<Submission>) -> Vec<Vec<Submission>> {
    let mut places: HashMap<*const Home, usize> = HashMap::new();
    let mut homes: Vec<Vec<Submission>> = Vec::new();
    for submission in group {
        let place = *places.entry(Arc::as_ptr(&submission.home)).or_insert(homes.len());
        match homes.get_mut(place) {
            Some(home) => home.push(submission),
            None => homes.push(vec![submission]),
        }
    }
    homes
}

/// Tells each home its last ticket.
fn confirm(group: &[Submission]) {
    let mut last: HashMap<*const Home, &Submission> = HashMap::new();
    for submission in group {
        last.insert(Arc::as_ptr(&submission.home), submission);
    }
    for submission in last.into_values() {
        submission.home.confirm.committed(submission.ticket);
    }
}
