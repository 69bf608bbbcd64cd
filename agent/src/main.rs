//! The monitoring agent of `VelocityPulse`: reads its configuration, runs, stops on a signal.
//!
//! Exit codes: 0 stopped by a signal, or by the hub's `restart` (a service manager that restarts always brings it
//! back), 1 could not start, 2 wrong configuration.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use pulse_agent::config::{Args, Config};
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Threads for name look-ups, which the system only does blocking.
const BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    let config = match Config::check(&Args::parse()) {
        Ok(config) => config,
        Err(faults) => {
            let command = <Args as clap::CommandFactory>::command();
            let message = format!("{}: {faults}\n", command.get_name());
            // Before there is a log, the terminal is all there is; if it is gone too, the exit code still tells.
            let _unheard = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(config.log.clone()).init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    // One thread: the agent waits far more than it works, and each thread costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the asynchronous runtime could not be started")?;
    info!(version = env!("CARGO_PKG_VERSION"), "agent starts");
    let outcome = runtime.block_on(async {
        let stop = stop_signal().context("signals cannot be received")?;
        pulse_agent::run(config, stop).await.map_err(anyhow::Error::from)
    });
    // A name look-up that hangs must not keep the agent from stopping.
    runtime.shutdown_background();
    info!("agent stops");
    outcome
}

#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without the signal the agent runs until it is killed, which its spool survives.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}
