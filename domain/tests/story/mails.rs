//! What an org mails its owners and admins by itself.

use std::time::Duration;

use pulse_domain::notification::mail::{MailMessage, MailRequest, To};
use pulse_domain::org::{Attempted, Effect, GiveUp, GivenUp, Input};
use pulse_domain::request::Request;
use pulse_protocol::api::{
    Attempt, AttemptOutcome, ChannelHealth, ChannelPatch, DeliveryState, MailTemplate, Plan, Role,
    Suppression,
};
use pulse_protocol::ids::ChannelId;

use crate::hub::Hub;

/// The channel's latest delivery meets this answer.
fn attempt(hub: &mut Hub, outcome: AttemptOutcome, error: &str) -> Vec<Effect> {
    let open = hub.tables.deliveries.values().rfind(|delivery| {
        matches!(delivery.state, DeliveryState::Queued | DeliveryState::Retrying)
    });
    let delivery = open.expect("a delivery to try").clone();
    let error = Some(error.to_owned()).filter(|error| !error.is_empty());
    let at = hub.now;
    let attempt = Attempt { at, duration_ms: 5, outcome, status: None, answer: None, error };
    let attempted = Attempted { delivery, attempt, retry_after: None, is_ours: false, jitter: 1.0 };
    hub.take(Input::Attempted(Box::new(attempted)))
}

fn told(hub: &Hub, channel: ChannelId) -> Vec<(MailTemplate, String)> {
    let of = |request: &MailRequest| {
        assert_eq!(request.to, To::Members(&[Role::Owner, Role::Admin]));
        let params = request.message.params().unwrap();
        assert_eq!(params["channel_id"], channel.to_string());
        (request.message.template(), request.message.key())
    };
    hub.tables.mails.iter().map(of).collect()
}

/// N34: a channel that the hub switches off is mailed to the owners and admins in the same batch.
#[test]
fn a_channel_that_is_gone_is_told_of_and_one_that_a_person_switched_off_is_not() {
    let mut hub = Hub::new(Plan::Trial);
    let channel = hub.tell_of(&["agent.enrolled"]);
    hub.add_agent("north");
    let effects = attempt(&mut hub, AttemptOutcome::Gone, "");
    assert!(effects.contains(&Effect::WakeMailer));
    let mails = told(&hub, channel);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].0, MailTemplate::ChannelDisabled);
    let MailMessage::ChannelDisabled(said) = &hub.tables.mails[0].message else { panic!() };
    assert_eq!(said.error.as_deref(), Some("the receiver answered 410 Gone"));

    hub.ask(Request::EnableChannel(channel)).unwrap();
    let off = ChannelPatch { enabled: Some(false), ..ChannelPatch::default() };
    hub.ask(Request::PatchChannel { channel_id: channel, patch: off, hidden_config: None })
        .unwrap();
    assert_eq!(told(&hub, channel).len(), 1);
}

/// N39: a channel that has failed for an hour is told of, under one key however often it fails after that.
#[test]
fn a_channel_that_failed_for_an_hour_is_told_of_under_one_key() {
    let mut hub = Hub::new(Plan::Trial);
    let channel = hub.tell_of(&["agent.enrolled"]);
    hub.add_agent("north");
    attempt(&mut hub, AttemptOutcome::Retry, "503");
    assert_eq!(told(&hub, channel), []);
    hub.now = hub.now + Duration::from_secs(3_600);
    for is_first in [true, false] {
        let effects = attempt(&mut hub, AttemptOutcome::Retry, "503");
        assert_eq!(effects.contains(&Effect::WakeMailer), is_first);
    }
    let mails = told(&hub, channel);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].0, MailTemplate::ChannelFailing);
    attempt(&mut hub, AttemptOutcome::Accepted, "");
    assert_eq!(told(&hub, channel).len(), 1);
}

/// A delivery whose recipient unsubscribed ends visibly, and says nothing of its channel.
#[test]
fn a_delivery_that_is_held_back_is_suppressed_with_its_reason() {
    let mut hub = Hub::new(Plan::Trial);
    let channel = hub.tell_of(&["agent.enrolled"]);
    hub.add_agent("north");
    let delivery = hub.tables.deliveries.values().next().unwrap().clone();
    let id = delivery.id;
    let why = GiveUp::Held(Suppression::Recipient);
    hub.take(Input::GivenUp(vec![GivenUp { delivery, why }]));
    let held = &hub.tables.deliveries[&id];
    assert_eq!((held.state, held.next_attempt_at), (DeliveryState::Suppressed, None));
    assert_eq!(held.content.suppressed_by, Some(Suppression::Recipient));
    assert_eq!(hub.journal.last().unwrap().name.as_ref(), "delivery.suppressed");
    assert_eq!(hub.tables.channels[&channel].health, ChannelHealth::Healthy);
}
