//! A receiver that fails is left alone, longer each time; one that is gone, or fails for days, is sent nothing more.

use std::time::Duration;

use pulse_actors::ports::Verdict;
use pulse_actors::testing::settle;
use pulse_domain::notification::channel::{FAILING_MAX, TRIP_AFTER};
use pulse_domain::request::Request;
use pulse_protocol::api::{ChannelHealth, DeliveryState};

use crate::stage::{Stage, retry};

/// A channel whose breaker has just opened: each of ten devices was told of once, and refused.
async fn opened() -> Stage {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[7_200; 10]).await;
    stage.world.sender.always_answers(stage.channel_id, Some(retry()));
    for seq in 2..2 + u64::from(TRIP_AFTER) {
        stage.find_device(seq);
        settle().await;
    }
    assert_eq!(stage.sent().len(), TRIP_AFTER as usize);
    stage
}

fn pause_of(stage: &Stage) -> Duration {
    stage.channel().breaker.paused_until.unwrap().duration_since(stage.now())
}

#[actix::test]
async fn ten_failures_open_it_and_a_probe_closes_it() {
    let stage = opened().await;
    let pause = pause_of(&stage);
    assert!((Duration::from_secs(15)..=Duration::from_secs(30)).contains(&pause), "{pause:?}");
    let before = stage.sent().len();
    for seq in 50..55 {
        stage.find_device(seq - 38);
    }
    stage.pass(pause).await;
    assert_eq!(stage.sent().len(), before, "sent while it is left alone");
    stage.world.sender.always_answers(stage.channel_id, None);
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(5));
    stage.pass(Duration::from_secs(4)).await;
    assert_eq!(stage.sent().len(), before + 1, "one probe");
    stage.pass(Duration::from_secs(30)).await;
    assert_eq!(stage.channel().health, ChannelHealth::Healthy);
    assert_eq!(stage.channel().breaker.failures, 0);
    assert_eq!(stage.sent().len(), before + 5);
}

#[actix::test]
async fn a_probe_that_fails_leaves_it_alone_for_longer() {
    let stage = opened().await;
    stage.find_device(12);
    stage.find_device(13);
    let before = stage.sent().len();
    stage.pass(pause_of(&stage) + Duration::from_secs(2)).await;
    assert_eq!(stage.sent().len(), before + 1, "one probe");
    let pause = pause_of(&stage);
    assert!((Duration::from_secs(27)..=Duration::from_secs(60)).contains(&pause), "{pause:?}");
    assert_eq!(stage.channel().breaker.trips, 2);
    assert_eq!(stage.world.metrics.failing_channels.get(), 1);
}

#[actix::test]
async fn a_receiver_that_asks_for_it_is_left_alone() {
    let stage = Stage::new().await;
    let busy = Verdict::retry(Some(429), "slow down").after(Some(Duration::from_secs(120)));
    stage.world.sender.will_answer(busy);
    stage.find_device(2);
    settle().await;
    stage.find_device(3);
    stage.pass(Duration::from_secs(119)).await;
    assert_eq!(stage.sent().len(), 1);
    stage.pass(Duration::from_secs(10)).await;
    assert_eq!(stage.states(), [DeliveryState::Delivered; 2]);
}

/// N36, by the receiver: what waits is dead, with a reason.
#[actix::test]
async fn a_receiver_that_is_gone_gets_nothing_more() {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[600]).await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    stage.world.sender.will_answer(Verdict::gone());
    stage.find_device(3);
    stage.pass(Duration::from_secs(900)).await;
    assert_eq!(stage.sent().len(), 2);
    assert_eq!(stage.channel().health, ChannelHealth::Disabled);
    assert_eq!(stage.states(), [DeliveryState::Dead; 2]);
}

/// N36, by a person.
#[actix::test]
async fn what_waits_is_dead_when_its_channel_is_switched_off() {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[600]).await;
    stage.world.sender.always_answers(stage.channel_id, Some(retry()));
    for seq in 2..=5 {
        stage.find_device(seq);
    }
    settle().await;
    stage.switch(false).await;
    settle().await;
    assert_eq!(stage.states(), [DeliveryState::Dead; 4]);
    let sent = stage.sent().len();
    stage.world.sender.always_answers(stage.channel_id, None);
    stage.switch(true).await;
    stage.pass(Duration::from_secs(900)).await;
    assert_eq!(stage.sent().len(), sent);
    stage.find_device(6);
    settle().await;
    assert_eq!(stage.sent().len(), sent + 1);
}

#[actix::test]
async fn what_waits_for_a_channel_that_is_removed_is_dead() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    let remove = Request::RemoveChannel(stage.channel_id);
    stage.world.directory.request(stage.fleet.org_id, remove).await.unwrap();
    settle().await;
    assert_eq!(stage.states(), [DeliveryState::Dead]);
}

/// What is under way when its channel is switched off may still arrive; then it is delivered, not dead.
#[actix::test]
async fn an_attempt_under_way_ends_before_its_channel_gives_up() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(5));
    for seq in 2..=7 {
        stage.find_device(seq);
    }
    settle().await;
    stage.switch(false).await;
    stage.pass(Duration::from_secs(6)).await;
    let states = stage.states();
    assert_eq!(states[..4], [DeliveryState::Delivered; 4]);
    assert_eq!(states[4..], [DeliveryState::Dead; 2]);
}

#[actix::test]
async fn a_channel_whose_every_attempt_fails_for_five_days_is_switched_off() {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[36_000; 12]).await;
    stage.world.sender.always_answers(stage.channel_id, Some(retry()));
    stage.find_device(2);
    settle().await;
    // Looked at once an hour, so each attempt is up to an hour late.
    for hour in 0..FAILING_MAX.as_secs() / 3_600 + 10 {
        assert_eq!(stage.channel().health, ChannelHealth::Degraded, "after {hour} hours");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        settle().await;
        if stage.channel().health == ChannelHealth::Disabled {
            break;
        }
    }
    assert_eq!(stage.channel().health, ChannelHealth::Disabled);
    assert_eq!(stage.states(), [DeliveryState::Dead]);
    let names = stage.world.store.event_names(stage.fleet.org_id);
    assert!(names.iter().any(|name| name == "channel.disabled"));
}
