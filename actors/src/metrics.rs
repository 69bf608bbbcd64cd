//! The numbers an operator needs to see of the actors.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Metrics of the actors.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Orgs that have a home here.
    pub orgs: IntGauge,
    /// Agents attached to homes here.
    pub agents: IntGauge,
    /// Dashboards watching homes here; those of another node count as one.
    pub viewers: IntGauge,
    /// Actors started, by kind.
    pub starts: IntCounterVec,
    /// Homes thrown away because a commit failed.
    pub failed_homes: IntCounter,
    /// Events pushed, counted once per viewer.
    pub pushed: IntCounter,
    /// Seconds from the decision of an event to its push to viewers.
    pub push_lag: Histogram,
    /// Batches decided and not yet durable.
    pub undurable: IntGauge,
    /// Deliveries that came into each state.
    pub deliveries: IntCounterVec,
    /// Attempts of deliveries, by outcome.
    pub attempts: IntCounterVec,
    /// Seconds one attempt took.
    pub attempt_duration: Histogram,
    /// Mails that came into each state, by template.
    pub mails: IntCounterVec,
    /// Attempts of mails, by outcome.
    pub mail_attempts: IntCounterVec,
    /// Lines between nodes, by the end that is here.
    pub lines: IntGaugeVec,
    /// Rounds of this node's part in a cluster, by how they ended.
    pub rounds: IntCounterVec,
    /// Events of the orgs of each shard that had its home here.
    pub shard_events: IntCounterVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    ///
    /// Returns an error when `registry` holds one of the names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let lag = vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
        let slow = vec![0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0];
        let gauge = |name, help| IntGauge::new(name, help);
        let metrics = Self {
            orgs: gauge("pulse_orgs", "Orgs that have a home on this node")?,
            agents: gauge("pulse_agents_attached", "Agents attached to homes on this node")?,
            viewers: gauge(
                "pulse_viewers",
                "Dashboards watching homes on this node; those behind one line count as one",
            )?,
            starts: IntCounterVec::new(
                Opts::new("pulse_actor_starts_total", "Actors started"),
                &["kind"],
            )?,
            failed_homes: IntCounter::new(
                "pulse_failed_homes_total",
                "Homes thrown away after a failed commit",
            )?,
            pushed: IntCounter::new("pulse_events_pushed_total", "Events pushed, once per viewer")?,
            push_lag: Histogram::with_opts(
                HistogramOpts::new("pulse_push_lag_seconds", "From decision to push").buckets(lag),
            )?,
            undurable: gauge("pulse_undurable_batches", "Batches decided and not yet durable")?,
            deliveries: IntCounterVec::new(
                Opts::new("pulse_deliveries_total", "Deliveries that came into each state"),
                &["state"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new("pulse_delivery_attempts_total", "Attempts of deliveries"),
                &["outcome"],
            )?,
            attempt_duration: Histogram::with_opts(
                HistogramOpts::new("pulse_delivery_attempt_seconds", "Duration of attempts")
                    .buckets(slow),
            )?,
            mails: IntCounterVec::new(
                Opts::new("pulse_mails_total", "Mails that came into each state"),
                &["template", "state"],
            )?,
            mail_attempts: IntCounterVec::new(
                Opts::new("pulse_mail_attempts_total", "Attempts of mails"),
                &["outcome"],
            )?,
            lines: IntGaugeVec::new(
                Opts::new("pulse_cluster_lines", "Lines between nodes, by the end that is here"),
                &["end"],
            )?,
            rounds: IntCounterVec::new(
                Opts::new("pulse_cluster_rounds_total", "Rounds of renewing leases"),
                &["outcome"],
            )?,
            shard_events: IntCounterVec::new(
                Opts::new("pulse_cluster_shard_events_total", "Events committed by homes here"),
                &["shard"],
            )?,
        };
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn prometheus::core::Collector>> {
        vec![
            Box::new(self.orgs.clone()),
            Box::new(self.agents.clone()),
            Box::new(self.viewers.clone()),
            Box::new(self.starts.clone()),
            Box::new(self.failed_homes.clone()),
            Box::new(self.pushed.clone()),
            Box::new(self.push_lag.clone()),
            Box::new(self.undurable.clone()),
            Box::new(self.deliveries.clone()),
            Box::new(self.attempts.clone()),
            Box::new(self.attempt_duration.clone()),
            Box::new(self.mails.clone()),
            Box::new(self.mail_attempts.clone()),
            Box::new(self.lines.clone()),
            Box::new(self.rounds.clone()),
            Box::new(self.shard_events.clone()),
        ]
    }
}
