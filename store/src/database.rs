//! The connections to one database.

mod pools;
mod server;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use pulse_actors::ports::StoreError;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sea_orm::sqlx::{self, ConnectOptions as _, Sqlite};
use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use self::pools::{Guarded, Pools, Shared};
use self::server::Servers;
use crate::error::is_unavailable;
use crate::rows::PREPARED_MAX;
use crate::seal::{Sealer, SecretKey};

/// How long a writer waits for another process to finish its transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for a process that is just closing the file. One that lives keeps it open.
const ALONE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a caller waits for a free connection, or for the database to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that SQLite's log grows to before it is folded into the file: 32 MiB. Rows that are rewritten again
/// and again are then folded in once, not once a mebibyte; a start after a crash reads at most this much.
const CHECKPOINT_PAGES: &str = "8192";

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keys for the secrets in the tables: the first seals, any opens.
    pub keys: Vec<SecretKey>,
    /// Most connections for reads (SQLite), or for everything but the journal (PostgreSQL).
    pub connections_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        // Reads are rare beside the journal: homes hold their org in memory. A web page needs one or two.
        Self { keys: Vec::new(), connections_max: 4 }
    }
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file beside the hub.
    Sqlite,
    /// A server.
    Postgres,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none that this hub knows. Correct it.
    #[error(
        "expected a database address such as `sqlite://pulse.db` or `postgres://user@host/name`"
    )]
    Url(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The folder of the file is not there. Create it.
    #[error("the folder {} of the database does not exist: create it, or name another", .0.display())]
    NoFolder(PathBuf),
    /// The file cannot be opened for writing. Correct its permissions.
    #[error("the database file {} cannot be opened for writing: check who may write there", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no such file. Correct the address.
    #[error("the database file {} does not exist: check the address", .0.display())]
    NoFile(PathBuf),
    /// Another process has the file open. Stop it.
    #[error("the database file {} is in use: stop the hub first", .0.display())]
    InUse(PathBuf),
    /// The database does not answer. Try again later.
    #[error("the database does not answer: check its address and that it is running")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The schema cannot be brought up to date.
    #[error("the database schema cannot be migrated")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database {
    shared: Arc<Shared>,
    pub(crate) sealer: Arc<Sealer>,
}

impl Database {
    /// Connects to `sqlite://path` (creating the file) or `postgres://host,host/name`, of whose hosts the one is used that
    /// can write, and another when that changes. Does not migrate.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`], which says what to correct.
    pub async fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        let sealer = Arc::new(Sealer::new(options.keys));
        match url.split_once(':') {
            Some(("sqlite", _)) => sqlite(url, options.connections_max, sealer).await,
            Some(("postgres" | "postgresql", _)) => {
                let servers = Servers::parse(url, options.connections_max)?;
                Ok(Self { shared: servers.connect().await?, sealer })
            }
            _ => Err(ConnectError::Url(None)),
        }
    }

    /// Checks a `postgres://` address, which may name several hosts, without connecting.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Url`] if it is none.
    pub fn check_postgres(url: &str) -> Result<(), ConnectError> {
        Servers::parse(url, 1).map(drop)
    }

    /// Connects to `sqlite://path`, whose file must be there, and keeps every other process out of it until the
    /// connection is closed.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::InUse`] if another process has the file open, and other [`ConnectError`]s that say
    /// what to correct.
    pub async fn connect_alone(url: &str) -> Result<Self, ConnectError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| ConnectError::Url(Some(Box::new(error))))?;
        let path = options.get_filename().to_owned();
        if !path.is_file() {
            return Err(ConnectError::NoFile(path));
        }
        // With a log beside the file, this mode takes the file's lock as it opens the log, and keeps it.
        let options = options
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(ALONE_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        let pool = pool::<Sqlite>(1).connect_with(options).await.map_err(|error| match &error {
            sqlx::Error::Database(cause) if cause.message().contains("locked") => {
                ConnectError::InUse(path)
            }
            _ => ConnectError::Unavailable(Box::new(error)),
        })?;
        let only = DatabaseConnection::from(pool);
        let sealer = Arc::new(Sealer::new(Vec::new()));
        let pools = Pools { journal: only.clone(), writer: only.clone(), reader: only };
        Ok(Self { shared: Arc::new(Shared::new(pools)), sealer })
    }

    /// Brings the schema up to date. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Migrate`] if a migration failed or the schema is newer than this program; then
    /// nothing was changed.
    pub async fn migrate(&self) -> Result<(), ConnectError> {
        // Another process that migrates may hold the lock for longer than one wait lasts.
        let policy = backoff::ExponentialBackoff {
            max_elapsed_time: Some(Duration::from_secs(60)),
            ..backoff::ExponentialBackoff::default()
        };
        let attempt = || async {
            pulse_migrations::up(&self.shared.pools().writer).await.map_err(|error| {
                match is_unavailable(&error) {
                    true => backoff::Error::transient(error),
                    false => backoff::Error::permanent(error),
                }
            })
        };
        let migrated = backoff::future::retry(policy, attempt).await;
        migrated.map_err(|error| ConnectError::Migrate(Box::new(error)))
    }

    /// Which database it is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        match self.shared.pools().reader.get_database_backend() {
            DbBackend::Sqlite => DatabaseKind::Sqlite,
            _ => DatabaseKind::Postgres,
        }
    }

    /// Closes all connections, once what they do has ended.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Unavailable`] if a connection did not end in order; nothing committed is lost.
    pub async fn close(self) -> Result<(), ConnectError> {
        let Pools { journal, writer, reader } = self.shared.close();
        for connection in [reader, writer, journal] {
            connection.close().await.map_err(|error| ConnectError::Unavailable(Box::new(error)))?;
        }
        Ok(())
    }

    /// Whether the server stopped answering, or is a standby by now, and none that can write was found yet.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.shared.is_lost()
    }

    /// For reads.
    pub(crate) fn reader(&self) -> Guarded {
        Guarded::new(&self.shared, |pools| &pools.reader)
    }

    /// For writes that are one statement.
    pub(crate) fn writer(&self) -> Guarded {
        Guarded::new(&self.shared, |pools| &pools.writer)
    }

    /// For the journal's transactions.
    pub(crate) fn journal(&self) -> DatabaseConnection {
        self.shared.pools().journal
    }

    /// Does some work in transactions, unless the server stops answering meanwhile: then whether it was done is not
    /// known.
    ///
    /// # Errors
    ///
    /// The work's own, or [`StoreError::Unavailable`].
    pub(crate) async fn bounded<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.shared.bounded(work).await
    }

    /// A transaction that writes; takes SQLite's lock at once, so that it cannot fail half way for want of it.
    pub(crate) async fn begin_write(&self) -> Result<DatabaseTransaction, DbErr> {
        begin_write(&self.shared.pools().writer).await
    }

    /// A transaction whose reads all see the same moment.
    pub(crate) async fn begin_read(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = match self.kind() {
            DatabaseKind::Sqlite => TransactionOptions::default(),
            DatabaseKind::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                sqlite_transaction_mode: None,
            },
        };
        self.shared.pools().reader.begin_with_options(options).await
    }
}

pub(crate) async fn begin_write(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    db.begin_with_options(options).await
}

fn pool<DB: sqlx::Database>(connections_max: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections_max.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection is tested as it is given back; testing it again costs every commit a round trip.
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(None)
}

async fn sqlite(
    url: &str,
    connections_max: u32,
    sealer: Arc<Sealer>,
) -> Result<Database, ConnectError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| ConnectError::Url(Some(Box::new(error))))?;
    open_file(options.get_filename())?;
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .statement_cache_capacity(PREPARED_MAX)
        .disable_statement_logging();
    // 16 MiB of page cache for the writer, whose pages are hot; negative numbers are KiB. A statement of many
    // rows remembers the pages it changes until it ends: in memory, not in a file.
    let write = options.clone().pragma("cache_size", "-16384").pragma("temp_store", "memory");
    let writer = first_connection(|| pool::<Sqlite>(1).connect_with(write.clone())).await?;
    let read = options.pragma("query_only", "on");
    let reader =
        first_connection(|| pool::<Sqlite>(connections_max).connect_with(read.clone())).await?;
    let writer = DatabaseConnection::from(writer);
    let pools = Pools { journal: writer.clone(), writer, reader: reader.into() };
    Ok(Database { shared: Arc::new(Shared::new(pools)), sealer })
}

/// Opens a pool, waiting a moment for another process that is just creating the same database.
async fn first_connection<DB, F, Fut>(connect: F) -> Result<sqlx::Pool<DB>, ConnectError>
where
    DB: sqlx::Database,
    F: Fn() -> Fut,
    Fut: Future<Output = Result<sqlx::Pool<DB>, sqlx::Error>>,
{
    let policy = backoff::ExponentialBackoff {
        max_elapsed_time: Some(BUSY_TIMEOUT),
        ..backoff::ExponentialBackoff::default()
    };
    let attempt = || async {
        connect().await.map_err(|error| match &error {
            sqlx::Error::Database(cause) if cause.message().contains("locked") => {
                backoff::Error::transient(error)
            }
            _ => backoff::Error::permanent(error),
        })
    };
    let pool = backoff::future::retry(policy, attempt).await;
    pool.map_err(|error| ConnectError::Unavailable(Box::new(error)))
}

/// Makes sure that the file can be written, while there is still a clear error to give.
fn open_file(path: &Path) -> Result<(), ConnectError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(ConnectError::NoFolder(folder.to_owned()));
    }
    // An empty file is an empty database; what is there already stays as it is.
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|source| ConnectError::File { path: path.to_owned(), source })
}
