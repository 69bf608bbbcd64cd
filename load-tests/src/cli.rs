//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fleet::Plan;

/// Loads a VelocityPulse hub over its public protocol, measures it, and proves that nothing was lost.
///
/// Exits 0 when every check held, 1 when something was lost, repeated or out of order, or the run broke off,
/// and 2 for a wrong command line.
#[derive(Debug, Parser)]
#[command(name = "pulse-load", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Memory per connected agent, connects a second, and the cost of idling.
    Connect(ConnectArgs),
    /// The hub restarts under its agents: time until all are back.
    Storm(StormArgs),
    /// Durable changes a second, and the time from sending to ack and to dashboards.
    Report(ReportArgs),
    /// Events pushed to many dashboards.
    Fanout(FanoutArgs),
    /// Time from an agent's death to its announcement.
    Detect(DetectArgs),
    /// An empty hub: time to ready and memory; and the agent's own cost.
    Idle(IdleArgs),
    /// The hub is killed at random moments under load; nothing may be lost.
    Kill(KillArgs),
}

/// What every scenario takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The hub's binary; started on free ports with a private folder.
    #[arg(long, value_name = "PATH")]
    pub(crate) hub: Option<PathBuf>,
    /// A hub that runs already, such as 127.0.0.1:8080; plain HTTP. Needs --fleet.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "hub")]
    pub(crate) url: Option<String>,
    /// Process of the hub at --url, to measure it.
    #[arg(long, requires = "url")]
    pub(crate) hub_pid: Option<u32>,
    /// `sqlite` or `postgres://user:password@host/database`.
    #[arg(long, default_value = "sqlite")]
    pub(crate) database: String,
    /// Runs; the median and the spread are shown.
    #[arg(long)]
    pub(crate) runs: Option<u32>,
    /// Length of each measured window.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Folder for results and, while it runs, the hub's data. It must be on a real disk.
    #[arg(long, default_value = "target/load")]
    pub(crate) out: PathBuf,
    /// A prepared fleet: made here with its database beside it if absent, and copied for each run.
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,
    /// Let the kernel choose the cores.
    #[arg(long, overrides_with = "pin")]
    pub(crate) no_pin: bool,
    /// Keep hub and generator each on its own core (the default).
    #[arg(long)]
    pub(crate) pin: bool,
    /// Core of the hub.
    #[arg(long, default_value_t = 0)]
    pub(crate) hub_core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub(crate) own_core: usize,
}

/// See [`Scenario::Connect`].
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

/// See [`Scenario::Storm`].
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

/// See [`Scenario::Report`].
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

/// See [`Scenario::Fanout`].
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

/// See [`Scenario::Detect`].
#[derive(Clone, Debug, Args)]
pub(crate) struct DetectArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Agents that die in each way, 1 to 100.
    #[arg(long, default_value_t = 50)]
    pub(crate) agents: usize,
}

/// See [`Scenario::Idle`].
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

/// See [`Scenario::Kill`].
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

impl Scenario {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Storm(_) => "storm",
            Self::Report(_) => "report",
            Self::Fanout(_) => "fanout",
            Self::Detect(_) => "detect",
            Self::Idle(_) => "idle",
            Self::Kill(_) => "kill",
        }
    }

    pub(crate) const fn common(&self) -> &Common {
        match self {
            Self::Connect(args) => &args.common,
            Self::Storm(args) => &args.common,
            Self::Report(args) => &args.common,
            Self::Fanout(args) => &args.common,
            Self::Detect(args) => &args.common,
            Self::Idle(args) => &args.common,
            Self::Kill(args) => &args.common,
        }
    }

    /// Runs, unless the command line says otherwise.
    pub(crate) fn runs(&self) -> u32 {
        // One run of `kill` is fifty kills, and it is a proof, not a figure.
        let usual = if matches!(self, Self::Kill(_)) { 1 } else { 3 };
        self.common().runs.unwrap_or(usual).max(1)
    }

    /// The fleet it needs.
    pub(crate) fn plan(&self) -> Result<Plan> {
        match self {
            Self::Connect(args) => Plan::spread(args.agents, None, args.devices),
            Self::Storm(args) => Plan::spread(args.agents, None, 0),
            Self::Report(args) => Plan::spread(args.agents, Some(args.orgs), args.devices),
            Self::Fanout(args) => Plan::spread(args.agents, Some(args.orgs), 20),
            Self::Detect(args) => {
                ensure!((1..=100).contains(&args.agents), "--agents must be 1 to 100");
                let orgs = crate::scenario::detect::CASES.len();
                Ok(Plan { orgs, agents_per_org: args.agents, devices_per_agent: 0 })
            }
            Self::Idle(_) => Ok(Plan::default()),
            Self::Kill(args) => Plan::spread(args.agents, Some(args.orgs), args.devices),
        }
    }

    /// Connections that are open at once.
    pub(crate) fn connections(&self) -> Result<usize> {
        let viewers = match self {
            Self::Report(args) => args.viewers,
            Self::Fanout(args) => args.viewers,
            Self::Kill(args) => args.viewers,
            Self::Connect(_) | Self::Storm(_) | Self::Detect(_) | Self::Idle(_) => 0,
        };
        Ok(self.plan()?.agents() + viewers)
    }

    /// Whether it starts or stops the hub, which a hub at --url does not allow.
    pub(crate) const fn handles_the_hub(&self) -> bool {
        matches!(self, Self::Storm(_) | Self::Idle(_) | Self::Kill(_))
    }
}

impl Common {
    /// The hub at --url.
    ///
    /// # Errors
    ///
    /// Returns an error for anything but a host and port that resolve.
    pub(crate) fn foreign_address(&self) -> Result<Option<SocketAddr>> {
        use std::net::ToSocketAddrs as _;
        let Some(url) = &self.url else { return Ok(None) };
        let bare = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        ensure!(!bare.contains("://"), "--url takes plain HTTP only, such as 127.0.0.1:8080");
        let found =
            bare.to_socket_addrs().with_context(|| format!("--url {url}: write host:port"))?;
        found.into_iter().next().map(Some).with_context(|| format!("--url {url} has no address"))
    }

    /// Whether one of the two ways to a hub is given.
    pub(crate) fn check(&self, scenario: &Scenario) -> Result<()> {
        match (&self.hub, &self.url) {
            (None, None) => {
                bail!("say which hub: --hub <path to pulse-hub>, or --url with --fleet")
            }
            (None, Some(_)) => {
                ensure!(
                    !scenario.handles_the_hub(),
                    "`{}` starts and stops the hub: give --hub",
                    scenario.name()
                );
                ensure!(self.fleet.is_some(), "--url needs --fleet with a fleet of that hub");
            }
            (Some(_), _) => {}
        }
        ensure!(
            self.database == "sqlite" || self.database.starts_with("postgres"),
            "--database is `sqlite` or `postgres://…`"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &str) -> Scenario {
        Cli::try_parse_from(words.split_whitespace()).unwrap().scenario
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_targets() {
        let connect = parse("pulse-load connect --hub x");
        assert_eq!((connect.connections().unwrap(), connect.runs()), (10_000, 3));
        let fanout = parse("pulse-load fanout --hub x");
        let plan = fanout.plan().unwrap();
        assert_eq!((plan.orgs, fanout.connections().unwrap()), (20, 1_100));
        assert_eq!(parse("pulse-load kill --hub x --kills 5").runs(), 1);
    }

    #[test]
    fn a_hub_must_be_named_and_a_foreign_one_is_not_killed() {
        let check = |words: &str| {
            let scenario = parse(words);
            scenario.common().check(&scenario).map_err(|error| error.to_string())
        };
        assert!(check("pulse-load report").unwrap_err().contains("--hub"));
        assert!(check("pulse-load report --url 127.0.0.1:1").unwrap_err().contains("--fleet"));
        assert!(
            check("pulse-load kill --url 127.0.0.1:1 --fleet f").unwrap_err().contains("--hub")
        );
        assert!(check("pulse-load report --hub x --database mysql://x").is_err());
        assert_eq!(check("pulse-load report --hub x --database postgres://u@h/d"), Ok(()));
    }

    #[test]
    fn a_foreign_address_is_host_and_port() {
        let at = |url: &str| {
            let scenario = parse(&format!("pulse-load report --fleet f --url {url}"));
            scenario.common().foreign_address()
        };
        assert_eq!(at("http://127.0.0.1:8080/").unwrap(), Some(([127, 0, 0, 1], 8080).into()));
        assert!(at("https://127.0.0.1:8080").is_err());
        assert!(at("nowhere").is_err());
    }
}
