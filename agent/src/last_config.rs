//! What the hub told to watch last, kept so that a restart without the hub goes on watching.

use std::io;
use std::path::{Path, PathBuf};

use pulse_protocol::agent::AgentConfig;
use tracing::warn;

/// The file in the data directory.
pub(crate) struct LastConfig {
    path: PathBuf,
    written: Option<AgentConfig>,
}

impl LastConfig {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("config.json"), written: None }
    }

    /// The configuration of the last run, if there is one that can be read.
    pub(crate) fn read(&mut self) -> Option<AgentConfig> {
        let read = std::fs::read(&self.path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match read {
            Ok(config) => {
                self.written = Some(config);
                self.written.clone()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%error, "the last configuration cannot be read; the hub tells it again");
                None
            }
        }
    }

    /// Keeps `config`. A failure costs nothing while the hub is there.
    pub(crate) fn write(&mut self, config: &AgentConfig) {
        if self.written.as_ref() == Some(config) {
            return;
        }
        match self.replace(config) {
            Ok(()) => self.written = Some(config.clone()),
            Err(error) => {
                warn!(%error, "the configuration cannot be kept for a restart without the hub");
            }
        }
    }

    /// Writes beside the old file and renames, so that no half of one is ever read.
    fn replace(&self, config: &AgentConfig) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec(config)?)?;
        std::fs::rename(beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_after_a_restart_and_a_damaged_one_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(LastConfig::new(directory.path()).read(), None);
        let config = AgentConfig { version: 7, ..AgentConfig::default() };
        LastConfig::new(directory.path()).write(&config);
        assert_eq!(LastConfig::new(directory.path()).read(), Some(config));
        std::fs::write(directory.path().join("config.json"), "{\"ver").unwrap();
        assert_eq!(LastConfig::new(directory.path()).read(), None);
    }
}
