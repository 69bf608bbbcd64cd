//! What falls costs its own callers a restart, and nobody else anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use actix::Addr;
use pulse_actors::directory::AskError;
use pulse_actors::link::ViewerPush;
use pulse_actors::org::{Drain, IDLE_AFTER, OrgActor};
use pulse_actors::ports::Clock;
use pulse_actors::testing::{Fleet, RecordingAgent, RecordingViewer, World, settle};
use pulse_domain::request::{Query, Reply};
use pulse_protocol::status::DeviceStatus;
use tokio::sync::oneshot;

async fn world() -> (World, Fleet, Addr<OrgActor>) {
    tokio::time::pause();
    let world = World::new().unwrap();
    let fleet = world.fleet().await.unwrap();
    let home = world.directory.org(fleet.org_id).await.unwrap();
    (world, fleet, home)
}

async fn pass(time: Duration) {
    // In steps, so that what a timer starts can arm the next one in its time.
    let step = Duration::from_secs(5);
    for _ in 0..time.as_secs().div_ceil(step.as_secs()) {
        tokio::time::advance(step).await;
        settle().await;
    }
}

#[actix::test]
async fn a_panic_costs_nothing_but_the_restart() {
    let (world, fleet, home) = world().await;
    let neighbour = world.fleet().await.unwrap();
    let its_home = world.directory.org(neighbour.org_id).await.unwrap();
    let (agent, viewer) = (RecordingAgent::default(), RecordingViewer::new());
    let connection = fleet.attach(&home, &agent, 1);
    home.do_send(fleet.segments(connection));
    let (viewer_id, _watching) = Fleet::watch(&home, &viewer, None);
    settle().await;
    let before = world.store.image(fleet.org_id);

    world.journal.poison("device.discovered");
    home.do_send(fleet.report(connection, 2, "10.0.0.1", DeviceStatus::Online));
    settle().await;
    assert!(!home.connected());
    assert!(its_home.connected(), "a neighbour on the same thread fell too");
    assert!(world.directory.read(neighbour.org_id, Query::Org).await.is_ok());
    assert_eq!(agent.words().last().map(String::as_str), Some("home lost"));
    let told = viewer.told();
    assert!(
        matches!(told.last(), Some(ViewerPush::Lost(id, None)) if *id == viewer_id),
        "{told:?}"
    );
    assert_eq!(world.store.image(fleet.org_id), before);

    world.journal.heal();
    let next = world.directory.org(fleet.org_id).await.unwrap();
    let back = RecordingAgent::default();
    let connection = fleet.attach(&next, &back, 2);
    next.do_send(fleet.report(connection, 2, "10.0.0.1", DeviceStatus::Online));
    settle().await;
    assert_eq!(back.words(), ["welcome", "ack 2"]);
    assert!(!world.store.event_names(fleet.org_id).contains(&"agent.offline".to_owned()));
}

#[actix::test]
async fn what_a_fallen_home_left_in_the_journal_is_not_written_behind_its_successor() {
    let (world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    home.do_send(fleet.segments(connection));
    settle().await;
    world.journal.hold();
    world.journal.poison("device.unknown");
    home.do_send(fleet.report(connection, 2, "10.0.0.1", DeviceStatus::Online));
    home.do_send(fleet.report(connection, 3, "10.0.0.1", DeviceStatus::Unknown));
    settle().await;
    assert!(!home.connected(), "the poison did not work");
    world.journal.heal();
    let next = world.directory.org(fleet.org_id).await.unwrap();
    world.journal.flow();
    assert!(world.directory.request(fleet.org_id, rename()).await.is_ok());
    assert!(next.connected(), "the new home was contradicted by the old one");
}

fn rename() -> pulse_domain::request::Request {
    let patch =
        pulse_protocol::api::OrgPatch { name: Some("Acme Two".to_owned()), ..Default::default() };
    pulse_domain::request::Request::PatchOrg(patch)
}

#[actix::test]
async fn what_falls_again_and_again_is_left_alone_for_a_while() {
    let (world, fleet, _) = world().await;
    world.journal.poison("agent.enrolled");
    // Its first start counts, too.
    for _ in 0..5 {
        assert!(matches!(world.ask(fleet.org_id).await, Ok(Err(AskError::Unavailable))));
        settle().await;
    }
    let loads = world.store.loads();
    let asked_at = world.clock.now();
    assert!(matches!(world.directory.org(fleet.org_id).await, Err(AskError::Unavailable)));
    assert_eq!(world.clock.now(), asked_at, "the refusal took its time");
    assert_eq!(world.store.loads(), loads, "the refusal cost a load");

    world.journal.heal();
    assert!(matches!(world.ask(fleet.org_id).await, Ok(Err(AskError::Unavailable))));
    pass(Duration::from_secs(31)).await;
    assert!(matches!(world.ask(fleet.org_id).await, Ok(Ok(Reply::Agent(_)))));
}

#[actix::test]
async fn a_store_that_does_not_answer_is_asked_again() {
    tokio::time::pause();
    let world = World::new().unwrap();
    let org_id = world.org();
    world.store.set_down(true);
    for _ in 0..20 {
        assert!(matches!(world.directory.org(org_id).await, Err(AskError::Unavailable)));
    }
    world.store.set_down(false);
    assert!(world.directory.org(org_id).await.is_ok());
}

#[actix::test]
async fn an_org_that_is_created_later_is_found() {
    tokio::time::pause();
    let world = World::new().unwrap();
    let unknown = pulse_protocol::ids::OrgId::new();
    assert!(matches!(world.directory.org(unknown).await, Err(AskError::NoSuchOrg)));
    let org_id = world.org();
    assert!(world.directory.org(org_id).await.is_ok());
}

#[actix::test]
async fn many_who_ask_at_once_get_the_same_home() {
    tokio::time::pause();
    let world = World::new().unwrap();
    let org_id = world.org();
    let finds = (0..50).map(|_| world.directory.org(org_id));
    let homes = futures_util::future::join_all(finds).await;
    let first = homes[0].clone().unwrap();
    assert!(homes.into_iter().all(|home| home == Ok(first.clone())));
    assert_eq!(world.store.loads(), 1);
}

#[actix::test]
async fn an_idle_home_stops_and_is_started_anew_on_demand() {
    let (world, fleet, home) = world().await;
    pass(IDLE_AFTER - Duration::from_secs(30)).await;
    assert!(home.connected(), "stopped too early");
    pass(Duration::from_secs(90)).await;
    assert!(!home.connected());
    assert_eq!(world.metrics.orgs.get(), 0);
    let reply = world.directory.read(fleet.org_id, Query::Org).await;
    assert!(matches!(reply, Ok(Reply::Org(_))));
    assert_eq!(world.metrics.orgs.get(), 1);
}

#[actix::test]
async fn a_home_that_is_needed_does_not_stop() {
    let (world, fleet, home) = world().await;
    let (viewer_id, _watching) = Fleet::watch(&home, &RecordingViewer::new(), None);
    pass(IDLE_AFTER * 2).await;
    assert!(home.connected(), "stopped under a viewer");
    home.do_send(pulse_actors::org::Unwatch(viewer_id));

    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    pass(IDLE_AFTER * 2).await;
    assert!(home.connected(), "stopped under an agent");
    home.do_send(fleet.hang_up(connection));
    settle().await;

    // Its end is still to be announced, and then not durable yet.
    world.journal.hold();
    pass(IDLE_AFTER * 2).await;
    assert_eq!(world.journal.waiting_events(), ["agent.offline"]);
    assert!(home.connected(), "stopped with an undurable batch");
    world.journal.flow();
    pass(IDLE_AFTER * 2).await;
    assert!(!home.connected());
}

#[actix::test]
async fn a_socket_that_cannot_tell_that_its_agent_is_silent_is_ended_by_the_home() {
    let (world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let _connection = fleet.attach(&home, &agent, 1);
    settle().await;
    for _ in 0..20 {
        agent.shared.seen(world.clock.now());
        pass(Duration::from_secs(5)).await;
    }
    assert_eq!(agent.words(), ["welcome"]);
    // Timeout 12 s, slack 5 s, and two looks that are 5 s apart; then the grace of 5 s.
    pass(Duration::from_secs(35)).await;
    assert_eq!(agent.words(), ["welcome", "close 4008", "home lost"]);
    assert_eq!(
        world.store.event_names(fleet.org_id).last().map(String::as_str),
        Some("agent.offline")
    );
}

#[actix::test]
async fn a_drain_tells_what_is_pending_sends_everybody_away_and_announces_nothing() {
    let (world, fleet, home) = world().await;
    let (agent, viewer) = (RecordingAgent::default(), RecordingViewer::new());
    let (_, _watching) = Fleet::watch(&home, &viewer, None);
    settle().await;
    world.journal.hold();
    let connection = fleet.attach(&home, &agent, 1);
    settle().await;
    let asked = world.ask(fleet.org_id);
    settle().await;
    let directory = world.directory.clone();
    let draining = actix::spawn(async move { directory.drain(500, Duration::from_secs(30)).await });
    settle().await;
    assert!(!draining.is_finished());
    assert!(agent.words().is_empty());
    assert!(matches!(world.directory.org(fleet.org_id).await, Err(AskError::Unavailable)));

    // What comes now is not taken.
    home.do_send(fleet.segments(connection));
    settle().await;
    assert_eq!(world.journal.waiting(), 2);
    world.journal.commit(2);
    draining.await.unwrap();
    assert!(matches!(asked.await, Ok(Ok(Reply::Agent(_)))));
    settle().await;
    assert_eq!(agent.words(), ["welcome", "drain", "close 1001", "home lost"]);
    assert_eq!(viewer.seqs(), [2, 3, 4]);
    assert!(!home.connected());
    home.do_send(fleet.hang_up(connection));
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.journal.waiting(), 0);
    assert!(!world.store.event_names(fleet.org_id).contains(&"agent.offline".to_owned()));
    assert!(matches!(world.directory.org(fleet.org_id).await, Err(AskError::Unavailable)));
}

#[actix::test]
async fn a_drain_gives_up_on_a_journal_that_stands_still() {
    let (world, fleet, home) = world().await;
    world.journal.hold();
    let agent = RecordingAgent::default();
    fleet.attach(&home, &agent, 1);
    settle().await;
    let began = world.clock.now();
    world.directory.drain(500, Duration::from_secs(7)).await;
    let took = world.clock.now().duration_since(began);
    assert!(
        (Duration::from_secs(7)..Duration::from_millis(7_100)).contains(&took),
        "took {took:?}"
    );
    assert!(agent.words().is_empty());
}

/// A timer that is disarmed in the same breath in which the home stops must not hang the thread.
#[actix::test]
async fn a_home_stops_in_the_breath_in_which_it_disarms_a_timer() {
    let (_world, fleet, home) = world().await;
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    home.do_send(fleet.hang_up(connection));
    settle().await;
    // The return disarms the wake-up that would announce the agent.
    fleet.attach(&home, &agent, 1);
    let (stopped, has_stopped) = oneshot::channel();
    home.do_send(Drain { reconnect_after_ms: Some(500), stopped });
    assert!(has_stopped.await.is_err());
    assert!(!home.connected());
}
