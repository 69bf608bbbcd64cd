//! The command line.

mod cluster;
mod single;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

pub(crate) use self::cluster::{ChaosArgs, Nodes, RollingArgs, ScaleArgs};
pub(crate) use self::single::{
    Blow, ConnectArgs, DeliveriesArgs, DeliveriesPart, DetectArgs, FanoutArgs, IdleArgs, KillArgs,
    ReportArgs, StormArgs,
};
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

/// Values of --database that are no URL.
const SQLITE: &str = "sqlite";
const PRIVATE: &str = "private";

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
    /// Webhooks a second, what hanging endpoints cost others, and that nothing is lost among bad receivers.
    Deliveries(DeliveriesArgs),
    /// Faults of every kind on several nodes under load; nothing may be lost, and all must recover.
    Chaos(ChaosArgs),
    /// Each node of a cluster restarts in turn under its agents; nobody may notice.
    Rolling(RollingArgs),
    /// What an agent and a change cost on one hub, and on one, two and three nodes.
    Scale(ScaleArgs),
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
    /// `sqlite` (the default of one hub), `postgres://user:password@host/database`, or, for several nodes, `private`
    /// (their default): a PostgreSQL made for the run.
    #[arg(long)]
    pub(crate) database: Option<String>,
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
            Self::Deliveries(_) => "deliveries",
            Self::Chaos(_) => "chaos",
            Self::Rolling(_) => "rolling",
            Self::Scale(_) => "scale",
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
            Self::Deliveries(args) => &args.common,
            Self::Chaos(args) => &args.common,
            Self::Rolling(args) => &args.common,
            Self::Scale(args) => &args.common,
        }
    }

    /// Runs, unless the command line says otherwise.
    pub(crate) fn runs(&self) -> u32 {
        // One run of `kill` is fifty kills, and it is a proof, not a figure; those of several nodes are long.
        let usual = if matches!(self, Self::Kill(_)) || self.cluster().is_some() { 1 } else { 3 };
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
                Ok(Plan { orgs, agents_per_org: args.agents, ..Plan::default() })
            }
            Self::Idle(_) => Ok(Plan::default()),
            Self::Kill(args) => Plan::spread(args.agents, Some(args.orgs), args.devices),
            Self::Deliveries(args) => Plan::spread(args.tenants, Some(args.tenants), args.devices),
            Self::Chaos(args) => Plan::spread(args.agents, Some(args.orgs), args.devices),
            Self::Rolling(args) => Plan::spread(args.agents, None, 1),
            Self::Scale(args) => args.plan(args.agents.iter().copied().max().unwrap_or(0)),
        }
    }

    /// Connections that are open at once.
    pub(crate) fn connections(&self) -> Result<usize> {
        let viewers = match self {
            Self::Report(args) => args.viewers,
            Self::Fanout(args) => args.viewers,
            Self::Kill(args) => args.viewers,
            Self::Chaos(args) => args.viewers,
            Self::Rolling(args) => args.viewers,
            Self::Connect(_)
            | Self::Storm(_)
            | Self::Detect(_)
            | Self::Idle(_)
            | Self::Deliveries(_)
            | Self::Scale(_) => 0,
        };
        Ok(self.plan()?.agents() + viewers)
    }

    /// Whether it starts or stops the hub, which a hub at --url does not allow.
    pub(crate) const fn handles_the_hub(&self) -> bool {
        match self {
            Self::Storm(_) | Self::Idle(_) | Self::Kill(_) => true,
            Self::Deliveries(args) => args.kill_every.is_some(),
            _ => self.cluster().is_some(),
        }
    }

    /// What a scenario with several nodes takes besides.
    pub(crate) const fn cluster(&self) -> Option<&Nodes> {
        match self {
            Self::Chaos(args) => Some(&args.cluster),
            Self::Rolling(args) => Some(&args.cluster),
            Self::Scale(args) => Some(&args.cluster),
            _ => None,
        }
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
        let database = self.database.as_deref();
        let is_postgres = database.is_some_and(|url| url.starts_with("postgres"));
        if scenario.cluster().is_some() {
            ensure!(
                is_postgres || matches!(database, None | Some(PRIVATE)),
                "--database is `private` or `postgres://…`: several nodes need a PostgreSQL"
            );
            ensure!(self.fleet.is_none(), "`{}` makes its own fleet", scenario.name());
        } else {
            ensure!(
                is_postgres || matches!(database, None | Some(SQLITE)),
                "--database is `sqlite` or `postgres://…`"
            );
        }
        Ok(())
    }

    /// The PostgreSQL that is given.
    pub(crate) fn postgres(&self) -> Option<&str> {
        self.database.as_deref().filter(|url| url.starts_with("postgres"))
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
        let deliveries = parse("pulse-load deliveries --hub x");
        let plan = deliveries.plan().unwrap();
        assert_eq!((plan.orgs, plan.agents_per_org, deliveries.runs()), (100, 1, 3));
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
        assert!(check("pulse-load deliveries --url 127.0.0.1:1 --fleet f --kill-every 2").is_err());
        assert_eq!(check("pulse-load deliveries --url 127.0.0.1:1 --fleet f"), Ok(()));
        assert!(check("pulse-load report --hub x --database mysql://x").is_err());
        assert_eq!(check("pulse-load report --hub x --database postgres://u@h/d"), Ok(()));
    }

    #[test]
    fn several_nodes_need_a_postgresql() {
        let check = |words: &str| {
            let scenario = parse(words);
            scenario.common().check(&scenario).map_err(|error| error.to_string())
        };
        assert_eq!(check("pulse-load chaos --hub x"), Ok(()));
        assert_eq!(check("pulse-load rolling --hub x --database private"), Ok(()));
        assert_eq!(check("pulse-load scale --hub x --database postgres://u@h/d"), Ok(()));
        assert!(check("pulse-load chaos --hub x --database sqlite").is_err());
        assert!(check("pulse-load kill --hub x --database private").is_err());
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
