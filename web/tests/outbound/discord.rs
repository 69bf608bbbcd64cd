use std::time::Duration;

use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::discord::Discord;
use pulse_web::outbound::kind::Kind;
use serde_json::json;

use crate::support::{
    AT, Receiver, acknowledge_link, channel, device, digest, http, links, local, org_link,
};

fn to(receiver: &Receiver) -> ChannelRecord {
    channel(
        ChannelKind::Discord,
        json!({"webhook_url": receiver.url("/api/webhooks/1/s3cr3ts3cr3t")}),
    )
}

#[actix_web::test]
async fn an_alert_is_an_embed_that_mentions_nobody() {
    let receiver = Receiver::start();
    receiver.answers(200, "{\"id\":\"1\"}");
    let message = device("offline", Reason::Alert, "@everyone **x**");
    let verdict = Discord::new(http(local()), links()).send(&to(&receiver), &message).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Accepted, Some(200)));
    let request = receiver.request();
    assert_eq!(request.path, "/api/webhooks/1/s3cr3ts3cr3t?wait=true");
    assert_eq!(
        request.body,
        json!({
            "allowed_mentions": {"parse": []},
            "embeds": [{
                "title": "🔴 \\@everyone \\*\\*x\\*\\* is offline",
                "url": org_link(&message),
                "color": 0xdc_2626,
                "description": format!("[Acknowledge]({})", acknowledge_link(&message)),
                "fields": [
                    {"name": "Device", "value": "\\@everyone \\*\\*x\\*\\*", "inline": true},
                    {"name": "Address", "value": "192.0.2.7", "inline": true},
                    {"name": "Status", "value": "online → offline", "inline": true},
                    {"name": "Time", "value": AT, "inline": true},
                ],
                "footer": {"text": "VelocityPulse · Acme · rule Core"},
                "timestamp": AT,
            }],
        })
    );
}

#[actix_web::test]
async fn the_answer_says_how_long_to_wait_and_whether_the_webhook_is_gone() {
    let receiver = Receiver::start();
    let day = Duration::from_secs(86_400);
    for (status, body, outcome, wait) in [
        (204, "", AttemptOutcome::Accepted, None),
        (429, "{\"retry_after\":0.25}", AttemptOutcome::Retry, Some(Duration::from_millis(250))),
        (429, "{\"retry_after\":1e300}", AttemptOutcome::Retry, Some(day)),
        (429, "{\"retry_after\":-1}", AttemptOutcome::Retry, None),
        (429, "{\"retry_after\":\"soon\"}", AttemptOutcome::Retry, None),
        (404, "{\"code\":10015}", AttemptOutcome::Gone, None),
        (404, "{\"code\":0}", AttemptOutcome::Permanent, None),
        (401, "{\"code\":50027}", AttemptOutcome::Permanent, None),
        (502, "", AttemptOutcome::Retry, None),
    ] {
        receiver.answers(status, body);
        let message = device("offline", Reason::Alert, "Router");
        let verdict = Discord::new(http(local()), links()).send(&to(&receiver), &message).await;
        assert_eq!((verdict.outcome, verdict.retry_after), (outcome, wait), "{status} {body}");
    }
}

#[actix_web::test]
async fn an_embed_is_shrunk_to_what_discord_takes() {
    let receiver = Receiver::start();
    let message = digest(500, 0, &"*".repeat(300));
    Discord::new(http(local()), links()).send(&to(&receiver), &message).await;
    let embed = &receiver.request().body["embeds"][0];
    assert!(embed["description"].as_str().unwrap().chars().count() <= 4_096);
    assert!(embed["title"].as_str().unwrap().chars().count() <= 256);
}
