//! Group commit: submissions of many homes in one transaction.
//!
//! One task takes what is waiting, writes it in one transaction and confirms. While it waits for the disk the
//! next group gathers by itself, so a group is as large as the load makes it and an idle journal adds no delay.
//!
//! - **J1** A home is told `committed` only after the transaction that holds its submission was committed.
//! - **J2** A batch is taken only if the org's number in the table is the one it was decided on.
//! - **J3** Once a submission of a home has failed, no later one of it is written.
//! - **J4** A fault of one home's batch fails that home alone: the group is rolled back, and each home is tried
//!   in a transaction of its own.
//! - **J5** A batch of a home that has a fence is taken only if nobody has claimed the shard since, and nobody can
//!   claim it before the transaction has ended. Where there is but one node, homes have none and nothing is asked.

mod commit;
mod fences;
mod plan;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use pulse_actors::ports::{Journal, StoreError, Submission};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::Database;
use task::Task;

/// What one commit was like, for the metrics.
#[derive(Clone, Copy, Debug)]
pub struct CommitStats {
    /// How it ended.
    pub outcome: Outcome,
    /// Homes whose submissions it held.
    pub homes: usize,
    /// Submissions it held.
    pub submissions: usize,
    /// Events it held.
    pub events: usize,
    /// Rows it wrote, events included, after several writes of one row became one.
    pub rows: usize,
    /// From the transaction's begin to its end.
    pub duration: Duration,
    /// Submissions that were waiting at its end.
    pub queue_len: usize,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is durable.
    Committed,
    /// None of it is: somebody else wrote first, or a row was refused.
    Refused,
    /// None of it is: the database did not take it.
    Unavailable,
}

/// Hears of every commit. Called from the journal's task: it must not wait.
pub type OnCommit = Arc<dyn Fn(&CommitStats) + Send + Sync>;

/// How the journal works.
#[derive(Clone)]
pub struct JournalOptions {
    /// Submissions that may wait. Beyond, homes keep theirs and stop reading their agents.
    pub queue_len_max: usize,
    /// How long a group that follows a large one waits for more; zero not to wait. The timer ticks once a
    /// millisecond.
    pub linger: Duration,
    /// Hears of every commit.
    pub on_commit: OnCommit,
}

impl Default for JournalOptions {
    fn default() -> Self {
        // 1,024 submissions are a few commits' worth: more would only add to the time to the ack.
        Self { queue_len_max: 1_024, linger: Duration::ZERO, on_commit: Arc::new(|_| {}) }
    }
}

/// The journal. Clones share its queue.
#[derive(Clone, Debug)]
pub struct JournalWriter {
    queue: mpsc::Sender<Submission>,
    stop: watch::Sender<bool>,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl JournalWriter {
    /// Starts the journal's task on the current tokio runtime.
    #[must_use]
    pub fn start(database: &Database, options: JournalOptions) -> Self {
        let (queue, submissions) = mpsc::channel(options.queue_len_max);
        let (stop, stopped) = watch::channel(false);
        let task = Task::new(database, options, submissions, stopped);
        let task = Arc::new(tokio::sync::Mutex::new(Some(tokio::spawn(task.run()))));
        Self { queue, stop, task }
    }

    /// Submissions that wait.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Takes no more, commits what is waiting and ends.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the journal's task did not end in order");
        }
    }
}

/// The journal has been closed.
#[derive(Debug, thiserror::Error)]
#[error("the journal is closed")]
struct Closed;

impl Journal for JournalWriter {
    fn try_submit(&self, submission: Submission) -> Result<(), Box<Submission>> {
        match self.queue.try_send(submission) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(submission)) => Err(Box::new(submission)),
            Err(mpsc::error::TrySendError::Closed(submission)) => {
                refuse(&submission);
                Ok(())
            }
        }
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, ()> {
        let queue = self.queue.clone();
        async move {
            if let Err(mpsc::error::SendError(submission)) = queue.send(submission).await {
                refuse(&submission);
            }
        }
        .boxed()
    }
}

fn refuse(submission: &Submission) {
    submission.home.fail(&StoreError::Unavailable(Box::new(Closed)));
}
