//! Events to many viewers: encoded once, and the slow are cut off, never the others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use pulse_actors::org::{OrgActor, Unwatch, WatchAnswer};
use pulse_actors::testing::{Fleet, RecordingAgent, RecordingViewer, World, settle};
use pulse_domain::presence::ConnectionId;
use pulse_protocol::status::DeviceStatus;

async fn world() -> (World, Fleet, Addr<OrgActor>, ConnectionId) {
    tokio::time::pause();
    let world = World::new().unwrap();
    let fleet = world.fleet().await.unwrap();
    let home = world.directory.org(fleet.org_id).await.unwrap();
    let connection = fleet.attach(&home, &RecordingAgent::default(), 1);
    home.do_send(fleet.segments(connection));
    settle().await;
    (world, fleet, home, connection)
}

fn find_device(fleet: &Fleet, home: &Addr<OrgActor>, connection: ConnectionId, seq: u64) {
    home.do_send(fleet.report(connection, seq, &format!("10.0.0.{seq}"), DeviceStatus::Online));
}

#[actix::test]
async fn all_viewers_share_one_encoding() {
    let (_world, fleet, home, connection) = world().await;
    let viewers: Vec<_> = (0..5).map(|_| RecordingViewer::new()).collect();
    for viewer in &viewers {
        drop(Fleet::watch(&home, viewer, None));
    }
    find_device(&fleet, &home, connection, 2);
    settle().await;
    let first = viewers[0].chunks();
    assert!(!first.is_empty());
    for viewer in &viewers[1..] {
        let chunks = viewer.chunks();
        assert_eq!(chunks.len(), first.len());
        assert!(chunks.iter().zip(&first).all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}

#[actix::test]
async fn a_viewer_that_does_not_read_is_cut_off_and_the_others_get_everything() {
    let (world, fleet, home, connection) = world().await;
    let (slow, quick) = (RecordingViewer::that_does_not_read(), RecordingViewer::new());
    drop(Fleet::watch(&home, &slow, None));
    drop(Fleet::watch(&home, &quick, None));
    settle().await;
    assert_eq!(world.metrics.viewers.get(), 2);
    let from = world.store.image(fleet.org_id).unwrap().seq;
    for seq in 2..=200 {
        find_device(&fleet, &home, connection, seq);
        settle().await;
    }
    let through = world.store.image(fleet.org_id).unwrap().seq;
    assert!(quick.seqs().into_iter().eq(from + 1..=through));
    assert_eq!(world.metrics.viewers.get(), 1);
    let chunk = quick.chunks().pop().unwrap();
    // The viewer's record, and this test: nothing is kept for the one that was cut off.
    assert_eq!(Arc::strong_count(&chunk), 2);
}

#[actix::test]
async fn a_snapshot_is_made_once_for_all_who_come_before_the_next_change() {
    let (world, fleet, home, connection) = world().await;
    let snapshot = async || {
        let (_, answered) = Fleet::watch(&home, &RecordingViewer::new(), None);
        match answered.await.unwrap() {
            WatchAnswer::Snapshot { seq, frame } => (seq, frame),
            WatchAnswer::Resume { .. } => panic!("no snapshot"),
        }
    };
    let (seq, first) = snapshot().await;
    assert_eq!(seq, world.store.image(fleet.org_id).unwrap().seq);
    assert!(Arc::ptr_eq(&first, &snapshot().await.1));
    find_device(&fleet, &home, connection, 2);
    settle().await;
    let (later, second) = snapshot().await;
    assert!(later > seq && !Arc::ptr_eq(&first, &second));
    // How an agent is changes without a number, too.
    home.do_send(fleet.hang_up(connection));
    settle().await;
    let (same, third) = snapshot().await;
    assert_eq!(same, later);
    assert!(!Arc::ptr_eq(&second, &third));
}

#[actix::test]
async fn a_viewer_that_has_everything_durable_goes_on_from_there() {
    let (world, fleet, home, connection) = world().await;
    let durable = world.store.image(fleet.org_id).unwrap().seq;
    world.journal.hold();
    find_device(&fleet, &home, connection, 2);
    settle().await;
    let viewer = RecordingViewer::new();
    let (_, answered) = Fleet::watch(&home, &viewer, Some(durable));
    assert!(
        matches!(answered.await, Ok(WatchAnswer::Resume { durable: known }) if known == durable)
    );
    let (_, mut ahead) = Fleet::watch(&home, &RecordingViewer::new(), Some(durable + 1));
    settle().await;
    assert!(ahead.try_recv().is_err(), "told of what is not durable");
    world.journal.flow();
    settle().await;
    let through = world.store.image(fleet.org_id).unwrap().seq;
    assert!(viewer.seqs().into_iter().eq(durable + 1..=through));
    assert!(matches!(ahead.try_recv(), Ok(WatchAnswer::Snapshot { .. })));
}

#[actix::test]
async fn with_many_viewers_events_wait_a_moment_for_company() {
    let (world, fleet, home, connection) = world().await;
    let viewers: Vec<_> = (0..200).map(|_| RecordingViewer::new()).collect();
    for viewer in &viewers {
        drop(Fleet::watch(&home, viewer, None));
    }
    settle().await;
    tokio::time::advance(Duration::from_millis(100)).await;
    let viewer = &viewers[7];
    find_device(&fleet, &home, connection, 2);
    settle().await;
    assert_eq!(viewer.chunks().len(), 1, "the first is pushed at once");
    find_device(&fleet, &home, connection, 3);
    settle().await;
    find_device(&fleet, &home, connection, 4);
    settle().await;
    assert_eq!(viewer.chunks().len(), 1);
    tokio::time::advance(Duration::from_millis(21)).await;
    settle().await;
    assert_eq!(viewer.chunks().len(), 2);
    let through = world.store.image(fleet.org_id).unwrap().seq;
    assert_eq!(viewer.seqs().last(), Some(&through));
    assert!(viewers.iter().all(|other| other.seqs() == viewer.seqs()));
}

#[actix::test]
async fn who_left_gets_nothing_more_and_news_without_a_number_reach_those_who_watch() {
    let (world, fleet, home, connection) = world().await;
    let viewer = RecordingViewer::new();
    let (viewer_id, _answered) = Fleet::watch(&home, &viewer, None);
    settle().await;
    assert!(world.directory.has_viewers());
    home.do_send(fleet.hang_up(connection));
    settle().await;
    assert_eq!(viewer.told().len(), 1, "that the agent lingers");
    home.do_send(Unwatch(viewer_id));
    settle().await;
    assert!(!world.directory.has_viewers());
    let told = viewer.told().len();
    tokio::time::advance(Duration::from_secs(6)).await;
    settle().await;
    assert_eq!(
        world
            .store
            .event_names(fleet.org_id)
            .iter()
            .filter(|name| *name == "agent.offline")
            .count(),
        1
    );
    assert_eq!(viewer.told().len(), told);
}
