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
    sent_to("/v2/enqueue", message).await
}

async fn sent_to(path: &str, message: &Message) -> Value {
    let receiver = Receiver::start();
    receiver.answers(202, "{\"status\":\"success\"}");
    let verdict = Pagerduty::new(http(local()), links()).send(&to(&receiver), message).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Accepted, Some(202)));
    let request = receiver.request();
    assert_eq!(request.path, path);
    request.body
}

#[actix_web::test]
async fn an_alert_triggers_and_its_recovery_resolves_the_same_incident() {
    let alert = device("offline", Reason::Alert, "Router");
    let key = alert.content.alert_id.unwrap().to_string();
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
    let resolved = |key: &str| json!({"routing_key": "R0UT1NGKEY", "event_action": "resolve", "dedup_key": key});
    let mut recovery = device("online", Reason::Recovery, "Router");
    recovery.content.alert_id = alert.content.alert_id;
    // A rule that was renamed meanwhile ends what it began.
    recovery.content.rule_name = "Edge".into();
    assert_eq!(sent(&recovery).await, resolved(&key));

    let mut alone = device("online", Reason::Event, "Router");
    alone.content.alert_id = None;
    assert_eq!(sent(&alone).await, resolved("dev_00000000000000000000000001/Core"));
}

#[actix_web::test]
async fn a_digest_of_good_news_opens_no_incident() {
    let mut good = digest(2, 0, "Router");
    good.content.alert_id = None;
    for item in &mut good.content.items {
        item.event = "device.online".into();
    }
    let body = sent_to("/v2/change/enqueue", &good).await;
    assert_eq!(
        body,
        json!({
            "routing_key": "R0UT1NGKEY",
            "payload": {
                "summary": "2 changes in Acme",
                "source": "Router",
                "timestamp": AT,
                "custom_details": {
                    "Time": AT,
                    "Rule": "Core",
                    "Changes": [format!("🟢 Router is online ({AT})"), format!("🟢 Router is online ({AT})")],
                },
            },
            "links": [{"href": org_link(&good), "text": "Open VelocityPulse"}],
        })
    );
    for (other, severity) in [("device.offline", "critical"), ("device.unknown", "info")] {
        good.content.items[0].event = other.into();
        assert_eq!(sent(&good).await["payload"]["severity"], severity);
    }
    let mut unnamed = digest(1, 1, "Router");
    unnamed.content.items[0].event = "device.online".into();
    assert_eq!(sent(&unnamed).await["event_action"], "trigger");
}

#[actix_web::test]
async fn an_acknowledgement_is_told_and_what_is_about_many_is_an_incident_of_its_own() {
    let data = json!({"alert": {"id": "alr_1", "resource_id": "dev_1", "rule_name": "Core"}});
    let mut acknowledged = message("alert.acknowledged", &data, Reason::Event, "Router");
    acknowledged.content.alert_id = None;
    assert_eq!(
        sent(&acknowledged).await,
        json!({"routing_key": "R0UT1NGKEY", "event_action": "acknowledge", "dedup_key": "alr_1"})
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
