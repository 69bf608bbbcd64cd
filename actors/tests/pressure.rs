//! A busy org is felt by those who send to it, and by nobody's memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use actix::prelude::*;
use pulse_actors::directory::AskError;
use pulse_actors::org::Take;
use pulse_actors::testing::{RecordingAgent, World, settle};
use pulse_domain::request::Query;
use pulse_protocol::status::DeviceStatus;

/// What the mailbox of a home holds; one more for each sender.
const MAILBOX: usize = 256;

#[actix::test]
async fn a_full_journal_stops_the_home_then_its_senders_and_everything_goes_on_in_order() {
    tokio::time::pause();
    let world = World::new().unwrap();
    let fleet = world.fleet().await.unwrap();
    let home = world.directory.org(fleet.org_id).await.unwrap();
    let agent = RecordingAgent::default();
    let connection = fleet.attach(&home, &agent, 1);
    home.do_send(fleet.segments(connection));
    settle().await;

    world.journal.hold();
    world.journal.limit(4);
    let frame = |seq: u64| -> Take {
        let address = format!("10.0.{}.{}", seq / 200, seq % 200 + 1);
        fleet.report(connection, seq, &address, DeviceStatus::Online)
    };
    let mut seq = 1;
    let refused = loop {
        seq += 1;
        match home.try_send(frame(seq)) {
            Ok(()) => assert!(seq < 2_000, "the mailbox grows without bound"),
            Err(SendError::Full(take)) => break take,
            Err(SendError::Closed(_)) => panic!("the home fell"),
        }
        if seq.is_multiple_of(16) {
            settle().await;
        }
    };
    settle().await;
    assert_eq!(world.journal.waiting(), 4);
    assert_eq!(world.journal.refusals(), 1, "a home that waits for room asks again and again");
    let taken = seq as usize - 2;
    // Four are in the journal, one is in the home's hand, the rest waits in the mailbox.
    assert!((MAILBOX..=MAILBOX + 8).contains(&(taken - 5)), "{taken} were taken");

    let sender = home.clone();
    let waiting = actix::spawn(async move { sender.send(refused).await });
    let late = seq + 1;
    let (sender, last) = (home.clone(), frame(late));
    let later = actix::spawn(async move { sender.send(last).await });
    settle().await;
    assert!(!waiting.is_finished() && !later.is_finished());
    assert_eq!(agent.words(), ["welcome", "config", "ack 1"]);

    // Room for one lets one more in.
    world.journal.commit(1);
    settle().await;
    assert_eq!(world.journal.waiting(), 4);
    assert_eq!(agent.words().last().map(String::as_str), Some("ack 1"));

    world.journal.flow();
    settle().await;
    waiting.await.unwrap().unwrap();
    later.await.unwrap().unwrap();
    settle().await;
    assert_eq!(agent.words().last(), Some(&format!("ack {late}")));
    assert!(agent.words().iter().all(|word| !word.contains("gap")), "{:?}", agent.words());
    let image = world.store.image(fleet.org_id).unwrap();
    assert_eq!(image.positions[0].acked_seq, late);
    assert_eq!(image.devices.len() as u64, late - 1);
}

#[actix::test]
async fn who_asks_a_busy_home_is_told_in_time_and_its_question_is_taken_back() {
    tokio::time::pause();
    let world = World::new().unwrap();
    let fleet = world.fleet().await.unwrap();
    world.journal.hold();
    world.journal.limit(0);
    let first = world.ask(fleet.org_id);
    settle().await;
    // The home waits for room with the first; the others wait in its mailbox.
    let began = tokio::time::Instant::now();
    let second = world.ask(fleet.org_id);
    let read = world.directory.read(fleet.org_id, Query::Org);
    assert_eq!(read.await, Err(AskError::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(11), "took {:?}", began.elapsed());
    assert!(matches!(first.await, Ok(Err(AskError::Unavailable))));
    assert!(matches!(second.await, Ok(Err(AskError::Unavailable))));
    world.journal.flow();
    settle().await;
    // The first was taken and became durable; nobody waited for the second any more.
    assert_eq!(world.store.event_names(fleet.org_id), ["agent.enrolled", "agent.enrolled"]);
}
