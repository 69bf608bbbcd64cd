use pulse_actors::ports::Verdict;
use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::teams::Teams;
use serde_json::json;

use crate::support::{
    AT, Receiver, acknowledge_link, channel, device, digest, http, links, local, org_link,
};

fn to(receiver: &Receiver) -> ChannelRecord {
    channel(
        ChannelKind::Teams,
        json!({"webhook_url": receiver.url("/workflows/1?sig=s3cr3ts3cr3t")}),
    )
}

#[actix_web::test]
async fn an_alert_is_an_adaptive_card() {
    let receiver = Receiver::start();
    receiver.answers(202, "");
    let message = device("degraded", Reason::Alert, "[Router](x)");
    let verdict = Teams::new(http(local()), links()).send(&to(&receiver), &message).await;
    assert_eq!(verdict, Verdict::accepted(Some(202)));
    let request = receiver.request();
    assert_eq!(request.path, "/workflows/1?sig=s3cr3ts3cr3t");
    let text = |text: &str| json!({"type": "TextBlock", "text": text, "wrap": true});
    let mut title = text("\\[Router\\](x) is degraded");
    title["size"] = "Medium".into();
    title["weight"] = "Bolder".into();
    let mut origin = text("VelocityPulse · Acme · rule Core");
    origin["isSubtle"] = true.into();
    origin["size"] = "Small".into();
    assert_eq!(
        request.body,
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": [
                        {"type": "Container", "style": "warning", "bleed": true, "items": [title]},
                        {"type": "FactSet", "facts": [
                            {"title": "Device", "value": "\\[Router\\](x)"},
                            {"title": "Address", "value": "192.0.2.7"},
                            {"title": "Status", "value": "online → degraded"},
                            {"title": "Time", "value": AT},
                        ]},
                        origin,
                    ],
                    "actions": [
                        {"type": "Action.OpenUrl", "title": "Acknowledge", "url": acknowledge_link(&message)},
                        {"type": "Action.OpenUrl", "title": "Open VelocityPulse", "url": org_link(&message)},
                    ],
                },
            }],
        })
    );
}

#[actix_web::test]
async fn a_connector_of_old_hides_its_failure_in_an_answer_of_200() {
    let receiver = Receiver::start();
    let hidden = |status: u16| {
        format!(
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with ContextId x"
        )
    };
    for (status, body, outcome) in [
        (202, String::new(), AttemptOutcome::Accepted),
        (200, "1".into(), AttemptOutcome::Accepted),
        (200, "posted".into(), AttemptOutcome::Accepted),
        (200, hidden(429), AttemptOutcome::Retry),
        (200, hidden(503), AttemptOutcome::Retry),
        (200, hidden(403), AttemptOutcome::Permanent),
        (200, "Summary or Text is required. Error".into(), AttemptOutcome::Permanent),
        (
            400,
            "Bad payload received by generic incoming webhook.".into(),
            AttemptOutcome::Permanent,
        ),
        (410, String::new(), AttemptOutcome::Gone),
        (429, String::new(), AttemptOutcome::Retry),
    ] {
        receiver.answers(status, &body);
        let message = device("offline", Reason::Alert, "Router");
        let verdict = Teams::new(http(local()), links()).send(&to(&receiver), &message).await;
        assert_eq!((verdict.outcome, verdict.status), (outcome, Some(status)), "{status} {body}");
    }
}

#[actix_web::test]
async fn a_card_is_shrunk_to_what_teams_takes() {
    let receiver = Receiver::start();
    receiver.answers(202, "");
    let message = digest(500, 0, &"𝄞[".repeat(300));
    let verdict = Teams::new(http(local()), links()).send(&to(&receiver), &message).await;
    assert_eq!(verdict.outcome, AttemptOutcome::Accepted);
    let body = receiver.request().body.to_string();
    assert!(body.len() <= 28_000, "{}", body.len());
    assert!(body.contains("more"));
}
