//! The monitoring agent of `VelocityPulse`.
//!
//! Three parts run beside each other: the [`agent`] runs checks and scans, the [`recorder`] makes their results
//! durable in the [`spool`], the [`link`] carries the spool to the hub. Each can stand still without the others
//! noticing more than a growing spool.

pub mod agent;
pub mod check;
pub mod command;
pub mod config;
pub mod host;
mod last_config;
pub mod link;
pub mod network;
pub mod policy;
pub mod recorder;
pub mod scan;
pub mod schedule;
pub mod spool;

use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::agent::{Bye, ByeReason};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::warn;

use crate::agent::{Agent, Ports};
use crate::check::ping::Pings;
use crate::check::{Checker, public_roots};
use crate::config::Config;
use crate::host::Host;
use crate::link::Link;
use crate::recorder::Recorder;
use crate::spool::{Spool, SpoolError, lock_directory};

/// Time for what was recorded to be stored before the agent stops.
const SETTLE: Duration = Duration::from_millis(400);
/// Time for the link to say bye.
const LEAVE: Duration = Duration::from_millis(1400);
/// When the agent is back after a restart, at the latest: the service manager's pause and its own start.
const BACK_AFTER_MS: u64 = 15_000;

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory or the spool in it cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The system gives no thread.
    #[error("the system gives no thread for the spool")]
    Thread(#[source] std::io::Error),
}

/// Runs the agent until `stop` is done or the hub tells it to restart.
///
/// # Errors
///
/// Returns [`StartError`] if it could not begin.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let _lock = lock_directory(&config.data_dir)?;
    let spool = Spool::open_or_replace(&config.data_dir, config.spool_bytes_max)?;
    let (commands, scans) = (spool.commands()?, spool.open_scans()?);
    let (recorder, _thread) =
        Recorder::start(spool, config.data_dir.clone()).map_err(StartError::Thread)?;
    let (news_sender, news) = mpsc::channel(64);
    let (progress, progress_receiver) = mpsc::channel(16);
    let (leave_sender, leave) = watch::channel(None);
    let roots = Arc::new(public_roots());
    let tls = Arc::new(tls_config(RootCertStore::clone(&roots)));
    let link = Link {
        session_url: config.session_url,
        key: config.key,
        tls: Arc::clone(&tls),
        host: Host::default(),
        recorder: recorder.clone(),
        news: news_sender,
        progress: progress_receiver,
        leave,
    };
    let mut link = tokio::spawn(link.run());
    let pings = Arc::new(Pings::default());
    let checker = Arc::new(Checker::new(Arc::clone(&pings), tls, roots));
    let data_dir = config.data_dir;
    let networks = config.networks;
    let ports =
        Ports { recorder: recorder.clone(), news, progress, pings, checker, data_dir, networks };
    let mut agent = Agent::new(ports, commands.iter().map(|(id, _)| *id).collect());
    let unfinished =
        commands.into_iter().filter(|(_, finished)| !finished).map(|(id, _)| id).collect();
    agent.end_leftovers(unfinished, scans);
    let bye = tokio::select! {
        () = agent.run() => Bye { reason: ByeReason::Restart, expect_back_ms: Some(BACK_AFTER_MS) },
        () = stop => Bye { reason: ByeReason::Shutdown, expect_back_ms: None },
    };
    if timeout(SETTLE, recorder.settle()).await.is_err() {
        warn!("the disk does not answer; results of the last moments may be lost");
    }
    leave_sender.send_replace(Some(bye));
    if timeout(LEAVE, &mut link).await.is_err() {
        warn!("the hub could not be told that the agent stops");
        link.abort();
    }
    Ok(())
}

/// The cryptography used everywhere.
fn tls_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that trusts `roots`.
fn tls_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(tls_provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap_or_else(|_| unreachable!("ring offers every version that rustls has by default"))
        .with_root_certificates(roots)
        .with_no_client_auth()
}
