use std::collections::BTreeMap;
use std::sync::Arc;

use pulse_actors::ports::{DeliveryFilter, MailFilter, MailStore, OrgStore};
use pulse_domain::record::Write;
use pulse_protocol::api::{Attempt, AttemptOutcome};
use pulse_protocol::ids::{ChannelId, OrgId};
use pulse_store::{ConnectError, CopyError, Database, copy};
use sea_orm::{ConnectionTrait, Statement};
use tempfile::TempDir;

use crate::kit::*;
use crate::samples::{self, Draw};

/// More than one batch of events, and not a whole number of them.
const EVENTS: u64 = 2_500;

/// An SQLite file, stopped, with a few orgs.
struct Stopped {
    _folder: TempDir,
    fresh: Fresh,
    orgs: Vec<OrgId>,
}

async fn stopped_hub() -> Stopped {
    let folder = tempfile::tempdir().unwrap();
    let fresh = Fresh { url: format!("sqlite://{}", folder.path().join("pulse.db").display()) };
    let store = fresh.store().await;
    let writer = journal(&store);
    let mut draw = Draw::new();
    let mut orgs = Vec::new();
    for events in [EVENTS, 3] {
        let mut scribe = Scribe::new(org(&store).await, 0);
        orgs.push(scribe.home.org_id);
        scribe.write(&writer, events, rows(&mut draw)).await;
    }
    writer.close().await;
    store.close().await.unwrap();
    Stopped { _folder: folder, fresh, orgs }
}

/// Some of every kind that an org has.
fn rows(draw: &mut Draw) -> Vec<Write> {
    let attempt = Attempt {
        at: at(1),
        duration_ms: 1,
        outcome: AttemptOutcome::Accepted,
        status: Some(200),
        answer: None,
        error: None,
    };
    let delivered = samples::delivery(ChannelId::new(), 1, None);
    let mut rows = vec![Write::Attempt(delivered.id, attempt), Write::Delivery(delivered)];
    rows.push(Write::Delivery(samples::delivery(ChannelId::new(), 2, Some(7))));
    rows.extend(draw.some(5, samples::agent()).into_iter().map(Write::Agent));
    rows.extend(draw.some(5, samples::presence()).into_iter().map(Write::Presence));
    rows.extend(draw.some(5, samples::position()).into_iter().map(Write::Position));
    rows.extend(draw.some(5, samples::segment()).into_iter().map(Write::Segment));
    rows.extend(draw.some(300, samples::device()).into_iter().map(Write::Device));
    rows.extend(draw.some(300, samples::device_state()).into_iter().map(Write::DeviceState));
    rows.extend(draw.some(5, samples::scan()).into_iter().map(Write::Scan));
    rows.extend(draw.some(5, samples::command()).into_iter().map(Write::Command));
    rows.extend(draw.some(5, samples::channel()).into_iter().map(Write::Channel));
    rows.extend(draw.some(5, samples::rule()).into_iter().map(Write::Rule));
    rows.extend(draw.some(5, samples::alert()).into_iter().map(Write::Alert));
    rows.extend(draw.some(5, samples::window()).into_iter().map(Write::Window));
    rows
}

/// All that an org has, so that two can be compared. The order of an image's rows is the database's.
async fn everything(store: &Database, org_id: OrgId) -> BTreeMap<&'static str, Vec<String>> {
    let image = store.load(org_id).await.unwrap().unwrap();
    let mut all = BTreeMap::from([
        ("org", vec![format!("{:?} {}", image.org, image.seq)]),
        ("agents", texts(&image.agents)),
        ("presences", texts(&image.presences)),
        ("positions", texts(&image.positions)),
        ("segments", texts(&image.segments)),
        ("devices", texts(&image.devices)),
        ("device states", texts(&image.device_states)),
        ("scans", texts(&image.scans)),
        ("commands", texts(&image.commands)),
        ("channels", texts(&image.channels)),
        ("rules", texts(&image.rules)),
        ("alerts", texts(&image.alerts)),
        ("maintenance_windows", texts(&image.windows)),
    ]);
    let events = store.events_after(org_id, 0, 10_000).await.unwrap();
    all.insert("events", texts(&events));
    let deliveries = store.deliveries(org_id, DeliveryFilter::default(), 100).await.unwrap();
    let mut attempts = Vec::new();
    for delivery in &deliveries {
        attempts.push(store.delivery(org_id, delivery.id).await.unwrap());
    }
    let mails = store.mails(org_id, MailFilter::default(), 100).await.unwrap();
    let mut said = Vec::new();
    for mail in &mails {
        said.push(store.mail(org_id, mail.id).await.unwrap().unwrap().0.params);
    }
    all.insert("mails", texts(&mails));
    all.insert("what mails say", texts(&said));
    all.insert("deliveries", texts(&deliveries));
    all.insert("attempts", texts(&attempts));
    all
}

fn texts<T: std::fmt::Debug>(rows: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}

pub(crate) async fn a_copy_has_everything_and_goes_on(db: Arc<Fresh>) {
    let stopped = stopped_hub().await;
    let source = Database::connect_alone(&stopped.fresh.url).await.unwrap();
    let target = db.store().await;
    let written = copy(&source, &target).await.unwrap();
    source.close().await.unwrap();
    assert_eq!(written["events"], EVENTS + 3);
    assert_eq!((written["orgs"], written["users"], written["api_tokens"]), (2, 2, 2));
    assert_eq!((written["delivery_attempts"], written["sessions"]), (2, 0));

    let source = stopped.fresh.connect().await;
    for org_id in &stopped.orgs {
        let copied = everything(&target, *org_id).await;
        assert_eq!(copied, everything(&source, *org_id).await);
        assert!(copied.values().all(|rows| !rows.is_empty()), "nothing was compared: {copied:?}");
    }
    let mut scribe = Scribe::new(stopped.orgs[0], EVENTS);
    scribe.write(&journal(&target), 1, vec![]).await;
    assert_eq!(target.event_range(stopped.orgs[0]).await.unwrap(), (1, EVENTS + 1));
}

pub(crate) async fn no_table_is_left_behind(db: Arc<Fresh>) {
    let stopped = stopped_hub().await;
    let source = Database::connect_alone(&stopped.fresh.url).await.unwrap();
    let written = copy(&source, &db.store().await).await.unwrap();
    let raw = db.raw().await;
    let text = match db.is_postgres() {
        true => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
        false => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    let select = Statement::from_string(raw.get_database_backend(), text);
    for row in raw.query_all_raw(select).await.unwrap() {
        let table: String = row.try_get_by_index(0).unwrap();
        assert!(table == "seaql_migrations" || written.contains_key(&*table), "{table}");
    }
}

pub(crate) async fn a_target_with_rows_is_refused_and_left_alone(db: Arc<Fresh>) {
    let stopped = stopped_hub().await;
    let source = Database::connect_alone(&stopped.fresh.url).await.unwrap();
    let target = db.store().await;
    let there = org(&target).await;
    let before = target.org(there).await.unwrap();
    let refused = copy(&source, &target).await.unwrap_err();
    assert!(matches!(refused, CopyError::NotEmpty { table: "orgs" }), "{refused}");
    assert_eq!(target.org(there).await.unwrap(), before);
    assert_eq!(target.org(stopped.orgs[0]).await.unwrap(), None);
}

pub(crate) async fn a_target_without_tables_is_refused(db: Arc<Fresh>) {
    let stopped = stopped_hub().await;
    let source = Database::connect_alone(&stopped.fresh.url).await.unwrap();
    let refused = copy(&source, &db.connect().await).await.unwrap_err();
    assert!(matches!(refused, CopyError::Schema { side: "target" }), "{refused}");
}

#[tokio::test]
async fn a_copy_needs_the_file_for_itself() {
    let stopped = stopped_hub().await;
    let live = stopped.fresh.connect().await;
    let refused = Database::connect_alone(&stopped.fresh.url).await.unwrap_err();
    assert!(matches!(refused, ConnectError::InUse(_)), "{refused:?}");
    live.close().await.unwrap();
    Database::connect_alone(&stopped.fresh.url).await.unwrap().close().await.unwrap();

    let missing = format!("{}-missing", stopped.fresh.url);
    let refused = Database::connect_alone(&missing).await.unwrap_err();
    assert!(matches!(refused, ConnectError::NoFile(_)), "{refused:?}");
}
