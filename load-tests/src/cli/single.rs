//! Command lines of the scenarios that have one hub.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Common;

/// See [`super::Scenario::Connect`].
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents, 100 to an org.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) agents: usize,
    /// Devices of each agent.
    #[arg(long, default_value_t = 0)]
    pub(crate) devices: usize,
    /// Connections being opened at once.
    #[arg(long, default_value_t = 256)]
    pub(crate) in_flight: usize,
}

/// How the hub is brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Term,
    /// One after the other.
    Both,
}

/// See [`super::Scenario::Storm`].
#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents, 100 to an org.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) agents: usize,
    /// How the hub is brought down.
    #[arg(long, value_enum, default_value_t = Blow::Both)]
    pub(crate) signal: Blow,
}

/// See [`super::Scenario::Report`].
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents that report.
    #[arg(long, default_value_t = 100)]
    pub(crate) agents: usize,
    /// Orgs they belong to.
    #[arg(long, default_value_t = 10)]
    pub(crate) orgs: usize,
    /// Devices of each agent.
    #[arg(long, default_value_t = 20)]
    pub(crate) devices: usize,
    /// Changes in one frame, 1 to 500.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) reports_per_frame: u16,
    /// Dashboards, shared out over the orgs; with them the time to the push is measured too.
    #[arg(long, default_value_t = 0)]
    pub(crate) viewers: usize,
    /// Changes a second while the time to the push is measured.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) rate: u32,
}

/// See [`super::Scenario::Fanout`].
#[derive(Clone, Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Orgs.
    #[arg(long, default_value_t = 20)]
    pub(crate) orgs: usize,
    /// Dashboards, shared out over the orgs.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) viewers: usize,
    /// Agents that report, shared out over the orgs.
    #[arg(long, default_value_t = 100)]
    pub(crate) agents: usize,
    /// Changes in one frame, 1 to 500: the pushing is measured, not the taking in.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) reports_per_frame: u16,
    /// Deliveries a second to begin with.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) from: u32,
    /// Each step is so many times the one before.
    #[arg(long, default_value_t = 1.25)]
    pub(crate) step: f64,
    /// One event in so many is timed.
    #[arg(long, default_value_t = 10)]
    pub(crate) sample_every: u64,
}

/// See [`super::Scenario::Detect`].
#[derive(Clone, Debug, Args)]
pub(crate) struct DetectArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents that die in each way, 1 to 100.
    #[arg(long, default_value_t = 50)]
    pub(crate) agents: usize,
}

/// See [`super::Scenario::Idle`].
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The agent's binary, to measure it as well.
    #[arg(long, value_name = "PATH")]
    pub(crate) agent: Option<PathBuf>,
    /// Checks a minute that the agent runs.
    #[arg(long, default_value_t = 100)]
    pub(crate) checks: usize,
}

/// See [`super::Scenario::Kill`].
#[derive(Clone, Debug, Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How often the hub is killed.
    #[arg(long, default_value_t = 50)]
    pub(crate) kills: u32,
    /// Agents under load.
    #[arg(long, default_value_t = 20)]
    pub(crate) agents: usize,
    /// Orgs they belong to.
    #[arg(long, default_value_t = 4)]
    pub(crate) orgs: usize,
    /// Devices of each agent.
    #[arg(long, default_value_t = 10)]
    pub(crate) devices: usize,
    /// Dashboards, shared out over the orgs.
    #[arg(long, default_value_t = 8)]
    pub(crate) viewers: usize,
    /// Changes a second in all; half of them call for a delivery.
    #[arg(long, default_value_t = 200)]
    pub(crate) rate: u32,
    /// Longest life of the hub between two kills, in milliseconds.
    #[arg(long, default_value_t = 2_500)]
    pub(crate) life_ms_max: u64,
    /// Seconds that the last deliveries are waited for.
    #[arg(long, default_value_t = 180)]
    pub(crate) settle_seconds: u64,
}

/// A part of [`super::Scenario::Deliveries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeliveriesPart {
    /// Good receivers: webhooks a second, and how soon they arrive.
    Throughput,
    /// What the hanging endpoints of some tenants cost the others.
    Fairness,
    /// Receivers of every manner: nothing is lost, made up or left lying.
    Faults,
}

/// See [`super::Scenario::Deliveries`].
#[derive(Clone, Debug, Args)]
pub(crate) struct DeliveriesArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Only this part; may be given several times.
    #[arg(long = "part", value_enum)]
    pub(crate) parts: Vec<DeliveriesPart>,
    /// Orgs, with an agent and a webhook each.
    #[arg(long, default_value_t = 100)]
    pub(crate) tenants: usize,
    /// Devices of each.
    #[arg(long, default_value_t = 20)]
    pub(crate) devices: usize,
    /// Changes a second that the most is measured with; each calls for a webhook.
    #[arg(long, default_value_t = 6_000)]
    pub(crate) rate: u32,
    /// Changes a second while the tenants are compared.
    #[arg(long, default_value_t = 500)]
    pub(crate) fair_rate: u32,
    /// Rounds with none, one and a tenth of the tenants hanging.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Changes a second of all tenants among bad receivers; twelve tenants have one each.
    #[arg(long, default_value_t = 200)]
    pub(crate) fault_rate: u32,
    /// How long changes come among bad receivers.
    #[arg(long, default_value_t = 20)]
    pub(crate) fault_seconds: u64,
    /// Kill the hub (SIGKILL) among bad receivers at random moments, so many seconds apart on average.
    #[arg(long)]
    pub(crate) kill_every: Option<f64>,
    /// Draws the moments; the same seed draws the same ones.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Seconds that the last deliveries of a part are waited for.
    #[arg(long, default_value_t = 180)]
    pub(crate) settle_seconds: u64,
}

impl DeliveriesArgs {
    pub(crate) fn plays(&self, part: DeliveriesPart) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}
