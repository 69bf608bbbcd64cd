//! Command lines of the scenarios that start several nodes.

use std::path::PathBuf;

use clap::Args;

use super::Common;
use crate::scenario::chaos::fault::Kind;

/// What every scenario with several nodes takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Nodes {
    /// Hubs on one PostgreSQL and one Redis.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) nodes: u16,
    /// Folder of PostgreSQL's programs, for a private server; the newest installed ones otherwise.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) postgres_bin: Option<PathBuf>,
}

/// See [`super::Scenario::Chaos`].
#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) cluster: Nodes,
    /// How long faults are inflicted.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) minutes: f64,
    /// Each kind of fault so often, and then no more, however long it takes.
    #[arg(long, conflicts_with = "minutes")]
    pub(crate) rounds: Option<u32>,
    /// Seconds from one fault to the next, or until all has recovered from it if that takes longer.
    #[arg(long, default_value_t = 20)]
    pub(crate) every: u64,
    /// Draws the faults; the same seed draws the same ones.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How long a fault lasts, in seconds; drawn for each, if not said.
    #[arg(long)]
    pub(crate) lasting: Option<f64>,
    /// Only these faults.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Kind>,
    /// Agents under load.
    #[arg(long, default_value_t = 24)]
    pub(crate) agents: usize,
    /// Orgs they belong to.
    #[arg(long, default_value_t = 8)]
    pub(crate) orgs: usize,
    /// Devices of each agent.
    #[arg(long, default_value_t = 10)]
    pub(crate) devices: usize,
    /// Dashboards, shared out over the orgs.
    #[arg(long, default_value_t = 16)]
    pub(crate) viewers: usize,
    /// Changes a second in all; half of them call for a delivery.
    #[arg(long, default_value_t = 100)]
    pub(crate) rate: u32,
    /// Writes over REST a second in all.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) writes: f64,
    /// Seconds that the last deliveries are waited for.
    #[arg(long, default_value_t = 180)]
    pub(crate) settle_seconds: u64,
}

/// See [`super::Scenario::Rolling`].
#[derive(Clone, Debug, Args)]
pub(crate) struct RollingArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) cluster: Nodes,
    /// Agents, 100 to an org.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) agents: usize,
    /// Dashboards, shared out over the orgs.
    #[arg(long, default_value_t = 50)]
    pub(crate) viewers: usize,
    /// Changes a second in all.
    #[arg(long, default_value_t = 500)]
    pub(crate) rate: u32,
}

/// See [`super::Scenario::Scale`].
#[derive(Clone, Debug, Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) cluster: Nodes,
    /// Agents in all, 100 to an org; each number is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    pub(crate) agents: Vec<usize>,
    /// So many of them report.
    #[arg(long, default_value_t = 100)]
    pub(crate) reporting: usize,
    /// Devices of each agent that reports.
    #[arg(long, default_value_t = 20)]
    pub(crate) devices: usize,
    /// Changes a second at which the time to the ack is compared.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u32,
}
