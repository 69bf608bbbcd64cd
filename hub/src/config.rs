//! The configuration: `pulse.toml`, overridden by the environment, overridden by flags.
//!
//! The whole of it is checked at once. Every fault is listed with its key, what is wrong and an example, so
//! that an operator mends them in one go; nothing listens before there are none.

mod integrations;
mod keys;
mod limits;
mod liveness;
mod log;
mod secret;
mod server;
mod source;
mod storage;
mod tls;

use std::path::{Path, PathBuf};

pub(crate) use integrations::{MailSettings, MailWay};
pub(crate) use limits::Limits;
pub(crate) use liveness::Liveness;
pub(crate) use log::{Log, LogFormat};
pub(crate) use secret::SecretKeys;
pub(crate) use server::Server;
pub(crate) use source::{Faults, Overrides};
pub(crate) use storage::{Cluster, Database, Storage};
pub(crate) use tls::Tls;

use integrations::Integrations;
use keys::Key;
use source::{Check, Values};

/// Read when `--config` is absent and the file exists.
const DEFAULT_FILE: &str = "pulse.toml";

/// The effective configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Listeners, TLS and who is trusted on the way to them.
    pub(crate) server: Server,
    /// The database and how long rows are kept.
    pub(crate) storage: Storage,
    /// What encrypts stored secrets.
    pub(crate) secret_keys: SecretKeys,
    /// Heartbeats and grace, for orgs that set none of their own.
    pub(crate) liveness: Liveness,
    /// What one agent, one address and the node may use.
    pub(crate) limits: Limits,
    /// What is logged, and in which form.
    pub(crate) log: Log,
    /// How mail leaves the hub; none if it does not.
    pub(crate) mail: Option<MailSettings>,
    /// Keys that are set, and in good form, but that this version does not use.
    pub(crate) unused: Vec<String>,
    effective: toml::Table,
}

impl Config {
    /// Reads `file`, or `pulse.toml` in the working directory if that exists, and lays `environment` and
    /// `flags` over it.
    ///
    /// # Errors
    ///
    /// Returns every fault of the whole configuration.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, Faults> {
        let file: Option<PathBuf> = match file {
            Some(path) => Some(path.to_owned()),
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
        };
        let mut check = Check::new(Values::gather(file.as_deref(), environment, flags));
        let config = Self::read(&mut check);
        let faults = check.into_faults();
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// Every concern is read before any absence is acted upon, so that one fault hides no other.
    fn read(check: &mut Check) -> Option<Self> {
        let storage = Storage::read(check);
        let server = Server::read(check);
        let liveness = Liveness::read(check);
        let limits = Limits::read(check);
        let log = Log::read(check);
        let Integrations { mail, unused } = integrations::read(check);
        let storage = storage?;
        let secret_keys = SecretKeys::read(check, &storage.database);
        Some(Self {
            server: server?,
            storage,
            secret_keys: secret_keys?,
            liveness: liveness?,
            limits: limits?,
            log: log?,
            mail,
            unused,
            effective: check.effective(),
        })
    }

    /// The effective values as TOML, with secrets redacted.
    ///
    /// # Errors
    ///
    /// Returns the serializer's error; the table holds only text, numbers and lists, so none is known.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.effective)
    }
}

#[cfg(test)]
mod tests;
