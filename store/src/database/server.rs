//! Keeping to a PostgreSQL server that can write.
//!
//! A connection whose other end vanished without a word looks alive for many minutes, and whatever waits for an answer on
//! it waits as long. So one connection of its own asks the server every second whether it is there and may write. When
//! the answer does not come, all connections are thrown away with what waits on them, and of the configured servers the
//! one that is no standby is looked for.

use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Postgres};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::pools::{Pools, Shared};
use super::{ConnectError, pool};
use crate::rows::PREPARED_MAX;

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A server that takes longer to answer, or to accept a connection, is not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a first connection waits for a server that can write.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// PostgreSQL ends a transaction that its process leaves alone for this long, in milliseconds. A process that is paused
/// holds locks on its shards, and others could not take them; none that runs waits so long between two statements.
const ABANDONED_AFTER_MS: &str = "3000";

/// The servers of one database, in the order in which they are tried.
#[derive(Clone)]
pub(super) struct Servers {
    options: Vec<PgConnectOptions>,
    connections_max: u32,
}

impl Servers {
    /// Reads `postgres://user:password@host:port,host:port/name`. `target_session_attrs` may only be `read-write`, which
    /// is what is meant without it.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Url`] if it is no such address.
    pub(super) fn parse(url: &str, connections_max: u32) -> Result<Self, ConnectError> {
        let urls = of_each_host(url).ok_or(ConnectError::Url(None))?;
        let options = urls.iter().map(|url| options(url));
        Ok(Self { options: options.collect::<Result<_, _>>()?, connections_max })
    }

    /// New connections to one of the servers.
    fn pools(&self, place: usize) -> Pools {
        let options = &self.options[place];
        let journal = pool::<Postgres>(1).connect_lazy_with(options.clone());
        let shared = pool::<Postgres>(self.connections_max).connect_lazy_with(options.clone());
        Pools { journal: journal.into(), writer: shared.clone().into(), reader: shared.into() }
    }

    /// The first server that can write, and a connection to it. All are asked at once.
    async fn find(&self) -> Result<(usize, PgConnection), sqlx::Error> {
        let asked = self.options.iter().map(|options| async {
            let mut connection = within(options.connect()).await?;
            can_write(&mut connection).await?;
            Ok(connection)
        });
        let mut fault = sqlx::Error::PoolTimedOut;
        for (place, answer) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
            match answer {
                Ok(connection) => return Ok((place, connection)),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    /// Connects, and keeps connected until the database is closed.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Unavailable`] if within some seconds no server is found that can write.
    pub(super) async fn connect(self) -> Result<Arc<Shared>, ConnectError> {
        let policy = backoff::ExponentialBackoff {
            max_elapsed_time: Some(FOUND_WITHIN),
            ..backoff::ExponentialBackoff::default()
        };
        // Before there was a first answer only a standby is worth waiting for: it may be about to take over.
        let attempt = || async {
            self.find().await.map_err(|error| match error {
                sqlx::Error::Protocol(_) => backoff::Error::transient(error),
                _ => backoff::Error::permanent(error),
            })
        };
        let found = backoff::future::retry(policy, attempt).await;
        let (place, connection) =
            found.map_err(|error| ConnectError::Unavailable(Box::new(error)))?;
        let shared = Arc::new(Shared::new(self.pools(place)));
        let keeper = Keeper {
            servers: self,
            shared: Arc::downgrade(&shared),
            place,
            connection: Some(connection),
        };
        tokio::spawn(keeper.run());
        Ok(shared)
    }
}

/// Sees to it that the connections lead to a server that can write.
struct Keeper {
    servers: Servers,
    shared: Weak<Shared>,
    place: usize,
    /// To the server in use; none while there is none.
    connection: Option<PgConnection>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            sleep(ASK_EVERY).await;
            let Some(shared) = self.shared.upgrade().filter(|shared| !shared.is_closed()) else {
                return;
            };
            self.look(&shared).await;
        }
    }

    async fn look(&mut self, shared: &Shared) {
        if let Some(connection) = &mut self.connection {
            let Err(error) = can_write(connection).await else { return };
            warn!(%error, "the database does not answer; what waits for it is given up");
            self.connection = None;
            shared.lose(self.servers.pools(self.place));
        }
        if let Ok((place, connection)) = self.servers.find().await {
            info!(server = place + 1, "the database answers");
            self.place = place;
            self.connection = Some(connection);
            shared.regain(self.servers.pools(place));
        }
    }
}

/// # Errors
///
/// Returns an error if the server does not answer in time, or is a standby.
async fn can_write(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let asked = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()").fetch_one(connection);
    match within(asked).await? {
        false => Ok(()),
        true => Err(sqlx::Error::Protocol("the server is a standby, which cannot write".into())),
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| ConnectError::Url(Some(Box::new(error))))?;
    Ok(options
        .application_name("pulse-hub")
        .options([
            // Whatever the server's default is: a commit is confirmed when it is on disk.
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", ABANDONED_AFTER_MS),
        ])
        .statement_cache_capacity(PREPARED_MAX)
        .disable_statement_logging())
}

/// An address of several hosts, taken apart into addresses of one each.
fn of_each_host(url: &str) -> Option<Vec<String>> {
    let (scheme, rest) = url.split_once("://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let (targets, kept): (Vec<_>, Vec<_>) =
        query.split('&').partition(|pair| pair.starts_with("target_session_attrs="));
    if targets.iter().any(|target| *target != "target_session_attrs=read-write") {
        return None;
    }
    let query = kept.join("&");
    let question_mark = if query.is_empty() { "" } else { "?" };
    let one = |host| format!("{scheme}://{login}{host}/{path}{question_mark}{query}");
    Some(hosts.split(',').map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_several_hosts_is_one_of_each() {
        let several = "postgres://me:se%2Ccret@a:5432,[::1]:5433/pulse?sslmode=require&target_session_attrs=read-write";
        assert_eq!(
            of_each_host(several).unwrap(),
            [
                "postgres://me:se%2Ccret@a:5432/pulse?sslmode=require",
                "postgres://me:se%2Ccret@[::1]:5433/pulse?sslmode=require",
            ]
        );
        assert_eq!(of_each_host("postgres://a/pulse").unwrap(), ["postgres://a/pulse"]);
        assert_eq!(of_each_host("postgres://a/pulse?target_session_attrs=any"), None);
    }
}
