//! A cluster over one Redis: leases and members as keys, messages as its publications.
//!
//! All keys begin with `{pulse}:`, so that they share a slot and a script may touch several. Nothing in Redis needs to
//! survive a restart of it. A `rediss://` URL needs the process to have installed rustls' default provider.

mod bus;
mod coordination;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _, RedisResult};

use self::bus::Outbox;
use self::coordination::Scripts;
use super::CoordinationError;

/// The longest that Redis may take to accept a connection, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(1);
/// The wait before a call tries once more to connect.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The longest that a call takes altogether, with a new connection before it.
const CALL: Duration = Duration::from_secs(3);
/// What all keys and channels begin with. The braces are Redis' mark for what decides over the slot.
const PREFIX: &str = "{pulse}:";

/// A client of the Redis that a cluster shares. Clones share its connections, which come back by themselves.
///
/// What keeps the connections going runs on the runtime that called [`connect`](Self::connect).
#[derive(Clone)]
pub struct RedisCluster(Arc<Inner>);

struct Inner {
    client: Client,
    /// Not the one that messages go through: a lease must not wait behind megabytes.
    calls: ConnectionManager,
    scripts: Scripts,
    prefix: String,
    outbox: Outbox,
    lost: Arc<Lost>,
}

impl RedisCluster {
    /// Connects to `redis://[user:password@]host:port[/number]`, or `rediss://` for TLS.
    ///
    /// # Errors
    ///
    /// Returns an error when the URL is none, or Redis cannot be reached within 3 seconds.
    pub async fn connect(url: &str) -> Result<Self, CoordinationError> {
        Self::prefixed(url, PREFIX.into()).await
    }

    /// As [`connect`](Self::connect), to the cluster of this name: several can share a Redis and see nothing of each
    /// other.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_named(url: &str, name: &str) -> Result<Self, CoordinationError> {
        Self::prefixed(url, format!("{PREFIX}{name}:")).await
    }

    async fn prefixed(url: &str, prefix: String) -> Result<Self, CoordinationError> {
        let client = client(url).map_err(unavailable)?;
        let calls = in_time(ConnectionManager::new_with_config(client.clone(), config())).await?;
        let messages =
            in_time(ConnectionManager::new_with_config(client.clone(), config())).await?;
        let lost = Arc::new(Lost::default());
        let outbox = Outbox::new(messages, Arc::clone(&lost));
        let scripts = Scripts::new(&prefix);
        Ok(Self(Arc::new(Inner { client, calls, scripts, prefix, outbox, lost })))
    }

    /// Messages lost by this client, as far as it can know: refused for their size or for want of room, not accepted by
    /// Redis, or received while the inbox was full. A publication that fails halfway counts whole.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.0.load(Ordering::Relaxed)
    }
}

/// Counts lost messages.
#[derive(Debug, Default)]
struct Lost(AtomicU64);

impl Lost {
    fn add(&self, messages: usize) {
        self.0.fetch_add(messages as u64, Ordering::Relaxed);
    }
}

fn client(url: &str) -> RedisResult<Client> {
    let settings = TcpSettings::default();
    // A peer that vanished without a word does not break the connection for a quarter of an hour otherwise, and calls
    // that are not answered do not make a new one.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(CALL);
    Client::open(url.into_connection_info()?.set_tcp_settings(settings))
}

fn config() -> ConnectionManagerConfig {
    // Calls wait for a connection that is being made: few tries, as whoever needs an answer will call again.
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        .set_number_of_retries(1)
        .set_min_delay(RETRY_AFTER)
}

/// Bounds a call that may first have to connect.
async fn in_time<T>(call: impl Future<Output = RedisResult<T>>) -> Result<T, CoordinationError> {
    tokio::time::timeout(CALL, call).await.map_err(unavailable)?.map_err(unavailable)
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> CoordinationError {
    CoordinationError(Box::new(error))
}
