//! The connections that all clones of a database share, and that may be exchanged for others under them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::RwLock;
use pulse_actors::ports::StoreError;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    Statement,
};
use tokio::sync::watch;

/// The connections to one database.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    /// Holds the journal's transactions. SQLite has one writer at a time, so there this is the only connection
    /// that writes, and all writers of the process wait for it in turn.
    pub(crate) journal: DatabaseConnection,
    /// For all other writes.
    pub(crate) writer: DatabaseConnection,
    /// For reads.
    pub(crate) reader: DatabaseConnection,
}

/// What the clones of a database share.
pub(crate) struct Shared {
    pools: RwLock<Pools>,
    /// Counts how often the connections were given up.
    given_up: watch::Sender<u64>,
    is_lost: AtomicBool,
    is_closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(pools: Pools) -> Self {
        Self {
            pools: RwLock::new(pools),
            given_up: watch::Sender::new(0),
            is_lost: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn pools(&self) -> Pools {
        self.pools.read().clone()
    }

    /// Gives up what waits on the connections: the server does not answer.
    pub(super) fn lose(&self, next: Pools) {
        self.is_lost.store(true, Ordering::Release);
        self.exchange(next);
    }

    /// The server, or another one, answers again.
    pub(super) fn regain(&self, next: Pools) {
        self.exchange(next);
        self.is_lost.store(false, Ordering::Release);
    }

    fn exchange(&self, next: Pools) {
        *self.pools.write() = next;
        self.given_up.send_modify(|times| *times += 1);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) -> Pools {
        self.is_closed.store(true, Ordering::Release);
        self.pools()
    }

    /// Does some work, unless the connections are given up meanwhile: then whether it was done is not known.
    ///
    /// # Errors
    ///
    /// The work's own, or [`StoreError::Unavailable`].
    pub(crate) async fn bounded<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut given_up = self.given_up.subscribe();
        tokio::select! {
            biased;
            done = work => done,
            // Cannot be closed while this is borrowed.
            _ = given_up.changed() => Err(StoreError::Unavailable(Box::new(GivenUp)).into()),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("pools", &*self.pools.read()).finish_non_exhaustive()
    }
}

/// The server did not answer, and its connections were given up.
#[derive(Debug, thiserror::Error)]
#[error("the database stopped answering")]
struct GivenUp;

/// Connections whose every statement ends when they are given up.
#[derive(Debug)]
pub(crate) struct Guarded {
    connection: DatabaseConnection,
    given_up: watch::Receiver<u64>,
}

impl Guarded {
    /// The connections that `which` picks.
    pub(super) fn new(shared: &Shared, which: impl FnOnce(&Pools) -> &DatabaseConnection) -> Self {
        // Subscribed first: pools that are exchanged in between are noticed.
        let given_up = shared.given_up.subscribe();
        Self { connection: which(&shared.pools.read()).clone(), given_up }
    }

    async fn unless_given_up<T>(
        &self,
        answer: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        let mut given_up = self.given_up.clone();
        tokio::select! {
            biased;
            answer = answer => answer,
            _ = given_up.changed() => Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
        }
    }
}

#[async_trait]
impl ConnectionTrait for Guarded {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.unless_given_up(self.connection.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.unless_given_up(self.connection.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.unless_given_up(self.connection.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.unless_given_up(self.connection.query_all_raw(statement)).await
    }
}
