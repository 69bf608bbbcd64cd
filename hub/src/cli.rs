//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{DeliveryState, Plan};
use pulse_protocol::ids::{ChannelId, OrgId};

use crate::config::Overrides;

/// Longest name of an org, in characters.
const ORG_NAME_CHARS_MAX: usize = 100;
/// Longest mail address, in characters (RFC 5321).
const EMAIL_CHARS_MAX: usize = 254;

/// VelocityPulse Hub: knows which agents and devices are up, and says so when one goes down.
#[derive(Debug, Parser)]
#[command(name = "pulse-hub", version, about)]
pub(crate) struct Cli {
    /// Configuration file; ./pulse.toml if that exists. The environment and flags override it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the hub (the default)
    Serve,
    /// Run a hub with three agents and a webhook receiver on this machine, to try it out
    Demo(DemoArgs),
    /// Bring the tables up to date and stop
    Migrate,
    /// Look at the hub's own mail
    #[command(subcommand)]
    Mails(MailsCommand),
    /// Copy a stopped hub on SQLite into an empty PostgreSQL, and print the rows of each table as JSON
    ///
    /// First run `migrate` on the target. The secrets stay encrypted as they are: the hub that opens the copy
    /// needs the same PULSE_SECRET_KEY. All is copied or nothing is.
    Copy {
        /// The target, postgres://…; PGPASSWORD keeps a password off the command line
        #[arg(long, value_name = "URL", value_parser = parse_postgres)]
        to: String,
    },
    /// Look at the cluster that PULSE_REDIS_URL names
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Check the whole configuration and stop: exit 0 if it is good, 2 if not
    CheckConfig,
    /// Print the effective configuration as TOML, with secrets redacted
    Config,
    /// Set up and look after organisations
    #[command(subcommand)]
    Admin(Admin),
    /// Look at what was told to whom
    #[command(subcommand)]
    Deliveries(Deliveries),
}

/// What to see of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// List the nodes, whether they live, and how many of the 1,024 shards each is home to; exit 1 if some have none
    Status {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the demo keeps its files and finds its agent.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Emptied at every start
    #[arg(long, value_name = "FOLDER", default_value = ".cache/demo")]
    pub(crate) dir: PathBuf,
    /// The agent's program; pulse-agent beside this program by default
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
}

/// What an operator can see of the hub's own mail.
#[derive(Debug, Subcommand)]
pub(crate) enum MailsCommand {
    /// Print mails as JSON, one a line, the newest first; not what they say
    List {
        /// Of this organisation; without it, those that belong to none
        #[arg(long, value_name = "ORG")]
        org: Option<OrgId>,
        /// Only those in this state, such as dead or suppressed
        #[arg(long, value_parser = parse_state)]
        state: Option<DeliveryState>,
        /// At most this many
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
    },
}

/// Addresses that get no mail.
#[derive(Debug, Subcommand)]
pub(crate) enum SuppressionsCommand {
    /// Print them as JSON, one a line
    List {
        /// Of this organisation alone
        #[arg(long, value_name = "ORG")]
        org: Option<OrgId>,
    },
    /// Let an address get mail again
    Remove {
        /// The address
        #[arg(value_name = "ADDRESS", value_parser = parse_email)]
        address: String,
        /// Of this organisation; without it, the mail of all
        #[arg(long, value_name = "ORG")]
        org: Option<OrgId>,
    },
}

/// What an operator can do to organisations.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Make an organisation with an owner, and print {org_id, user_id, api_token, password} as JSON
    ///
    /// Run again for the same mail address and name it prints the same ids, and null for the token and the
    /// password. May run beside a live hub.
    Bootstrap(BootstrapArgs),
    /// Suspend an organisation: its agents and dashboards are cut off within 5 s
    Suspend {
        /// Its id
        #[arg(value_name = "ORG")]
        org_id: OrgId,
        /// Why; kept in its journal
        #[arg(long, value_parser = parse_reason)]
        reason: String,
    },
    /// Addresses that get no mail, because it came back or they unsubscribed
    #[command(subcommand)]
    Suppressions(SuppressionsCommand),
    /// Let a suspended organisation work again
    Reactivate {
        /// Its id
        #[arg(value_name = "ORG")]
        org_id: OrgId,
    },
}

/// What to do with deliveries.
#[derive(Debug, Subcommand)]
pub(crate) enum Deliveries {
    /// Print an organisation's deliveries with their attempts, newest first, one JSON object a line
    ///
    /// May run beside a live hub. To try dead ones again, ask that hub: POST …/deliveries/replay.
    List(DeliveriesArgs),
}

/// Which deliveries.
#[derive(Debug, Args)]
pub(crate) struct DeliveriesArgs {
    /// Id of the organisation
    #[arg(value_name = "ORG")]
    pub(crate) org_id: OrgId,
    /// queued, retrying, delivered, dead, suppressed, superseded or discarded
    #[arg(long, value_parser = parse_state)]
    pub(crate) state: Option<DeliveryState>,
    /// Only those to this channel
    #[arg(long, value_name = "ID")]
    pub(crate) channel: Option<ChannelId>,
    /// Only those of events of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// Only those called for at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// Only those called for before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// At most this many
    #[arg(long, default_value_t = 1_000)]
    pub(crate) limit: u32,
}

/// Whom to make.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// Mail address of the owner
    #[arg(long, value_parser = parse_email)]
    pub(crate) email: String,
    /// Name of the organisation
    #[arg(long, value_parser = parse_org_name)]
    pub(crate) org: String,
    /// trial, starter or unlimited
    #[arg(long, value_parser = parse_plan)]
    pub(crate) plan: Plan,
    /// Replace the password and the API token if the organisation exists already
    #[arg(long)]
    pub(crate) rotate: bool,
}

fn parse_state(text: &str) -> Result<DeliveryState, String> {
    let words: Vec<_> = DeliveryState::ALL.iter().map(|state| state.as_str()).collect();
    DeliveryState::from_word(text).ok_or_else(|| format!("choose one of {}", words.join(", ")))
}

fn parse_plan(text: &str) -> Result<Plan, String> {
    Plan::from_word(text).ok_or_else(|| "choose trial, starter or unlimited".to_owned())
}

/// A fault never shows the text: it may hold a password.
fn parse_postgres(text: &str) -> Result<String, String> {
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    is_postgres.then(|| text.to_owned()).ok_or_else(|| "write postgres://user@host/name".to_owned())
}

fn parse_email(text: &str) -> Result<String, String> {
    let email = text.trim().to_lowercase();
    let whole = email
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    let fits = email.chars().count() <= EMAIL_CHARS_MAX && !email.contains(char::is_whitespace);
    (whole && fits).then_some(email).ok_or_else(|| "write it like ops@example.com".to_owned())
}

fn parse_org_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let fits = (1..=ORG_NAME_CHARS_MAX).contains(&name.chars().count());
    fits.then(|| name.to_owned()).ok_or_else(|| format!("1 to {ORG_NAME_CHARS_MAX} characters"))
}

fn parse_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    (!reason.is_empty()).then(|| reason.to_owned()).ok_or_else(|| "say why".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_the_hub_serves() {
        assert!(Cli::try_parse_from(["pulse-hub"]).unwrap().command.is_none());
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::try_parse_from(["pulse-hub", "serve", "--listen", "127.0.0.1:1"]).unwrap();
        assert_eq!(cli.overrides.listen.as_deref(), Some("127.0.0.1:1"));
    }

    #[test]
    fn bootstrap_takes_only_known_plans_and_whole_addresses() {
        let parse = |email: &str, plan: &str| {
            Cli::try_parse_from([
                "pulse-hub",
                "admin",
                "bootstrap",
                "--email",
                email,
                "--org",
                "Acme",
                "--plan",
                plan,
            ])
            .is_ok()
        };
        assert!(parse("Ops@Example.com", "starter"));
        assert!(!parse("ops@example.com", "gold"));
        assert!(!parse("ops", "starter"));
        assert!(!parse("ops@", "starter"));
    }
}
