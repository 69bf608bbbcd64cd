//! What the demo's agents check: a port that answers and one that does not.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// Addresses to check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    /// Accepts connections for as long as the demo runs.
    pub(super) live: SocketAddr,
    /// Nothing listens there.
    pub(super) dead: SocketAddr,
}

/// Starts what answers.
pub(super) async fn start() -> anyhow::Result<Targets> {
    let live = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    // Dropping the listener leaves a port that was free a moment ago.
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
    let targets = Targets { live: live.local_addr()?, dead };
    tokio::spawn(async move { while live.accept().await.is_ok() {} });
    Ok(targets)
}
