//! The hub's program: parse the command line, match, return.

mod admin;
mod app;
mod cli;
mod cluster;
mod config;
mod copy;
mod database;
mod deliveries;
mod demo;
mod kinds;
mod mails;
mod metrics;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing::warn;

use cli::{Cli, ClusterCommand, Command};
use config::{Config, Faults};

/// Its blocks of whole pages are aligned to pages, so that the untouched half of a socket's buffers costs nothing.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a command that failed.
const FAILED: u8 = 1;
/// Exit code of a wrong command line or configuration.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "pulse-hub: {error:#}");
            ExitCode::from(if error.is::<Faults>() { MISUSE } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = || Config::load(cli.config.as_deref(), environment(), &cli.overrides);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config()?),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Migrate => block_on(database::migrate(config()?)),
        Command::Copy { to } => block_on(copy::run(config()?, to)),
        Command::Cluster(ClusterCommand::Status { json }) => {
            block_on(cluster::status::run(config()?, json))
        }
        Command::CheckConfig => {
            config()?;
            Ok(writeln!(std::io::stderr(), "the configuration is good")?)
        }
        Command::Config => Ok(write!(std::io::stdout(), "{}", config()?.to_toml()?)?),
        Command::Mails(command) => block_on(mails::run(config()?, command)),
        Command::Admin(command) => block_on(admin::run(config()?, command)),
        Command::Deliveries(command) => block_on(deliveries::run(config()?, command)),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    for integration in &config.unused {
        warn!(integration, "configured, but this version does not use it");
    }
    block_on(app::serve(config))
}

/// Runs on one thread, with actix's arbiter on it.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Fails only if a provider was installed before, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    actix::System::new().block_on(work)
}

/// Variables that are no UTF-8 come with replacement characters, and are then faults like any other.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
