//! The numbers of what only the composition root sees: the journal and the process.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use pulse_actors::cluster::{NodeId, Routes};
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

/// Registers what a node of a cluster knows of it.
///
/// # Errors
///
/// Returns an error if the registry holds numbers of these names already.
pub(crate) fn cluster(
    registry: &Registry,
    me: NodeId,
    routes: Routes,
    lost: impl Fn() -> u64 + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let shards = IntGaugeVec::new(
        Opts::new("pulse_cluster_shards", "Shards whose home is on each node, as this one sees it"),
        &["node"],
    )?;
    let epochs = IntGaugeVec::new(
        Opts::new("pulse_cluster_shard_epoch", "Epochs of the shards whose home is this node"),
        &["shard"],
    )?;
    let lost_messages = IntGauge::new(
        "pulse_bus_lost_messages",
        "Messages between nodes lost since the start, as far as this one can know",
    )?;
    let lost = Box::new(lost);
    registry.register(Box::new(ClusterView { me, routes, lost, shards, epochs, lost_messages }))
}

struct ClusterView {
    me: NodeId,
    routes: Routes,
    lost: Box<dyn Fn() -> u64 + Send + Sync>,
    shards: IntGaugeVec,
    epochs: IntGaugeVec,
    lost_messages: IntGauge,
}

impl Collector for ClusterView {
    fn desc(&self) -> Vec<&Desc> {
        [self.shards.desc(), self.epochs.desc(), self.lost_messages.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let table = self.routes.table();
        self.shards.reset();
        let here = i64::try_from(table.here.len()).unwrap_or(i64::MAX);
        self.shards.with_label_values(&[&self.me.0]).set(here);
        for node in table.there.values() {
            self.shards.with_label_values(&[&node.0]).inc();
        }
        self.epochs.reset();
        for (shard, fence) in &table.here {
            let shard = shard.number().to_string();
            let epoch = i64::try_from(fence.epoch).unwrap_or(i64::MAX);
            self.epochs.with_label_values(&[&shard]).set(epoch);
        }
        self.lost_messages.set(i64::try_from((self.lost)()).unwrap_or(i64::MAX));
        [self.shards.collect(), self.epochs.collect(), self.lost_messages.collect()].concat()
    }
}
