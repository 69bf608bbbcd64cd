//! `pulse-load`: the load harness of VelocityPulse Hub.
//!
//! It speaks only the public protocol, as agents, dashboards, webhook receivers and REST clients do, and never
//! links the hub. Each scenario measures one thing on a hub of its own, several times, and the checker proves
//! that nothing was lost, repeated or out of order meanwhile.

mod agent;
mod checker;
mod cli;
mod cluster;
mod crew;
mod entrance;
mod fleet;
mod hooks;
mod hub;
mod journal;
mod machine;
mod output;
mod receiver;
mod rest;
mod rig;
mod scenario;
mod session;
#[cfg(test)]
mod smoke;
mod socket;
mod stage;
mod stats;
mod viewer;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Scenario};
use crate::output::say;
use crate::stage::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = cli.scenario.common().check(&cli.scenario) {
        say(&format!("{error:#}"));
        return ExitCode::from(2);
    }
    match measure(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays the scenario, or breaks off when this process is told to end: then what it started ends with it.
async fn played(scenario: &Scenario) -> Result<Outcome> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = stage::play(scenario) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
    }
}

/// Runs the scenario and prints its table. Whether every check held.
fn measure(cli: &Cli) -> Result<bool> {
    // One thread: the generator has one core, and the hub the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(played(&cli.scenario))?;
    std::io::stdout().lock().write_all(outcome.table.as_bytes())?;
    Ok(outcome.is_clean)
}
