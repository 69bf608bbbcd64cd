//! What is about one resource arrives in order; what is about another does not wait for it.

use std::time::Duration;

use pulse_actors::ports::Verdict;
use pulse_actors::testing::settle;
use pulse_domain::request::Request;
use pulse_protocol::api::{ChannelKind, DeliveryState, RulePatch};
use pulse_protocol::status::DeviceStatus::{Offline, Online};

use crate::stage::{Stage, retry};

const HOUR: Duration = Duration::from_secs(3_600);

/// A device that was found, and nothing else to tell.
async fn with_device(kind: ChannelKind) -> Stage {
    let stage = Stage::of(kind).await;
    stage.find_device(2);
    settle().await;
    assert_eq!(stage.sent_events(), ["device.discovered"]);
    stage.pass(Duration::from_secs(2)).await;
    stage
}

#[actix::test]
async fn an_older_offline_never_lands_after_the_newer_online() {
    let stage = with_device(ChannelKind::Webhook).await;
    stage.world.sender.will_answer(retry());
    stage.report(3, 2, Offline);
    settle().await;
    stage.report(4, 2, Online);
    stage.pass(HOUR).await;
    assert_eq!(stage.sent_events()[1..], ["device.offline", "device.online"]);
    use DeliveryState::{Delivered, Superseded};
    assert_eq!(stage.states(), [Delivered, Superseded, Delivered]);
    let names = stage.world.store.event_names(stage.fleet.org_id);
    assert_eq!(names.iter().filter(|name| *name == "delivery.superseded").count(), 1);
}

/// What happened is not what is: both are told, in order.
#[actix::test]
async fn what_happened_is_told_though_something_newer_waits() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    stage.report(3, 2, Offline);
    stage.pass(HOUR).await;
    // In no order: neither waits for the other.
    let mut told = stage.sent_events();
    told.sort();
    assert_eq!(told, ["device.discovered", "device.discovered", "device.offline"]);
    assert_eq!(stage.states(), [DeliveryState::Delivered; 2]);
}

/// An outage leaves many that wait for their retry; what is new goes out at once.
#[actix::test]
async fn many_that_wait_for_their_retry_do_not_hold_up_what_is_due() {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[3_000]).await;
    for seq in 2..=41 {
        // One in eight is accepted, which keeps the channel from being left alone.
        let is_accepted = seq % 8 == 1;
        let verdict = if is_accepted { Verdict::accepted(Some(200)) } else { retry() };
        stage.world.sender.will_answer(verdict);
        stage.find_device(seq);
    }
    stage.pass(Duration::from_secs(3)).await;
    assert_eq!(stage.sent().len(), 40);
    for seq in 42..=81 {
        stage.report(seq, seq - 40, Offline);
    }
    stage.pass(Duration::from_secs(5)).await;
    let sent = stage.sent().len();
    assert_eq!(sent, 80, "none waits behind what failed");
    let reads = stage.world.store.due_reads(stage.channel_id);
    stage.find_device(82);
    stage.pass(Duration::from_secs(1)).await;
    assert_eq!(stage.sent().len(), sent + 1);
    assert!(stage.world.store.due_reads(stage.channel_id) <= reads + 3, "it reads again and again");
}

#[actix::test]
async fn one_that_waits_for_the_one_under_way_takes_its_place_when_that_fails() {
    let stage = with_device(ChannelKind::Webhook).await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(5));
    stage.world.sender.will_answer(retry());
    stage.report(3, 2, Offline);
    settle().await;
    stage.report(4, 2, Online);
    stage.report(5, 2, Offline);
    stage.pass(Duration::from_secs(4)).await;
    assert_eq!(stage.sent_events().len(), 2, "the newer ones wait");
    stage.pass(Duration::from_secs(20)).await;
    // Those that were never tried are tried, in order: each was true when it was called for.
    let told = ["device.offline", "device.online", "device.offline"];
    assert_eq!(stage.sent_events()[1..], told);
    use DeliveryState::{Delivered, Superseded};
    assert_eq!(stage.states(), [Delivered, Superseded, Delivered, Delivered]);
}

#[actix::test]
async fn a_resource_that_waits_delays_no_other() {
    let stage = with_device(ChannelKind::Webhook).await;
    stage.find_device(3);
    stage.pass(Duration::from_secs(2)).await;
    stage.retry_after_seconds(&[3_000]).await;
    stage.world.sender.will_answer(retry());
    stage.report(4, 2, Offline);
    settle().await;
    stage.report(5, 3, Offline);
    settle().await;
    assert_eq!(stage.states()[2..], [DeliveryState::Retrying, DeliveryState::Delivered]);
}

#[actix::test]
async fn no_more_are_under_way_at_once_than_the_kind_allows() {
    let stage = Stage::new().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(3));
    for seq in 2..=21 {
        stage.find_device(seq);
    }
    stage.pass(Duration::from_secs(30)).await;
    assert_eq!(stage.world.sender.most_at_once(stage.channel_id), 4);
    assert_eq!(stage.sent().len(), 20);
}

#[actix::test]
async fn a_channel_that_fails_is_sent_one_at_a_time() {
    let stage = Stage::new().await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    stage.world.sender.takes(stage.channel_id, Duration::from_secs(1));
    stage.world.sender.always_answers(stage.channel_id, Some(retry()));
    for seq in 3..=9 {
        stage.find_device(seq);
    }
    stage.pass(Duration::from_secs(6)).await;
    assert_eq!(stage.world.sender.most_at_once(stage.channel_id), 1);
    assert!(stage.sent().len() > 3);
}

#[actix::test]
async fn chat_is_written_once_a_second() {
    let stage = Stage::of(ChannelKind::Slack).await;
    for seq in 2..=6 {
        stage.find_device(seq);
    }
    // The test looks once a second, so each may be up to a second late.
    stage.pass(Duration::from_secs(12)).await;
    let starts = stage.world.sender.starts(stage.channel_id);
    assert_eq!(starts.len(), 5);
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1), "{starts:?}");
    }
}

/// N37.
#[actix::test]
async fn what_waits_for_a_rule_that_is_switched_off_is_not_sent() {
    let stage = Stage::new().await;
    stage.retry_after_seconds(&[60]).await;
    stage.world.sender.will_answer(retry());
    stage.find_device(2);
    settle().await;
    let rule_id = stage.records()[0].rule_id;
    let patch = RulePatch { enabled: Some(false), ..RulePatch::default() };
    let switch_off = Request::PatchRule(rule_id, patch);
    stage.world.directory.request(stage.fleet.org_id, switch_off).await.unwrap();
    stage.pass(Duration::from_secs(90)).await;
    assert_eq!(stage.sent().len(), 1);
    assert_eq!(stage.states(), [DeliveryState::Discarded]);
}
