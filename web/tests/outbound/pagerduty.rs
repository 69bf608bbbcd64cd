use pulse_actors::ports::Message;
use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::pagerduty::Pagerduty;
use serde_json::{Value, json};

use crate::support::{
    AT, Receiver, acknowledge_link, channel, device, digest, http, links, local, message, org_link,
    test_message,
};

fn to(receiver: &Receiver) -> ChannelRecord {
    let config = json!({"routing_key": "R0UT1NGKEY", "api_base": receiver.url("")});
    channel(ChannelKind::Pagerduty, config)
}

async fn sent(message: &Message) -> Value {
    let receiver = Receiver::start();
    receiver.answers(202, "{\"status\":\"success\"}");
    let verdict = Pagerduty::new(http(local()), links()).send(&to(&receiver), message).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Accepted, Some(202)));
    let request = receiver.request();
    assert_eq!(request.path, "/v2/enqueue");
    request.body
}

#[actix_web::test]
async fn an_alert_triggers_and_its_recovery_resolves_the_same_incident() {
    let alert = device("offline", Reason::Alert, "Router");
    let key = "dev_00000000000000000000000001/Core";
    assert_eq!(
        sent(&alert).await,
        json!({
            "routing_key": "R0UT1NGKEY",
            "event_action": "trigger",
            "dedup_key": key,
            "payload": {
                "summary": "Router is offline",
                "source": "Router",
                "severity": "critical",
                "timestamp": AT,
                "group": "Acme",
                "class": "device.offline",
                "custom_details": {
                    "Device": "Router",
                    "Address": "192.0.2.7",
                    "Status": "online → offline",
                    "Time": AT,
                    "Rule": "Core",
                },
            },
            "links": [
                {"href": acknowledge_link(&alert), "text": "Acknowledge"},
                {"href": org_link(&alert), "text": "Open VelocityPulse"},
            ],
            "client": "VelocityPulse",
            "client_url": org_link(&alert),
        })
    );
    let resolved =
        json!({"routing_key": "R0UT1NGKEY", "event_action": "resolve", "dedup_key": key});
    assert_eq!(sent(&device("online", Reason::Recovery, "Router")).await, resolved);
    assert_eq!(sent(&device("online", Reason::Event, "Router")).await, resolved);
}

#[actix_web::test]
async fn an_acknowledgement_is_told_and_what_is_about_many_is_an_incident_of_its_own() {
    let data = json!({"alert": {"resource_id": "dev_1", "rule_name": "Core"}});
    let acknowledged = message("alert.acknowledged", &data, Reason::Event, "Router");
    assert_eq!(
        sent(&acknowledged).await,
        json!({"routing_key": "R0UT1NGKEY", "event_action": "acknowledge", "dedup_key": "dev_1/Core"})
    );
    for message in [digest(3, 0, "Router"), test_message()] {
        let body = sent(&message).await;
        assert_eq!(body["event_action"], "trigger");
        let key = body["dedup_key"].as_str().unwrap();
        assert!(key.starts_with(&message.delivery_id.to_string()), "{key}");
    }
    let body = sent(&digest(2, 1, "Router")).await;
    assert_eq!(body["payload"]["summary"], "3 changes in Acme");
    assert_eq!(body["payload"]["custom_details"]["Changes"].as_array().unwrap().len(), 3);
}

#[actix_web::test]
async fn a_bad_event_is_not_tried_again_and_a_busy_receiver_is() {
    let receiver = Receiver::start();
    for (status, outcome) in [
        (400, AttemptOutcome::Permanent),
        (403, AttemptOutcome::Permanent),
        (429, AttemptOutcome::Retry),
        (500, AttemptOutcome::Retry),
    ] {
        receiver.answers(status, "R0UT1NGKEY is bad");
        let message = device("offline", Reason::Alert, "Router");
        let verdict = Pagerduty::new(http(local()), links()).send(&to(&receiver), &message).await;
        assert_eq!(verdict.outcome, outcome, "{status}");
        assert_eq!(verdict.answer.unwrap(), "[redacted] is bad");
    }
}
