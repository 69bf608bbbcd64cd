//! From a nudge to rest: what is due goes out, and nothing is lost or doubled on the way.

use std::time::Duration;

use pulse_actors::testing::{Fleet, RecordingViewer, settle};
use pulse_protocol::api::DeliveryState;

use crate::stage::{Stage, retry};

#[actix::test]
async fn what_is_due_goes_out_once_and_in_order() {
    let stage = Stage::new().await;
    for seq in 2..=90 {
        stage.find_device(seq);
    }
    stage.pass(Duration::from_secs(3)).await;
    let deliveries = stage.deliveries();
    assert_eq!(deliveries.len(), 89);
    assert!(
        deliveries
            .iter()
            .all(|(_, state, tries)| (*state, *tries) == (DeliveryState::Delivered, 1))
    );
    assert_eq!(stage.sent(), deliveries.iter().map(|(id, ..)| *id).collect::<Vec<_>>());
}

#[actix::test]
async fn an_outcome_that_could_not_be_stored_leads_to_another_attempt_under_the_same_id() {
    let stage = Stage::new().await;
    stage.world.journal.hold();
    stage.find_device(2);
    settle().await;
    assert_eq!(stage.world.journal.commit(1), 1);
    settle().await;
    assert_eq!(stage.sent().len(), 1);
    assert_eq!(
        stage.world.journal.waiting_events(),
        ["delivery.delivered", "channel.healthy"][..1]
    );
    stage.world.journal.fail();
    settle().await;
    stage.world.journal.flow();
    stage.pass(Duration::from_secs(3)).await;
    let (id, state, tries) = stage.deliveries()[0];
    assert_eq!(stage.sent(), [id, id]);
    assert_eq!((state, tries), (DeliveryState::Delivered, 1), "stored twice, or not at all");
}

#[actix::test]
async fn a_refused_delivery_is_tried_again_when_it_is_due_and_not_before() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    assert_eq!(stage.sent().len(), 1);
    let due_at =
        stage.world.store.delivery_records(stage.fleet.org_id)[0].0.next_attempt_at.unwrap();
    let wait = due_at.duration_since(pulse_actors::ports::Clock::now(&*stage.world.clock));
    tokio::time::advance(wait - Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(stage.sent().len(), 1);
    tokio::time::advance(Duration::from_millis(10)).await;
    settle().await;
    assert_eq!(stage.sent().len(), 2);
    assert_eq!(stage.deliveries()[0].1, DeliveryState::Delivered);
}

#[actix::test]
async fn a_nudge_during_a_look_is_not_lost() {
    let stage = Stage::new().await;
    stage.world.store.hold_due_reads(true);
    stage.world.directory.wake_channel(stage.fleet.org_id, stage.channel_id);
    settle().await;
    // The channel has read that nothing is due, and has not got the answer yet.
    stage.find_device(2);
    settle().await;
    assert!(stage.sent().is_empty());
    stage.world.store.hold_due_reads(false);
    settle().await;
    assert_eq!(stage.sent().len(), 1);
}

#[actix::test]
async fn a_receiver_that_does_not_answer_delays_no_other_channel() {
    let stage = Stage::new().await;
    let other = stage.world.channel(stage.fleet.org_id, &["device.discovered"]).await.unwrap();
    stage.world.sender.hang(stage.channel_id);
    for seq in 2..=5 {
        stage.find_device(seq);
    }
    stage.pass(Duration::from_secs(5)).await;
    let sent = stage.world.sender.sent();
    let to = |channel_id| sent.iter().filter(|(sent_to, ..)| *sent_to == channel_id).count();
    assert_eq!((to(stage.channel_id), to(other)), (4, 4));
}

#[actix::test]
async fn a_store_that_was_down_is_read_again() {
    let stage = Stage::new().await;
    stage.world.store.hold_due_reads(true);
    stage.find_device(2);
    settle().await;
    stage.world.store.set_down(true);
    stage.world.store.hold_due_reads(false);
    stage.pass(Duration::from_secs(10)).await;
    stage.world.store.set_down(false);
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(stage.deliveries()[0].1, DeliveryState::Delivered);
}

#[actix::test]
async fn nothing_is_sent_whose_outcome_could_not_be_stored() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    assert_eq!(stage.sent().len(), 1);
    stage.world.directory.drain(500, Duration::from_secs(5)).await;
    stage.pass(Duration::from_secs(900)).await;
    assert_eq!(stage.sent().len(), 1, "sent on a node that is leaving");
}

#[actix::test]
async fn a_channel_with_nothing_to_do_stops_and_starts_again() {
    let stage = Stage::new().await;
    stage.find_device(2);
    stage.pass(Duration::from_secs(200)).await;
    let looks = stage.world.store.due_reads(stage.channel_id);
    stage.pass(Duration::from_secs(600)).await;
    assert_eq!(
        stage.world.store.due_reads(stage.channel_id),
        looks,
        "it looks although it stopped"
    );
    stage.find_device(3);
    settle().await;
    assert_eq!(stage.sent().len(), 2);
}

#[actix::test]
async fn those_who_watch_see_that_an_attempt_begins() {
    let stage = Stage::new().await;
    let viewer = RecordingViewer::new();
    let (_, watching) = Fleet::watch(&stage.home, &viewer, None);
    settle().await;
    drop(watching.await.unwrap());
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    stage.pass(Duration::from_secs(6)).await;
    let shown = viewer.ephemerals();
    let attempts: Vec<_> =
        shown.iter().filter(|frame| frame["event"] == "delivery.attempt").collect();
    let id = stage.records()[0].id.to_string();
    let numbers: Vec<_> = attempts.iter().map(|frame| frame["data"]["attempt"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(attempts.iter().all(|frame| frame["data"]["delivery_id"] == id.as_str()));
}

/// N35: the process that was sending is gone, and the next one goes on.
#[actix::test]
async fn what_was_under_way_when_the_home_fell_is_sent_again_under_its_id() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(3));
    stage.find_device(2);
    stage.find_device(3);
    settle().await;
    assert_eq!(stage.sent().len(), 2);
    stage.world.journal.hold();
    stage.find_device(4);
    settle().await;
    stage.world.journal.fail();
    settle().await;
    stage.world.journal.flow();
    stage.pass(Duration::from_secs(60)).await;
    assert_eq!(stage.sent().len(), 4, "what was not stored is sent again");
    let ids: Vec<_> = stage.records().iter().map(|record| record.id).collect();
    let sent = stage.sent();
    for (id, state, _) in stage.deliveries() {
        assert_eq!(state, DeliveryState::Delivered);
        assert!(sent.contains(&id));
    }
    assert!(sent.iter().all(|id| ids.contains(id)), "sent under another id");
}
