//! The numbers of what only the composition root sees: the journal and the process.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use pulse_store::{CommitStats, JournalWriter, OnCommit, Outcome};

/// Rows in one commit, from a lone change to a full group.
const ROWS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];
/// Seconds of one commit, from a fast disk to one that cannot keep up.
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// Registers the journal's numbers; what it returns counts its commits.
///
/// # Errors
///
/// Returns an error if the registry holds numbers of these names already.
pub(crate) fn journal(registry: &Registry) -> Result<OnCommit, prometheus::Error> {
    let commits = IntCounterVec::new(
        Opts::new("pulse_journal_commits_total", "Transactions of the journal by outcome"),
        &["outcome"],
    )?;
    let rows = Histogram::with_opts(
        HistogramOpts::new("pulse_journal_commit_rows", "Rows in one commit")
            .buckets(ROWS.to_vec()),
    )?;
    let seconds = Histogram::with_opts(
        HistogramOpts::new("pulse_journal_commit_seconds", "Duration of one commit")
            .buckets(SECONDS.to_vec()),
    )?;
    registry.register(Box::new(commits.clone()))?;
    registry.register(Box::new(rows.clone()))?;
    registry.register(Box::new(seconds.clone()))?;
    Ok(Arc::new(move |stats: &CommitStats| {
        let outcome = match stats.outcome {
            Outcome::Committed => "committed",
            Outcome::Refused => "refused",
            Outcome::Unavailable => "unavailable",
        };
        commits.with_label_values(&[outcome]).inc();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a commit holds thousands of rows, not 2^52"
        )]
        rows.observe(stats.rows as f64);
        seconds.observe(stats.duration.as_secs_f64());
    }))
}

/// Registers what is read when it is asked for.
///
/// # Errors
///
/// Returns an error if the registry holds numbers of these names already.
pub(crate) fn process(
    registry: &Registry,
    journal: JournalWriter,
) -> Result<(), prometheus::Error> {
    let queue = IntGauge::new("pulse_journal_queue", "Batches that wait for the journal")?;
    registry.register(Box::new(Queue { journal, queue }))
}

struct Queue {
    journal: JournalWriter,
    queue: IntGauge,
}

impl Collector for Queue {
    fn desc(&self) -> Vec<&Desc> {
        self.queue.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.queue.set(i64::try_from(self.journal.queue_len()).unwrap_or(i64::MAX));
        self.queue.collect()
    }
}
