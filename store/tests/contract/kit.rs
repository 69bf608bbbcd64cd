//! A database of one's own, and a home that remembers what it was told.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use pulse_actors::cluster::Fence;
use pulse_actors::ports::{Confirm, Home, Journal, StoreError, Submission};
use pulse_domain::record::{Batch, JournalEvent, Write};
use pulse_protocol::Timestamp;
use pulse_protocol::api::Plan;
use pulse_protocol::ids::{EventId, OrgId};
use pulse_store::admin::{Bootstrap, bootstrap};
use pulse_store::seal::SecretKey;
use pulse_store::{Database, JournalOptions, JournalWriter, Options};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::watch;
use tokio::time::timeout;

/// No promise takes longer to keep.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A database that a test has for itself.
pub(crate) struct Fresh {
    pub(crate) url: String,
}

impl Fresh {
    /// Connects without migrating.
    pub(crate) async fn connect(&self) -> Database {
        let options = Options { keys: vec![SecretKey::new(&[1; 32])], ..Options::default() };
        Database::connect(&self.url, options).await.unwrap()
    }

    /// Connects and migrates.
    pub(crate) async fn store(&self) -> Database {
        let store = self.connect().await;
        store.migrate().await.unwrap();
        store
    }

    /// A connection that knows nothing of the store.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        plain(&self.url).await
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }
}

/// Its connections have no end of their own: the pool's task that ends the old ones can loop for ever when a connection
/// is taken at the wrong moment (sqlx 0.9), and then a test never ends. The store's own pools have no such task either.
async fn plain(url: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    sea_orm::Database::connect(options).await.unwrap()
}

pub(crate) async fn on_sqlite<F: Future<Output = ()>>(promise: fn(Arc<Fresh>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pulse.db").display());
    promise(Arc::new(Fresh { url })).await;
}

pub(crate) async fn on_postgres<F: Future<Output = ()>>(promise: fn(Arc<Fresh>) -> F) {
    let Ok(server) = std::env::var("PULSE_TEST_POSTGRES_URL") else {
        // Past the harness, which shows what a passing test printed to nobody.
        let note = "SKIPPED, nothing is tested on PostgreSQL: PULSE_TEST_POSTGRES_URL is not set\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        return;
    };
    let (base, parameters) = match server.split_once('?') {
        Some((base, parameters)) => (base, format!("?{parameters}")),
        None => (server.as_str(), String::new()),
    };
    // `postgres://user@host:port/database`: the fourth part is the database.
    let base = base.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let name = format!("pulse_test_{}", uuid::Uuid::new_v4().simple());
    let admin = plain(&server).await;
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let fresh = Fresh { url: format!("{base}/{name}{parameters}") };
    let kept = AssertUnwindSafe(promise(Arc::new(fresh))).catch_unwind().await;
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    if let Err(panic) = kept {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

/// Makes an org.
pub(crate) async fn org(store: &Database) -> OrgId {
    let secret = EventId::new().to_string();
    let wanted = Bootstrap {
        email: &format!("{secret}@example.org"),
        org_name: &secret,
        plan: Plan::Unlimited,
        password_hash: "$argon2id$none",
        token_hash: &hash(&secret),
        rotate: false,
        now: at(1_000),
    };
    bootstrap(store, &wanted).await.unwrap().org_id
}

/// Some 32 bytes that differ for different texts.
pub(crate) fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0_u8; 32];
    for (place, byte) in text.bytes().enumerate() {
        hash[place % 32] = byte.wrapping_add(hash[place % 32].rotate_left(3));
    }
    hash
}

pub(crate) fn event(seq: u64) -> JournalEvent {
    JournalEvent {
        seq,
        id: EventId::new(),
        name: "device.offline".into(),
        at: at(i64::try_from(seq).unwrap() * 1_000),
        data: format!(r#"{{"number":{seq}}}"#).into(),
    }
}

/// What a home was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Committed(u64),
    Unavailable,
    Conflict,
    Fenced,
    Refused,
}

struct Ear(watch::Sender<Vec<Told>>);

impl Confirm for Ear {
    fn committed(&self, ticket: u64) {
        self.0.send_modify(|told| told.push(Told::Committed(ticket)));
    }

    fn failed(&self, error: &StoreError) {
        let news = match error {
            StoreError::Unavailable(_) => Told::Unavailable,
            StoreError::Conflict { .. } => Told::Conflict,
            StoreError::Fenced { .. } => Told::Fenced,
            StoreError::Corrupt { .. } | StoreError::Exists { .. } => Told::Refused,
        };
        self.0.send_modify(|told| told.push(news));
    }
}

/// One life of an org's home.
pub(crate) struct Scribe {
    pub(crate) home: Arc<Home>,
    pub(crate) seq: u64,
    pub(crate) ticket: u64,
    told: watch::Receiver<Vec<Told>>,
}

impl Scribe {
    pub(crate) fn new(org_id: OrgId, seq: u64) -> Self {
        Self::under(None, org_id, seq)
    }

    /// One that may write under this fence only.
    pub(crate) fn under(fence: Option<Fence>, org_id: OrgId, seq: u64) -> Self {
        let (ear, told) = watch::channel(Vec::new());
        Self { home: Home::new(org_id, fence, Box::new(Ear(ear))), seq, ticket: 0, told }
    }

    /// The next submission, with this many events.
    pub(crate) fn submission(&mut self, events: u64, writes: Vec<Write>) -> Submission {
        self.ticket += 1;
        let batch = Batch {
            org_id: self.home.org_id,
            after_seq: self.seq,
            events: (1..=events).map(|nth| event(self.seq + nth)).collect(),
            writes,
        };
        self.seq += events;
        Submission { home: Arc::clone(&self.home), ticket: self.ticket, batch }
    }

    /// Submits and waits until it is durable.
    pub(crate) async fn write(&mut self, journal: &JournalWriter, events: u64, writes: Vec<Write>) {
        submit(journal, self.submission(events, writes)).await;
        assert_eq!(self.outcome().await, Told::Committed(self.ticket));
    }

    /// What it was told, once `enough` holds.
    pub(crate) async fn told_until(&mut self, enough: impl FnMut(&Vec<Told>) -> bool) -> Vec<Told> {
        let told = timeout(DEADLINE, self.told.wait_for(enough)).await;
        told.expect("told in time").expect("its home lives").clone()
    }

    /// What it was told last, once its last submission was answered or it failed.
    pub(crate) async fn outcome(&mut self) -> Told {
        let ticket = self.ticket;
        let told = self
            .told_until(|told| match told.last() {
                Some(Told::Committed(last)) => *last == ticket,
                Some(_) => true,
                None => false,
            })
            .await;
        told.last().unwrap().clone()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }
}

pub(crate) fn journal(store: &Database) -> JournalWriter {
    JournalWriter::start(store, JournalOptions::default())
}

pub(crate) async fn submit(journal: &JournalWriter, submission: Submission) {
    if let Err(back) = journal.try_submit(submission) {
        timeout(DEADLINE, journal.submit(*back)).await.expect("room in time");
    }
}
