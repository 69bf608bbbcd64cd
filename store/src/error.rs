//! From the driver's errors to what a caller should do.

use pulse_actors::ports::StoreError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// A word in a table that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown word `{0}`")]
pub(crate) struct UnknownWord(pub(crate) String);

/// A failed statement, as its caller should understand it.
pub(crate) fn failed(error: DbErr) -> StoreError {
    if is_unavailable(&error) {
        return StoreError::Unavailable(Box::new(error));
    }
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::Exists { what: "such a record" },
        _ => StoreError::Corrupt { what: "record", source: Box::new(error) },
    }
}

/// A row that is not what it should be.
pub(crate) fn corrupt(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Corrupt { what, source: Box::new(source) }
}

/// Whether the database, rather than what it was asked, is at fault.
pub(crate) fn is_unavailable(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => match &**cause {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(cause) => is_outage(cause.as_ref()),
            _ => false,
        },
        _ => false,
    }
}

fn is_outage(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // The low byte of an extended result code is the primary one: busy, locked, out of memory, read-only,
        // interrupted, i/o error, full, cannot open, locking protocol.
        let primary = code.parse::<u32>().unwrap_or_default() & 0xff;
        return matches!(primary, 5..=10 | 13..=15);
    }
    // Classes of SQLSTATE: connection, rolled back by a deadlock, resources, operator, system; and a server
    // that became read-only, ended a transaction that was left alone, or could not get a lock in time.
    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || matches!(&*code, "25006" | "25P03" | "55P03")
}
