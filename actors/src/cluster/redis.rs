//! A cluster over one Redis: leases and members as keys, messages as its publications.
//!
//! All keys begin with `{pulse}:`, so that they share a slot and a script may touch several. Nothing in Redis needs to
//! survive a restart of it. A `rediss://` URL needs the process to have installed rustls' default provider.

mod address;
mod bus;
mod coordination;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;
use redis::aio::ConnectionManagerConfig;
use tracing::debug;

use self::address::{Address, Calls};
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
    address: Arc<Address>,
    /// Not the one that messages go through: a lease must not wait behind megabytes.
    calls: Connection,
    scripts: Scripts,
    prefix: String,
    outbox: Outbox,
    lost: Arc<Lost>,
}

/// Checks an address without connecting to it.
///
/// # Errors
///
/// Says what is wrong with it, without showing it.
pub fn check_address(url: &str) -> Result<(), String> {
    let read = Address::parse(url);
    read.map(drop).map_err(|error| error.detail().map_or(error.to_string(), ToOwned::to_owned))
}

impl RedisCluster {
    /// Connects to one server, the primary that Sentinels name, or a Redis Cluster:
    /// `redis://[user:password@]host:port[/number]`, `redis+sentinel://…host:port,host:port/name`,
    /// `redis+cluster://…host:port,host:port`; `rediss` for TLS.
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
        let address = Arc::new(Address::parse(url).map_err(unavailable)?);
        let calls = Connection::new(&address).await?;
        let messages = Connection::new(&address).await?;
        let lost = Arc::new(Lost::default());
        let outbox = Outbox::new(messages, Arc::clone(&lost));
        let scripts = Scripts::new(&prefix);
        Ok(Self(Arc::new(Inner { address, calls, scripts, prefix, outbox, lost })))
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

/// A connection to whichever server is the one to call.
struct Connection {
    address: Arc<Address>,
    calls: Mutex<Calls>,
}

impl Connection {
    async fn new(address: &Arc<Address>) -> Result<Self, CoordinationError> {
        let calls = in_time(address.connect()).await?;
        Ok(Self { address: Arc::clone(address), calls: Mutex::new(calls) })
    }

    fn get(&self) -> Calls {
        self.calls.lock().clone()
    }

    /// After a call that failed: connects anew, behind Sentinels to what may be another server by now. A connection that
    /// fell silent is not noticed by itself. The next call has the new one.
    async fn failed(&self) {
        match in_time(self.address.connect()).await {
            Ok(calls) => *self.calls.lock() = calls,
            Err(error) => debug!(cause = %error.0, "Redis cannot be reached yet"),
        }
    }
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
