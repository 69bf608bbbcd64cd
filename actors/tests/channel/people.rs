//! Replay and discard, also while the delivery is being tried.

use std::time::Duration;

use pulse_actors::directory::AskError;
use pulse_actors::ports::Verdict;
use pulse_actors::testing::settle;
use pulse_domain::request::{Refusal, Reply, Request};
use pulse_protocol::api::DeliveryState;
use pulse_protocol::ids::DeliveryId;
use tokio::task::JoinHandle;

use crate::stage::{Stage, retry};

type Answer = JoinHandle<Result<Reply, AskError>>;

impl Stage {
    fn ask(&self, request: Request) -> Answer {
        let (directory, org_id) = (self.world.directory.clone(), self.fleet.org_id);
        actix::spawn(async move { directory.request(org_id, request).await })
    }

    fn replay(&self, delivery_id: DeliveryId) -> Answer {
        self.ask(Request::ReplayDelivery { delivery_id, channel_id: self.channel_id })
    }

    fn discard(&self, delivery_id: DeliveryId) -> Answer {
        self.ask(Request::DiscardDelivery { delivery_id, channel_id: self.channel_id })
    }

    fn first(&self) -> DeliveryId {
        self.records()[0].id
    }
}

fn is_conflict(answer: Result<Reply, AskError>) -> bool {
    matches!(answer, Err(AskError::Refused(Refusal::Conflict { .. })))
}

/// N38.
#[actix::test]
async fn a_dead_delivery_is_sent_again_under_its_id() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(Verdict::permanent(Some(422), "no"));
    stage.find_device(2);
    settle().await;
    assert_eq!(stage.states(), [DeliveryState::Dead]);
    let id = stage.first();
    assert_eq!(stage.replay(id).await.unwrap(), Ok(Reply::Delivery(id)));
    settle().await;
    assert_eq!(stage.sent(), [id, id]);
    assert_eq!(stage.deliveries(), [(id, DeliveryState::Delivered, 2)]);
}

#[actix::test]
async fn what_has_not_ended_is_not_replayed_and_what_was_delivered_not_discarded() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    let id = stage.first();
    assert!(is_conflict(stage.replay(id).await.unwrap()));
    stage.pass(Duration::from_secs(10)).await;
    assert_eq!(stage.states(), [DeliveryState::Delivered]);
    assert!(is_conflict(stage.discard(id).await.unwrap()));
    let missing = stage.discard(DeliveryId::new()).await.unwrap();
    let nothing = Refusal::NotFound { what: "delivery".into() };
    assert_eq!(missing, Err(AskError::Refused(nothing)));
}

#[actix::test]
async fn a_discard_waits_for_the_attempt_under_way() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(5));
    stage.find_device(2);
    stage.find_device(3);
    settle().await;
    let (accepted, refused) = (stage.records()[0].id, stage.records()[1].id);
    stage.world.sender.will_answer(Verdict::accepted(Some(200)));
    stage.world.sender.will_answer(retry());
    let (first, second) = (stage.discard(accepted), stage.discard(refused));
    stage.pass(Duration::from_secs(3)).await;
    assert!(!first.is_finished() && !second.is_finished(), "answered while it is being tried");
    stage.pass(Duration::from_secs(3)).await;
    assert!(is_conflict(first.await.unwrap()), "it was delivered, and says so");
    assert_eq!(second.await.unwrap(), Ok(Reply::Delivery(refused)));
    stage.pass(Duration::from_secs(900)).await;
    let expected =
        [(accepted, DeliveryState::Delivered, 1), (refused, DeliveryState::Discarded, 1)];
    assert_eq!(stage.deliveries(), expected);
    assert_eq!(stage.sent().len(), 2, "a discarded delivery was sent");
}

#[actix::test]
async fn a_discarded_delivery_is_not_sent_though_it_was_read_before() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(5));
    for seq in 2..=9 {
        stage.find_device(seq);
    }
    settle().await;
    // Four are under way, four wait in memory.
    let waiting = stage.records()[6].id;
    assert_eq!(stage.discard(waiting).await.unwrap(), Ok(Reply::Delivery(waiting)));
    stage.pass(Duration::from_secs(30)).await;
    assert!(!stage.sent().contains(&waiting));
    assert_eq!(stage.sent().len(), 7);
}

#[actix::test]
async fn a_delivery_of_a_removed_channel_is_discarded_and_not_replayed() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(Verdict::permanent(Some(422), "no"));
    stage.find_device(2);
    settle().await;
    let id = stage.first();
    stage.ask(Request::RemoveChannel(stage.channel_id)).await.unwrap().unwrap();
    let nothing = Refusal::NotFound { what: "channel".into() };
    assert_eq!(stage.replay(id).await.unwrap(), Err(AskError::Refused(nothing)));
    assert_eq!(stage.discard(id).await.unwrap(), Ok(Reply::Delivery(id)));
    assert_eq!(stage.states(), [DeliveryState::Discarded]);
}

#[actix::test]
async fn who_gave_up_waiting_changes_nothing() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(30));
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    let asked = stage.discard(stage.first());
    stage.pass(Duration::from_secs(20)).await;
    assert_eq!(asked.await.unwrap(), Err(AskError::Unavailable), "it took too long");
    stage.pass(Duration::from_secs(11)).await;
    assert_eq!(stage.states(), [DeliveryState::Retrying]);
}
