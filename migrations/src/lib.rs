//! The schema of the hub, one file a change, the same for SQLite and PostgreSQL.
//!
//! Ids are 16 bytes (`uuid` on PostgreSQL), instants are milliseconds in `bigint`, JSON is text, hashes are bytes.
//! Every table but those of people (`users`, `sessions`, `api_tokens`) and of nodes (`shards`) has `org_id`, and it
//! leads the primary key, so that what belongs to one org lies together and no key can reach into another org.

mod accounts;
mod cluster;
mod deliveries;
mod fleet;
mod journal;
mod lanes;
mod mail;
mod notifications;
mod shape;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};

/// All migrations, in order.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(accounts::Migration),
            Box::new(journal::Migration),
            Box::new(fleet::Migration),
            Box::new(deliveries::Migration),
            Box::new(cluster::Migration),
            Box::new(notifications::Migration),
            Box::new(mail::Migration),
            Box::new(lanes::Migration),
        ]
    }
}

/// Names the advisory lock under which one process at a time migrates; any fixed number will do.
const MIGRATION_LOCK: i64 = 0x7075_6c73_6501;

/// Applies what is pending, in one transaction. Several processes may call this at once: one does the work,
/// the others wait for it and find nothing left to do.
///
/// # Errors
///
/// Returns the driver's error, and an error if the database was migrated by a newer version; then nothing
/// was changed.
pub async fn up(db: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = lock(db).await?;
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}

/// The names of all migrations, in order.
#[must_use]
pub fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

/// Takes everything back, data included; for tests.
///
/// # Errors
///
/// Returns the driver's error; then nothing was changed.
pub async fn down(db: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = lock(db).await?;
    Migrator::down(&transaction, None).await?;
    transaction.commit().await
}

async fn lock(db: &DatabaseConnection) -> Result<sea_orm::DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = db.begin_with_options(options).await?;
    if transaction.get_database_backend() == DbBackend::Postgres {
        let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
        transaction.execute_raw(Statement::from_string(DbBackend::Postgres, lock)).await?;
    }
    Ok(transaction)
}
