//! The way to the configured database.

use anyhow::Context;
use pulse_store::{Database, Options};

use crate::config::Config;

/// Connects and brings the tables up to date.
///
/// # Errors
///
/// Returns an error if the secret key cannot be read or made, the database does not answer, or the tables were
/// made by a newer version.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Database> {
    let options = Options { keys: config.secret_keys.load_or_create()?, ..Options::default() };
    let database = Database::connect(&config.storage.database.url(), options).await?;
    database.migrate().await?;
    Ok(database)
}

/// `pulse-hub migrate`
///
/// # Errors
///
/// See [`open`].
pub(crate) async fn migrate(config: Config) -> anyhow::Result<()> {
    open(&config).await?.close().await.context("the tables are up to date")
}
