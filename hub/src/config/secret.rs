//! What encrypts stored secrets: 32 bytes, one or several.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pulse_store::seal::SecretKey;

use super::Database;
use super::keys;
use super::source::Check;

/// Where the keys come from. The first encrypts; all are tried to decrypt.
#[derive(Clone, Debug)]
pub(crate) enum SecretKeys {
    /// Configured.
    Given(Vec<SecretKey>),
    /// Kept beside the SQLite database, and made there on first start.
    File(PathBuf),
}

impl SecretKeys {
    pub(super) fn read(check: &mut Check, database: &Database) -> Option<Self> {
        if check.is_set(keys::SECRET_KEY) {
            let given = check.list(keys::SECRET_KEY, parse);
            if check
                .text(keys::SECRET_KEY)
                .is_some_and(|text| text.trim_matches([',', ' ']).is_empty())
            {
                check.fault(keys::SECRET_KEY, "is empty");
            }
            return Some(Self::Given(given));
        }
        match database {
            Database::Postgres { .. } => {
                check.fault(
                    keys::SECRET_KEY,
                    "is required with PostgreSQL, and must outlive the hub",
                );
                None
            }
            Database::Sqlite { path } => {
                let file = key_file(path);
                if file.exists()
                    && let Err(error) = read_file(&file)
                {
                    check.fault(keys::SECRET_KEY, format!("the key kept for SQLite: {error:#}"));
                }
                Some(Self::File(file))
            }
        }
    }

    /// The keys; on first start with SQLite one is drawn and written beside the database with mode 0600.
    ///
    /// # Errors
    ///
    /// Returns an error if the key file cannot be read or written.
    pub(crate) fn load_or_create(&self) -> anyhow::Result<Vec<SecretKey>> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::File(path) => {
                if !path.exists() {
                    create_file(path)?;
                }
                Ok(vec![read_file(path)?])
            }
        }
    }
}

fn parse(text: &str) -> Result<SecretKey, String> {
    SecretKey::from_base64(text).map_err(|_| "does not hold 32 bytes in base64".to_owned())
}

/// `pulse.db` has its key in `pulse.db.key`.
fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

fn read_file(path: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).map_err(|problem| anyhow::anyhow!("{} {problem}", path.display()))
}

/// Writes a whole key or none: `serve` and `admin` may both be the first to start.
fn create_file(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let write = || -> std::io::Result<()> {
        // Temporary files are made with mode 0600, and linking one to a name that exists fails.
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        writeln!(file, "{}", STANDARD.encode(rand::random::<[u8; 32]>()))?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            written => written.map(drop).map_err(std::io::Error::from),
        }
    };
    write().with_context(|| format!("the secret key cannot be written to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_key_and_the_next_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let keys = SecretKeys::File(key_file(&folder.path().join("pulse.db")));

        let first = keys.load_or_create().unwrap();
        let second = keys.load_or_create().unwrap();

        // A key shows only its id, which is drawn from its bytes.
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pulse.db.key");
        SecretKeys::File(path.clone()).load_or_create().unwrap();

        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_is_a_fault_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pulse.db.key");
        std::fs::write(&path, "short").unwrap();

        assert!(SecretKeys::File(path.clone()).load_or_create().is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "short");
    }
}
