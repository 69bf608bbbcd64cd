//! The database, and how long rows are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys;
use super::source::Check;

const DAY: Duration = Duration::from_hours(24);
/// A hundred years: past that a number of days is a slip of the hand.
const RETENTION_DAYS_MAX: u64 = 36_500;

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// One file on this machine.
    Sqlite {
        /// The file; made on first start.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// With credentials: never to be logged.
        url: String,
    },
}

impl Database {
    /// Its address.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { path } => format!("sqlite://{}", path.display()),
            Self::Postgres { url } => url.clone(),
        }
    }
}

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Events of the journal.
    pub(crate) events: Duration,
}

/// What makes this process a member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// With credentials: never to be logged.
    pub(crate) redis_url: String,
    /// This node's name.
    pub(crate) node_id: String,
}

/// The database, and how long rows are kept.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    /// Where the tables are.
    pub(crate) database: Database,
    /// How long rows are kept.
    pub(crate) retention: Retention,
    /// None where this process is the whole hub.
    pub(crate) cluster: Option<Cluster>,
}

impl Storage {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let database = check.parse(keys::DATABASE_URL, database);
        let events = check.number(keys::RETENTION_EVENTS_DAYS, 1, RETENTION_DAYS_MAX);
        for key in [keys::RETENTION_SAMPLES_DAYS, keys::RETENTION_AUDIT_DAYS] {
            check.number(key, 1, RETENTION_DAYS_MAX);
        }
        let cluster = cluster(check, database.as_ref());
        let events = DAY * u32::try_from(events?).ok()?;
        Some(Self { database: database?, retention: Retention { events }, cluster })
    }
}

/// A node without a name of its own is called by a new one at each start: nothing is kept under it.
fn cluster(check: &mut Check, database: Option<&Database>) -> Option<Cluster> {
    let node_id = check.parse(keys::NODE_ID, |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=64).contains(&text.len()) && text.chars().all(good);
        fits.then(|| text.to_owned()).ok_or_else(|| {
            format!("`{text}` must be 1 to 64 letters, digits, hyphens, dots or underscores")
        })
    });
    let redis_url = check.parse(keys::REDIS_URL, |text| {
        pulse_actors::cluster::check_address(text).map(|()| text.to_owned())
    })?;
    if matches!(database, Some(Database::Sqlite { .. })) {
        check.fault(keys::REDIS_URL, "needs PostgreSQL, and PULSE_DATABASE_URL is SQLite");
        return None;
    }
    let node_id = node_id.unwrap_or_else(|| format!("hub-{}", uuid::Uuid::new_v4().simple()));
    Some(Cluster { redis_url, node_id })
}

/// A fault never shows the text: it may hold a password.
fn database(text: &str) -> Result<Database, String> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return sqlite(path);
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return postgres(text);
    }
    Err("begins with neither sqlite:// nor postgres://".to_owned())
}

fn sqlite(path: &str) -> Result<Database, String> {
    if path.is_empty() || path.contains(['?', '#', '%']) || path.starts_with(":memory:") {
        return Err("sqlite:// must be followed by the path of a file and nothing else".to_owned());
    }
    let path = PathBuf::from(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() {
        return Err(format!("the folder of {} does not exist: make it first", path.display()));
    }
    if path.is_dir() {
        return Err(format!("{} is a folder, not a file", path.display()));
    }
    Ok(Database::Sqlite { path })
}

/// Not read as a URL: it may name several hosts.
fn postgres(text: &str) -> Result<Database, String> {
    let address = text.split('?').next().unwrap_or_default();
    let name = address.splitn(4, '/').nth(3).unwrap_or_default();
    if name.trim_matches('/').is_empty() {
        return Err("the URL names no database, as in postgres://user@host/pulse".to_owned());
    }
    pulse_store::Database::check_postgres(text).map_err(|_| {
        "is no postgres://user@host,host/name; of target_session_attrs only read-write is known"
            .to_owned()
    })?;
    Ok(Database::Postgres { url: text.to_owned() })
}
