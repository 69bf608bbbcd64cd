//! `pulse-hub copy`: from one node on SQLite to a PostgreSQL that several can share.

use std::io::Write;

use anyhow::{Context, bail};
use pulse_store::{Database, Options, copy};

use crate::config::{self, Config};

/// Copies everything; the hub on the SQLite file must be stopped.
///
/// # Errors
///
/// Returns an error if the configured database is not SQLite or is in use, or the target does not answer, lacks
/// its tables or has rows; then nothing was changed.
pub(crate) async fn run(config: Config, to: String) -> anyhow::Result<()> {
    let config::Database::Sqlite { path } = &config.storage.database else {
        bail!("PULSE_DATABASE_URL is PostgreSQL already: only a hub on SQLite can be copied");
    };
    let source = Database::connect_alone(&config.storage.database.url()).await?;
    let target = Database::connect(&to, Options::default()).await.context("the target")?;
    let written = copy(&source, &target).await.context("nothing was copied")?;
    target.close().await.context("everything was copied")?;
    source.close().await.context("everything was copied")?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&written)?)?;
    writeln!(
        std::io::stderr(),
        "copied; the secrets are encrypted as before, so give the new hubs the PULSE_SECRET_KEY of this one (without \
         the variable it is in {}.key), and do not start this one again",
        path.display()
    )?;
    Ok(())
}
