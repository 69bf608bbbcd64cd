//! What only a test beside the journal can do: take the disk away under its connection.

use std::time::Duration;

use pulse_actors::ports::{Confirm, Home};
use pulse_domain::record::{Batch, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::Plan;
use pulse_protocol::ids::{EventId, OrgId};
use sea_orm::ConnectionTrait;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::*;
use crate::Options;
use crate::admin::{Bootstrap, bootstrap};
use crate::seal::SecretKey;

struct Ear(UnboundedSender<Result<u64, bool>>);

impl Confirm for Ear {
    fn committed(&self, ticket: u64) {
        self.0.send(Ok(ticket)).unwrap();
    }

    fn failed(&self, error: &StoreError) {
        self.0.send(Err(matches!(error, StoreError::Unavailable(_)))).unwrap();
    }
}

type Told = UnboundedReceiver<Result<u64, bool>>;

fn submit(writer: &JournalWriter, org_id: OrgId, size_bytes: usize) -> Told {
    let (told, heard) = unbounded_channel();
    let event = JournalEvent {
        seq: 1,
        id: EventId::new(),
        name: "device.offline".into(),
        at: Timestamp::from_unix_ms(1),
        data: format!("\"{}\"", "x".repeat(size_bytes)).into(),
    };
    let batch = Batch { org_id, after_seq: 0, events: vec![event], writes: vec![] };
    let home = Home::new(org_id, None, Box::new(Ear(told)));
    writer.try_submit(Submission { home, ticket: 1, batch }).unwrap();
    heard
}

async fn next(told: &mut Told) -> Result<u64, bool> {
    timeout(Duration::from_secs(10), told.recv()).await.unwrap().unwrap()
}

async fn new_org(store: &Database, name: &str, token: u8) -> OrgId {
    let wanted = Bootstrap {
        email: "a@example.org",
        org_name: name,
        plan: Plan::Trial,
        password_hash: "none",
        token_hash: &[token; 32],
        rotate: false,
        now: Timestamp::from_unix_ms(1),
    };
    bootstrap(store, &wanted).await.unwrap().org_id
}

#[tokio::test]
async fn a_full_disk_fails_the_whole_group_and_the_next_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("pulse.db").display());
    let options = Options { keys: vec![SecretKey::new(&[1; 32])], ..Options::default() };
    let store = Database::connect(&url, options).await.unwrap();
    store.migrate().await.unwrap();
    let (red, blue) = (new_org(&store, "Red", 1).await, new_org(&store, "Blue", 2).await);
    // SQLite raises a limit below the present size to that size: no page can be added.
    store.journal().execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
    let writer = JournalWriter::start(&store, JournalOptions::default());
    // One thread: the journal's task sees both at once.
    let mut told = [submit(&writer, red, 1 << 20), submit(&writer, blue, 1)];
    for told in &mut told {
        assert_eq!(next(told).await, Err(true));
    }

    store.journal().execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap();
    for org_id in [red, blue] {
        assert_eq!(next(&mut submit(&writer, org_id, 1 << 20)).await, Ok(1));
    }
}
