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
    /// Deliveries that ended without being delivered, by state and why.
    pub ended: IntCounterVec,
    /// Attempts of deliveries, by kind of channel and outcome.
    pub attempts: IntCounterVec,
    /// Seconds one attempt took.
    pub attempt_duration: Histogram,
    /// Mails that came into each state, by template.
    pub mails: IntCounterVec,
    /// Attempts of mails, by outcome.
    pub mail_attempts: IntCounterVec,
    /// Seconds from the instant an attempt was due to its start.
    pub delivery_lag: Histogram,
    /// Seconds from an event to its acceptance by a receiver.
    pub delivery_latency: Histogram,
    /// Attempts under way.
    pub in_flight: IntGauge,
    /// Channels of homes here, by health.
    pub channels: IntGaugeVec,
    /// Channels of homes here that keep failing.
    pub failing_channels: IntGauge,
    /// Seconds since the oldest unfinished delivery of all orgs was called for.
    pub oldest_undelivered: IntGauge,
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
        let long = vec![0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
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
            ended: IntCounterVec::new(
                Opts::new(
                    "pulse_deliveries_undelivered_total",
                    "Deliveries that ended without being delivered",
                ),
                &["state", "reason"],
            )?,
            attempts: IntCounterVec::new(
                Opts::new("pulse_delivery_attempts_total", "Attempts of deliveries"),
                &["kind", "outcome"],
            )?,
            attempt_duration: Histogram::with_opts(
                HistogramOpts::new("pulse_delivery_attempt_seconds", "Duration of attempts")
                    .buckets(slow.clone()),
            )?,
            delivery_lag: Histogram::with_opts(
                HistogramOpts::new("pulse_delivery_lag_seconds", "From due to the attempt's start")
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
            delivery_latency: Histogram::with_opts(
                HistogramOpts::new("pulse_delivery_latency_seconds", "From event to acceptance")
                    .buckets(long),
            )?,
            in_flight: gauge("pulse_deliveries_in_flight", "Attempts under way on this node")?,
            channels: IntGaugeVec::new(
                Opts::new("pulse_channels", "Channels of homes on this node, by health"),
                &["health"],
            )?,
            failing_channels: gauge(
                "pulse_delivery_failing_channels",
                "Channels of homes on this node that keep failing",
            )?,
            oldest_undelivered: gauge(
                "pulse_delivery_oldest_seconds",
                "Age of the oldest unfinished delivery of all orgs",
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
            Box::new(self.ended.clone()),
            Box::new(self.attempts.clone()),
            Box::new(self.attempt_duration.clone()),
            Box::new(self.mails.clone()),
            Box::new(self.mail_attempts.clone()),
            Box::new(self.delivery_lag.clone()),
            Box::new(self.delivery_latency.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.channels.clone()),
            Box::new(self.failing_channels.clone()),
            Box::new(self.oldest_undelivered.clone()),
            Box::new(self.lines.clone()),
            Box::new(self.rounds.clone()),
            Box::new(self.shard_events.clone()),
        ]
    }
}
