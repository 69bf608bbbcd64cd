//! Durable transitions a second: one event, one device state and one position row each, with full fsync.
//!
//! `cargo run --release -p pulse-store --example journal_bench -- URL…` where each URL names a database that
//! may be filled: `sqlite://bench.db`, `postgres://user@host/empty_database`.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulse_actors::ports::{Confirm, Home, Journal, OrgStore, StoreError, Submission};
use pulse_domain::record::{
    Batch, CheckKey, CheckState, DeviceStateRecord, JournalEvent, PositionRecord, Write,
};
use pulse_protocol::Timestamp;
use pulse_protocol::api::Plan;
use pulse_protocol::ids::{AgentId, CheckId, DeviceId, EventId, OrgId};
use pulse_protocol::status::DeviceStatus;
use pulse_store::admin::{Bootstrap, bootstrap};
use pulse_store::seal::SecretKey;
use pulse_store::{Database, JournalOptions, JournalWriter, Options};
use tokio::sync::Notify;

const GROUPS: [usize; 4] = [1, 64, 256, 1_000];
const ORGS: [usize; 2] = [1, 100];
const DEVICES: usize = 100;
const MEASURE: Duration = Duration::from_secs(4);

struct Confirmed {
    ticket: Arc<AtomicU64>,
    news: Arc<Notify>,
}

impl Confirm for Confirmed {
    fn committed(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Release);
        self.news.notify_one();
    }

    fn failed(&self, error: &StoreError) {
        println!("failed: {error} {error:?}");
        std::process::exit(1);
    }
}

struct Org {
    home: Arc<Home>,
    agent_id: AgentId,
    devices: Vec<DeviceId>,
    seq: u64,
    ticket: u64,
    confirmed: Arc<AtomicU64>,
}

impl Org {
    fn new(id: OrgId, seq: u64, news: &Arc<Notify>) -> Self {
        let confirmed = Arc::new(AtomicU64::new(0));
        let confirm = Confirmed { ticket: Arc::clone(&confirmed), news: Arc::clone(news) };
        let devices = (0..DEVICES).map(|_| DeviceId::new()).collect();
        let home = Home::new(id, None, Box::new(confirm));
        Self { home, agent_id: AgentId::new(), devices, seq, ticket: 0, confirmed }
    }

    fn transition(&mut self) -> Submission {
        let device_id = self.devices[self.seq as usize % DEVICES];
        let (at, event_id) = (Timestamp::wall_clock(), EventId::new());
        self.ticket += 1;
        let batch = Batch {
            org_id: self.home.org_id,
            after_seq: self.seq,
            events: vec![JournalEvent {
                seq: self.seq + 1,
                id: event_id,
                name: "device.offline".into(),
                at,
                data: data(device_id, self.agent_id, at).into(),
            }],
            writes: vec![
                Write::DeviceState(DeviceStateRecord {
                    device_id,
                    status: DeviceStatus::Offline,
                    known: Some(DeviceStatus::Offline),
                    since: at,
                    response_time_ms: Some(1.5),
                    checks: vec![CheckState {
                        key: CheckKey::Configured(CheckId::from_uuid(device_id.uuid())),
                        status: DeviceStatus::Offline,
                        failures: 0,
                    }],
                }),
                Write::Position(PositionRecord {
                    agent_id: self.agent_id,
                    spool_id: "spool".into(),
                    acked_seq: self.ticket,
                }),
            ],
        };
        self.seq = batch.last_seq();
        Submission { home: Arc::clone(&self.home), ticket: self.ticket, batch }
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire) == self.ticket
    }
}

fn data(device_id: DeviceId, agent_id: AgentId, at: Timestamp) -> String {
    format!(
        r#"{{"device_id":"{device_id}","name":"core switch","agent_id":"{agent_id}","segment_id":null,"previous":"online","current":"offline","since":"{at}","cause":"check","response_time_ms":1.5,"checks":[]}}"#
    )
}

async fn orgs(db: &Database, count: usize, news: &Arc<Notify>) -> Result<Vec<Org>, Box<dyn Error>> {
    let mut orgs = Vec::with_capacity(count);
    for number in 0..count {
        let wanted = Bootstrap {
            email: "bench@example.org",
            org_name: &format!("bench {number}"),
            plan: Plan::Unlimited,
            password_hash: "none",
            token_hash: &random_hash(),
            rotate: false,
            now: Timestamp::wall_clock(),
        };
        let org_id = bootstrap(db, &wanted).await?.org_id;
        let seq = db.load(org_id).await?.map_or(0, |image| image.seq);
        orgs.push(Org::new(org_id, seq, news));
    }
    Ok(orgs)
}

fn random_hash() -> [u8; 32] {
    let (a, b) = (EventId::new().uuid(), EventId::new().uuid());
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(a.as_bytes());
    hash[16..].copy_from_slice(b.as_bytes());
    hash
}

/// Transitions a second in groups of `group`, each waiting for the one before.
async fn measure(journal: &JournalWriter, orgs: &mut [Org], group: usize, news: &Notify) -> f64 {
    let (began_at, mut done, mut next) = (Instant::now(), 0_u64, 0);
    while began_at.elapsed() < MEASURE {
        for _ in 0..group {
            let submission = orgs[next].transition();
            next = (next + 1) % orgs.len();
            if let Err(back) = journal.try_submit(submission) {
                journal.submit(*back).await;
            }
        }
        while !orgs.iter().all(Org::is_confirmed) {
            news.notified().await;
        }
        done += group as u64;
    }
    done as f64 / began_at.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{:<10} {:>5} {:>6} {:>12}", "database", "orgs", "group", "transitions/s");
    for url in std::env::args().skip(1) {
        let options = Options { keys: vec![SecretKey::new(&[1; 32])], ..Options::default() };
        let db = Database::connect(&url, options).await?;
        db.migrate().await?;
        let journal = JournalWriter::start(&db, JournalOptions::default());
        for count in ORGS {
            let news = Arc::new(Notify::new());
            let mut orgs = orgs(&db, count, &news).await?;
            for group in GROUPS {
                let rate = measure(&journal, &mut orgs, group, &news).await;
                let kind = format!("{:?}", db.kind()).to_lowercase();
                println!("{kind:<10} {count:>5} {group:>6} {rate:>12.0}");
            }
        }
        journal.close().await;
        db.close().await?;
    }
    Ok(())
}
