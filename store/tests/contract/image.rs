use std::sync::Arc;
use std::time::Duration;

use pulse_actors::ports::{OrgStore, StoreError};
use pulse_domain::record::{ChannelRecord, OrgImage, Write};
use pulse_protocol::api::{CommandState, ScanState};
use pulse_protocol::ids::{ChannelId, OrgId};
use pulse_store::seal::SecretKey;
use pulse_store::{Database, Options};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tokio::time::timeout;

use crate::kit::*;
use crate::samples::{self, Draw};

pub(crate) async fn a_loaded_org_is_what_was_written(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut draw = Draw::new();
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let mut wanted = OrgImage {
        org: draw.one(samples::org(org_id, "slug-one".to_owned())),
        seq: 3,
        agents: draw.some(20, samples::agent()),
        presences: draw.some(20, samples::presence()),
        positions: draw.some(20, samples::position()),
        segments: draw.some(20, samples::segment()),
        devices: draw.some(300, samples::device()),
        device_states: draw.some(300, samples::device_state()),
        scans: draw.some(20, samples::scan()),
        commands: draw.some(20, samples::command()),
        channels: draw.some(20, samples::channel()),
        rules: draw.some(20, samples::rule()),
    };
    // What is written from outside stays as it was written there.
    let outside = store.org(org_id).await.unwrap().unwrap();
    wanted.org.plan = outside.plan;
    wanted.org.status = outside.status;
    wanted.org.status_reason = outside.status_reason;
    scribe.write(&writer, 3, writes(&wanted)).await;

    let mut loaded = store.load(org_id).await.unwrap().unwrap();
    sort(&mut loaded);
    sort(&mut wanted);
    assert_eq!(loaded, wanted);
    assert_eq!(store.org(org_id).await.unwrap(), Some(wanted.org.clone()));
    for channel in &wanted.channels {
        assert_eq!(store.channel(org_id, channel.id).await.unwrap().as_ref(), Some(channel));
    }

    // Written again, each row is replaced.
    scribe.write(&writer, 0, writes(&wanted)).await;
    let mut again = store.load(org_id).await.unwrap().unwrap();
    sort(&mut again);
    assert_eq!(again, wanted);
}

fn writes(image: &OrgImage) -> Vec<Write> {
    let mut writes = vec![Write::Org(image.org.clone())];
    writes.extend(image.agents.iter().cloned().map(Write::Agent));
    writes.extend(image.presences.iter().copied().map(Write::Presence));
    writes.extend(image.positions.iter().cloned().map(Write::Position));
    writes.extend(image.segments.iter().cloned().map(Write::Segment));
    writes.extend(image.devices.iter().cloned().map(Write::Device));
    writes.extend(image.device_states.iter().cloned().map(Write::DeviceState));
    writes.extend(image.scans.iter().cloned().map(Write::Scan));
    writes.extend(image.commands.iter().cloned().map(Write::Command));
    writes.extend(image.channels.iter().cloned().map(Write::Channel));
    writes.extend(image.rules.iter().cloned().map(Write::Rule));
    writes
}

fn sort(image: &mut OrgImage) {
    image.agents.sort_by_key(|row| row.id);
    image.presences.sort_by_key(|row| row.agent_id);
    image.positions.sort_by_key(|row| row.agent_id);
    image.segments.sort_by_key(|row| row.id);
    image.devices.sort_by_key(|row| row.id);
    image.device_states.sort_by_key(|row| row.device_id);
    image.scans.sort_by_key(|row| row.id);
    image.commands.sort_by_key(|row| row.id);
    image.channels.sort_by_key(|row| row.id);
    image.rules.sort_by_key(|row| row.id);
}

pub(crate) async fn unknown_orgs_have_no_image(db: Arc<Fresh>) {
    let store = db.store().await;
    assert_eq!(store.load(OrgId::new()).await.unwrap(), None);
    assert_eq!(store.org(OrgId::new()).await.unwrap(), None);
    assert_eq!(store.channel(OrgId::new(), ChannelId::new()).await.unwrap(), None);
    assert_eq!(store.event_range(OrgId::new()).await.unwrap(), (0, 0));
}

pub(crate) async fn an_image_has_the_latest_scans_and_open_commands_only(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let mut scans = draw.some(70, samples::scan());
    for (nth, scan) in (0..).zip(&mut scans) {
        let is_running = nth % 10 == 0;
        scan.state = if is_running { ScanState::Running } else { ScanState::Completed };
        scan.finished_at = (!is_running).then_some(at(nth));
    }
    let mut commands = draw.some(2, samples::command());
    commands[1].state = CommandState::Expired;
    let mut writes: Vec<Write> = scans.iter().cloned().map(Write::Scan).collect();
    writes.extend(commands.iter().cloned().map(Write::Command));
    scribe.write(&writer, 1, writes).await;

    let image = store.load(scribe.home.org_id).await.unwrap().unwrap();
    assert_eq!(image.commands, commands[..1]);
    let running = image.scans.iter().filter(|scan| scan.state == ScanState::Running).count();
    let oldest = image.scans.iter().filter_map(|scan| scan.finished_at).min();
    // Of 70, 7 run; the 50 that ended last of the 63 others begin with the 14th of them.
    assert_eq!((running, image.scans.len(), oldest), (7, 57, Some(at(15))));
}

pub(crate) async fn secrets_are_sealed_in_the_tables(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut channel = Draw::new().one(samples::channel());
    channel.hidden.signing = vec!["whsec_plain".to_owned()];
    scribe.write(&writer, 1, vec![Write::Channel(channel.clone())]).await;

    let raw = db.raw().await;
    let select = Statement::from_string(raw.get_database_backend(), "SELECT secrets FROM channels");
    let row = raw.query_one_raw(select).await.unwrap().unwrap();
    let stored: String = row.try_get_by_index(0).unwrap();
    assert!(stored.starts_with("v1.") && !stored.contains("whsec"), "{stored}");

    let (first, second) = (SecretKey::new(&[1; 32]), SecretKey::new(&[2; 32]));
    let org_id = scribe.home.org_id;
    let rotated = Options { keys: vec![second.clone(), first], ..Options::default() };
    let rotated = Database::connect(&db.url, rotated).await.unwrap();
    assert_eq!(rotated.channel(org_id, channel.id).await.unwrap(), Some(channel.clone()));
    let stranger = Options { keys: vec![second], ..Options::default() };
    let stranger = Database::connect(&db.url, stranger).await.unwrap();
    let refused = stranger.channel(org_id, channel.id).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { what: "channel secret", .. }));
    assert!(!refused.to_string().contains(&stored));
}

/// A commit whose answer was lost may come true after its home gave it up. On SQLite it has an end before its answer.
pub(crate) async fn a_load_waits_for_a_commit_in_doubt(db: Arc<Fresh>) {
    if !db.is_postgres() {
        return;
    }
    let store = db.store().await;
    let org_id = org(&store).await;
    let doubted = db.raw().await.begin().await.unwrap();
    let text = format!("UPDATE org_heads SET seq = 7 WHERE org_id = '{}'", org_id.uuid());
    doubted.execute_unprepared(&text).await.unwrap();
    let mut loading = std::pin::pin!(store.load(org_id));
    let early = timeout(Duration::from_millis(300), loading.as_mut()).await;
    assert!(early.is_err(), "loaded past a commit in doubt");
    doubted.commit().await.unwrap();
    assert_eq!(timeout(DEADLINE, loading).await.unwrap().unwrap().unwrap().seq, 7);
}

/// A later version wrote it, and this one took over again.
pub(crate) async fn a_channel_of_an_unknown_kind_is_left_out(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let [known, later] = [Draw::new().one(samples::channel()), Draw::new().one(samples::channel())]
        .map(|channel| ChannelRecord { id: ChannelId::new(), ..channel });
    let both = [&known, &later].map(|channel| Write::Channel(channel.clone()));
    scribe.write(&writer, 1, both.into()).await;
    let rename = |name: &str, kind: &str| {
        format!("UPDATE channels SET kind = '{kind}' WHERE name = '{name}'")
    };
    let raw = db.raw().await;
    let named = Write::Channel(ChannelRecord { name: "later".to_owned(), ..later.clone() });
    scribe.write(&writer, 0, vec![named]).await;
    let update =
        Statement::from_string(raw.get_database_backend(), rename("later", "carrier_pigeon"));
    assert_eq!(raw.execute_raw(update).await.unwrap().rows_affected(), 1);

    let loaded = store.load(org_id).await.unwrap().unwrap();
    assert_eq!(loaded.channels, [known]);
    assert_eq!(store.channel(org_id, later.id).await.unwrap(), None);
}
