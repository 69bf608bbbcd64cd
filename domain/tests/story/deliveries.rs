//! What becomes of deliveries, and what that says of their channel.

use std::time::Duration;

use pulse_domain::notification::channel::TRIP_AFTER;
use pulse_domain::org::{Attempted, Effect, GiveUp, GivenUp, Input};
use pulse_domain::record::{ChannelRecord, DeliveryRecord};
use pulse_domain::request::{DeliveryChange, Refusal, Request};
use pulse_protocol::api::{
    Attempt, AttemptOutcome, ChannelHealth, ChannelPatch, DeliveryState, Plan, RulePatch,
};
use pulse_protocol::event::{ChannelHealthChanged, DeliveryChanged};
use pulse_protocol::ids::ChannelId;

use crate::hub::Hub;

/// An org with one channel that is told of one new agent.
fn told() -> (Hub, ChannelId) {
    let mut hub = Hub::new(Plan::Trial);
    let channel_id = hub.tell_of(&["agent.enrolled", "delivery.queued", "delivery.dead"]);
    hub.add_agent("north");
    (hub, channel_id)
}

fn the_delivery(hub: &Hub) -> DeliveryRecord {
    let mut deliveries = hub.tables.deliveries.values();
    let (Some(delivery), None) = (deliveries.next(), deliveries.next()) else {
        panic!("not one delivery")
    };
    delivery.clone()
}

fn the_channel(hub: &Hub) -> &ChannelRecord {
    hub.tables.channels.values().next().unwrap()
}

/// What became of one attempt of the only delivery.
fn tried(hub: &Hub, outcome: AttemptOutcome, status: u16) -> Attempted {
    let attempt = Attempt {
        at: hub.now,
        duration_ms: 5,
        outcome,
        status: Some(status),
        answer: None,
        error: Some("busy".to_owned()).filter(|_| outcome != AttemptOutcome::Accepted),
    };
    let delivery = the_delivery(hub);
    Attempted { delivery, attempt, retry_after: None, is_ours: false, jitter: 1.0 }
}

/// The only delivery, after an attempt with this outcome.
fn attempt(hub: &mut Hub, outcome: AttemptOutcome, status: u16) -> DeliveryRecord {
    let attempted = tried(hub, outcome, status);
    hub.take(Input::Attempted(Box::new(attempted)));
    the_delivery(hub)
}

fn conflict(hub: &mut Hub, delivery: &DeliveryRecord, change: DeliveryChange) -> String {
    match hub.change(delivery.clone(), change) {
        Err(Refusal::Conflict { message }) => message,
        other => panic!("{change:?} was answered {other:?}"),
    }
}

fn give_up(hub: &mut Hub, why: GiveUp) -> DeliveryRecord {
    let delivery = the_delivery(hub);
    hub.take(Input::GivenUp(vec![GivenUp { delivery, why }]));
    the_delivery(hub)
}

/// Why the last event about the delivery says that it is not delivered.
fn last_error(hub: &Hub) -> Option<String> {
    let event = hub.journal.iter().rfind(|event| event.name.starts_with("delivery.")).unwrap();
    serde_json::from_str::<DeliveryChanged>(&event.data).unwrap().error
}

fn last_health(hub: &Hub) -> ChannelHealthChanged {
    let told =
        |name: &str| matches!(name, "channel.healthy" | "channel.degraded" | "channel.disabled");
    let event = hub.journal.iter().rfind(|event| told(&event.name)).unwrap();
    serde_json::from_str(&event.data).unwrap()
}

#[test]
fn a_delivery_is_replayed_when_it_has_ended_and_its_channel_delivers() {
    let (mut hub, channel) = told();
    let queued = the_delivery(&hub);
    assert_eq!((queued.state, queued.next_attempt_at), (DeliveryState::Queued, Some(hub.now)));
    conflict(&mut hub, &queued, DeliveryChange::Replay);
    let retrying = attempt(&mut hub, AttemptOutcome::Retry, 500);
    assert_eq!((retrying.state, retrying.tries), (DeliveryState::Retrying, 1));
    conflict(&mut hub, &retrying, DeliveryChange::Replay);
    let gone = attempt(&mut hub, AttemptOutcome::Gone, 410);
    assert_eq!((gone.state, gone.next_attempt_at), (DeliveryState::Dead, None));
    assert_eq!(the_channel(&hub).health, ChannelHealth::Disabled);
    conflict(&mut hub, &gone, DeliveryChange::Replay);
    hub.add_agent("south");
    the_delivery(&hub);

    let (_, effects) = hub.ask(Request::EnableChannel(channel)).unwrap();
    assert_eq!(effects, [Effect::WakeChannel(channel)]);
    let effects = hub.change(gone.clone(), DeliveryChange::Replay).unwrap();
    assert_eq!(effects, [Effect::WakeChannel(channel)]);
    let replayed = the_delivery(&hub);
    assert_eq!((replayed.id, replayed.state, replayed.tries), (gone.id, DeliveryState::Queued, 0));
    let delivered = attempt(&mut hub, AttemptOutcome::Accepted, 200);
    assert_eq!(delivered.state, DeliveryState::Delivered);
    assert!(conflict(&mut hub, &delivered, DeliveryChange::Discard).contains("delivered"));
    hub.change(delivered, DeliveryChange::Replay).unwrap();
    let waiting = the_delivery(&hub);
    hub.change(waiting, DeliveryChange::Discard).unwrap();
    let discarded = the_delivery(&hub);
    assert_eq!((discarded.state, discarded.next_attempt_at), (DeliveryState::Discarded, None));
    assert_eq!(hub.tables.attempts.len(), 3);

    hub.ask(Request::RemoveChannel(channel)).unwrap();
    let refusal = hub.change(discarded, DeliveryChange::Replay).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound { what: "channel".into() });
}

#[test]
fn a_delivery_of_a_removed_channel_can_be_discarded() {
    let (mut hub, channel) = told();
    hub.ask(Request::RemoveChannel(channel)).unwrap();
    let waiting = the_delivery(&hub);
    hub.change(waiting, DeliveryChange::Discard).unwrap();
    assert_eq!(the_delivery(&hub).state, DeliveryState::Discarded);
}

#[test]
fn nothing_is_replayed_for_a_rule_that_is_switched_off() {
    let (mut hub, _) = told();
    let dead = attempt(&mut hub, AttemptOutcome::Permanent, 422);
    let patch = RulePatch { enabled: Some(false), ..RulePatch::default() };
    hub.ask(Request::PatchRule(dead.rule_id, patch)).unwrap();
    assert!(conflict(&mut hub, &dead, DeliveryChange::Replay).contains("rule"));
}

#[test]
fn a_newer_message_supersedes_one_that_failed() {
    let (mut hub, _) = told();
    attempt(&mut hub, AttemptOutcome::Retry, 500);
    let superseded = give_up(&mut hub, GiveUp::Superseded);
    assert_eq!((superseded.state, superseded.next_attempt_at), (DeliveryState::Superseded, None));
    assert_eq!(&*hub.journal.last().unwrap().name, "delivery.superseded");
}

/// N36: with a reason.
#[test]
fn a_channel_that_is_switched_off_gives_up_what_waits() {
    let (mut hub, channel_id) = told();
    let waiting = give_up(&mut hub, GiveUp::ChannelOff);
    assert_eq!(waiting.state, DeliveryState::Queued, "the channel was enabled again meanwhile");
    let patch = ChannelPatch { enabled: Some(false), ..ChannelPatch::default() };
    hub.ask(Request::PatchChannel { channel_id, patch, hidden_config: None }).unwrap();
    assert_eq!(give_up(&mut hub, GiveUp::ChannelOff).state, DeliveryState::Dead);
    assert_eq!(last_error(&hub).as_deref(), Some("the channel is disabled"));
}

/// N37.
#[test]
fn what_waits_for_a_rule_that_is_switched_off_or_removed_is_discarded() {
    let (mut hub, _) = told();
    let rule_id = the_delivery(&hub).rule_id;
    assert_eq!(give_up(&mut hub, GiveUp::RuleOff).state, DeliveryState::Queued);
    hub.ask(Request::RemoveRule(rule_id)).unwrap();
    assert_eq!(give_up(&mut hub, GiveUp::RuleOff).state, DeliveryState::Discarded);
    assert_eq!(last_error(&hub).as_deref(), Some("its rule is disabled or was removed"));
}

#[test]
fn a_pause_is_journalled_once_and_ends_with_a_success() {
    let (mut hub, channel) = told();
    for _ in 1..TRIP_AFTER {
        attempt(&mut hub, AttemptOutcome::Retry, 500);
        hub.pass(Duration::from_secs(1));
    }
    let degraded =
        |hub: &Hub| hub.told_since(0).iter().filter(|it| **it == "channel.degraded").count();
    assert_eq!((degraded(&hub), last_health(&hub).paused_until), (1, None));
    attempt(&mut hub, AttemptOutcome::Retry, 500);
    let told = last_health(&hub);
    assert_eq!(
        (degraded(&hub), told.previous, told.current),
        (2, told.current, ChannelHealth::Degraded)
    );
    assert_eq!(told.paused_until, Some(hub.now + Duration::from_secs(30)));
    assert!(told.reason.unwrap().starts_with("10 attempts in a row failed"));
    let shown = hub.org.channel(channel).unwrap();
    assert_eq!(shown.breaker.paused_until, told.paused_until);

    attempt(&mut hub, AttemptOutcome::Accepted, 200);
    let told = last_health(&hub);
    assert_eq!(
        (told.current, told.paused_until, told.failing_since),
        (ChannelHealth::Healthy, None, None)
    );
}

#[test]
fn a_fault_of_this_hub_is_not_held_against_the_channel() {
    let (mut hub, _) = told();
    for _ in 0..TRIP_AFTER {
        let attempted = tried(&hub, AttemptOutcome::Retry, 421);
        hub.take(Input::Attempted(Box::new(Attempted { is_ours: true, ..attempted })));
    }
    assert_eq!(the_delivery(&hub).tries, TRIP_AFTER);
    let channel = the_channel(&hub);
    assert_eq!((channel.health, channel.breaker.failures), (ChannelHealth::Healthy, 0));
}

#[test]
fn news_of_a_channel_do_not_go_through_it() {
    let mut hub = Hub::new(Plan::Trial);
    let failing = hub.tell_of(&["agent.enrolled", "channel.degraded"]);
    let other = hub.tell_of(&["channel.degraded"]);
    hub.add_agent("north");
    let attempted = tried(&hub, AttemptOutcome::Retry, 500);
    hub.take(Input::Attempted(Box::new(attempted)));
    let told: Vec<_> = hub
        .tables
        .deliveries
        .values()
        .filter(|it| it.event_name == "channel.degraded")
        .map(|it| it.channel_id)
        .collect();
    assert_eq!(told, [other], "and not {failing}");
}

#[test]
fn a_channels_own_schedule_ends_a_delivery() {
    let (mut hub, channel_id) = told();
    let patch = ChannelPatch { retry_schedule_s: Some(vec![7]), ..ChannelPatch::default() };
    hub.ask(Request::PatchChannel { channel_id, patch, hidden_config: None }).unwrap();
    let retrying = attempt(&mut hub, AttemptOutcome::Retry, 500);
    assert_eq!(retrying.next_attempt_at, Some(hub.now + Duration::from_secs(7)));
    assert_eq!(attempt(&mut hub, AttemptOutcome::Retry, 500).state, DeliveryState::Dead);
}

#[test]
fn a_new_place_is_tried_at_once() {
    let (mut hub, channel_id) = told();
    for _ in 0..TRIP_AFTER {
        attempt(&mut hub, AttemptOutcome::Retry, 500);
    }
    assert!(the_channel(&hub).breaker.paused_until.is_some());
    let config = serde_json::json!({ "url": "https://example.com/other" });
    let patch = ChannelPatch { config: Some(config.clone()), ..ChannelPatch::default() };
    hub.ask(Request::PatchChannel { channel_id, patch, hidden_config: Some(config) }).unwrap();
    assert_eq!(the_channel(&hub).breaker.paused_until, None);
}
