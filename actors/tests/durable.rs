//! Nothing is told before its commit, and what was not committed was never told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use actix::Addr;
use pulse_actors::directory::AskError;
use pulse_actors::link::ViewerPush;
use pulse_actors::org::{OrgActor, WatchAnswer};
use pulse_actors::testing::{Fleet, RecordingAgent, RecordingViewer, World, settle};
use pulse_domain::request::{Query, Reply};
use pulse_protocol::status::{AgentState, DeviceStatus};

const AGENTS: Query = Query::Agents { after: None, limit: 100 };

async fn world() -> (World, Fleet, Addr<OrgActor>) {
    tokio::time::pause();
    let world = World::new().unwrap();
    let fleet = world.fleet().await.unwrap();
    let home = world.directory.org(fleet.org_id).await.unwrap();
    (world, fleet, home)
}

#[actix::test]
async fn each_kind_of_answer_waits_for_its_commit() {
    let (world, fleet, home) = world().await;
    let (agent, viewer) = (RecordingAgent::default(), RecordingViewer::new());
    let (_, watching) = Fleet::watch(&home, &viewer, None);
    assert!(matches!(watching.await, Ok(WatchAnswer::Snapshot { seq: 1, .. })));

    world.journal.hold();
    fleet.attach(&home, &agent, 1);
    settle().await;
    assert_eq!(world.journal.waiting_events(), ["agent.online", "agent.updated"]);
    let mut asked = world.ask(fleet.org_id);
    settle().await;
    let directory = world.directory.clone();
    let mut read = actix::spawn(async move { directory.read(fleet.org_id, AGENTS).await });
    let (_, mut late) = Fleet::watch(&home, &RecordingViewer::new(), None);
    settle().await;
    assert!(agent.words().is_empty(), "told before its commit: {:?}", agent.words());
    assert!(viewer.seqs().is_empty(), "pushed before its commit: {:?}", viewer.seqs());

    assert_eq!(world.journal.commit(1), 1);
    settle().await;
    assert_eq!(agent.words(), ["welcome"]);
    assert_eq!(viewer.seqs(), [2, 3]);
    // These tell of what the second submission holds.
    assert!(asked.try_recv().is_err());
    assert!(!read.is_finished());
    assert!(late.try_recv().is_err());

    assert_eq!(world.journal.commit(1), 1);
    assert!(matches!(asked.await, Ok(Ok(Reply::Agent(_)))));
    let Ok(Ok(Reply::Agents(agents))) = (&mut read).await else { panic!("no answer") };
    assert_eq!(agents.len(), 2);
    assert!(matches!(late.await, Ok(WatchAnswer::Snapshot { seq: 4, .. })));
    settle().await;
    assert_eq!(viewer.seqs(), [2, 3, 4]);
}

#[actix::test]
async fn a_read_without_anything_undurable_is_answered_at_once() {
    let (world, fleet, _) = world().await;
    world.journal.hold();
    let reply = world.directory.read(fleet.org_id, AGENTS).await;
    assert!(matches!(reply, Ok(Reply::Agents(agents)) if agents.len() == 1));
}

#[actix::test]
async fn acks_come_after_the_commit_and_one_stands_for_all_before_it() {
    let (world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    settle().await;
    world.journal.hold();
    home.do_send(fleet.segments(connection));
    for seq in 2..=6 {
        let address = format!("10.0.0.{seq}");
        home.do_send(fleet.report(connection, seq, &address, DeviceStatus::Online));
    }
    // Taken once, so it is acked with what was taken, and not before that.
    home.do_send(fleet.report(connection, 3, "10.0.0.3", DeviceStatus::Offline));
    settle().await;
    assert_eq!(agent.words(), ["welcome"]);
    assert_eq!(world.journal.commit(2), 2);
    settle().await;
    // The agent was told what to watch on its segment; then of both frames in one ack.
    assert_eq!(agent.words(), ["welcome", "config", "ack 2"]);
    world.journal.flow();
    settle().await;
    assert_eq!(agent.words()[3..], ["ack 6"]);
    assert_eq!(agent.shared.acked(), 6);
}

#[actix::test]
async fn an_error_and_a_close_come_after_the_acks_before_them() {
    let (world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    settle().await;
    world.journal.hold();
    home.do_send(fleet.report(connection, 1, "192.0.2.1", DeviceStatus::Online));
    home.do_send(fleet.segments(connection));
    home.do_send(fleet.report(connection, 2, "10.0.0.1", DeviceStatus::Online));
    home.do_send(fleet.report(connection, 9, "10.0.0.1", DeviceStatus::Online));
    settle().await;
    world.journal.flow();
    settle().await;
    let words = agent.words();
    // The frame that is rejected was taken, so the segments under its number are a repeat, and 10.0.0.1 is outside.
    assert_eq!(
        words,
        [
            "welcome",
            "ack 1",
            "error rejected",
            "ack 2",
            "error rejected",
            "error seq_gap, close 4002"
        ]
    );
}

#[actix::test]
async fn the_last_frames_are_acked_before_the_goodbye() {
    let (world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    settle().await;
    world.journal.hold();
    home.do_send(fleet.segments(connection));
    let second = RecordingAgent::default();
    fleet.attach(&home, &second, 2);
    settle().await;
    world.journal.flow();
    settle().await;
    let words = agent.words();
    assert_eq!(words.last().map(String::as_str), Some("close 4001"));
    assert!(
        words.iter().position(|word| word == "ack 1")
            < words.iter().position(|word| word == "close 4001")
    );
    assert!(words.contains(&"ack 1".to_owned()), "durable and not acked: {words:?}");
    assert_eq!(second.words(), ["welcome"]);
}

#[actix::test]
async fn channels_are_woken_after_the_commit() {
    let (world, fleet, home) = world().await;
    let channel_id = world.channel(fleet.org_id, &["device.discovered"]).await.unwrap();
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    settle().await;
    home.do_send(fleet.segments(connection));
    settle().await;
    let looks = world.store.due_reads(channel_id);
    world.journal.hold();
    home.do_send(fleet.report(connection, 2, "10.0.0.1", DeviceStatus::Online));
    settle().await;
    assert_eq!(world.store.due_reads(channel_id), looks);
    world.journal.flow();
    settle().await;
    assert_eq!(world.sender.sent().len(), 1);
}

#[actix::test]
async fn a_failed_commit_leaves_memory_as_the_tables_are_and_nobody_told() {
    let (world, fleet, home) = world().await;
    let (agent, viewer) = (RecordingAgent::default(), RecordingViewer::new());
    let (viewer_id, _watching) = Fleet::watch(&home, &viewer, None);
    settle().await;
    let loads = world.store.loads();
    world.journal.hold();
    fleet.attach(&home, &agent, 1);
    settle().await;
    let asked = world.ask(fleet.org_id);
    settle().await;
    world.journal.fail();
    assert!(matches!(asked.await, Ok(Err(AskError::Unavailable))));
    settle().await;

    assert_eq!(agent.words(), ["home lost"]);
    assert!(viewer.seqs().is_empty());
    let told = viewer.told();
    assert!(
        matches!(told.last(), Some(ViewerPush::Lost(id, None)) if *id == viewer_id),
        "{told:?}"
    );
    assert!(!home.connected());
    assert_eq!(world.metrics.failed_homes.get(), 1);
    assert_eq!(
        (world.metrics.agents.get(), world.metrics.viewers.get(), world.metrics.orgs.get()),
        (0, 0, 0)
    );
    assert_eq!(world.metrics.undurable.get(), 0);

    world.journal.flow();
    let Ok(Reply::Agents(agents)) = world.directory.read(fleet.org_id, AGENTS).await else {
        panic!("the next home does not answer")
    };
    assert_eq!(world.store.loads(), loads + 1);
    assert_eq!(
        agents.iter().map(|agent| agent.state).collect::<Vec<_>>(),
        [AgentState::NeverConnected]
    );
    // And it numbers on from the tables.
    let next = world.directory.org(fleet.org_id).await.unwrap();
    fleet.attach(&next, &agent, 1);
    settle().await;
    assert_eq!(
        world.store.event_names(fleet.org_id),
        ["agent.enrolled", "agent.online", "agent.updated"]
    );
}

#[actix::test]
async fn what_is_pushed_is_in_order_without_gap_or_repeat() {
    let (world, fleet, home) = world().await;
    let (agent, viewer) = (RecordingAgent::default(), RecordingViewer::new());
    let (_, watching) = Fleet::watch(&home, &viewer, None);
    watching.await.unwrap();
    world.journal.hold();
    let connection = fleet.attach(&home, &agent, 1);
    home.do_send(fleet.segments(connection));
    for seq in 2..=40 {
        home.do_send(fleet.report(connection, seq, &format!("10.0.0.{seq}"), DeviceStatus::Online));
        if seq % 5 == 0 {
            settle().await;
            world.journal.commit(3);
        }
    }
    settle().await;
    world.journal.flow();
    settle().await;
    let last = world.store.image(fleet.org_id).unwrap().seq;
    assert!(viewer.seqs().into_iter().eq(2..=last), "{:?}", viewer.seqs());
    let acks: Vec<_> = agent.words().into_iter().filter(|word| word.starts_with("ack")).collect();
    assert_eq!(acks.last().map(String::as_str), Some("ack 40"));
}
