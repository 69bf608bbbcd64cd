use pulse_actors::ports::Verdict;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::slack::Slack;
use serde_json::json;

use crate::support::{
    AT, Receiver, acknowledge_link, breaking_off, channel, device, digest, http, links, local,
    org_link,
};

async fn verdict(receiver: &Receiver, status: u16, body: &str) -> Verdict {
    receiver.answers(status, body);
    let channel = channel(
        ChannelKind::Slack,
        json!({"webhook_url": receiver.url("/services/T0/B0/s3cr3ts3cr3t")}),
    );
    let message = device("offline", Reason::Alert, "Router");
    Slack::new(http(local()), links()).send(&channel, &message).await
}

#[actix_web::test]
async fn an_alert_is_a_message_of_blocks() {
    let receiver = Receiver::start();
    receiver.answers(200, "ok");
    let channel = channel(ChannelKind::Slack, json!({"webhook_url": receiver.url("/hook")}));
    let message = device("offline", Reason::Alert, "Router <&> 1");
    let verdict = Slack::new(http(local()), links()).send(&channel, &message).await;
    assert_eq!(verdict, Verdict::accepted(Some(200)).answered("ok"));
    assert_eq!(
        receiver.request().body,
        json!({
            "text": "🔴 Router &lt;&amp;&gt; 1 is offline",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "🔴 Router <&> 1 is offline", "emoji": false}},
                {"type": "section", "fields": [
                    {"type": "mrkdwn", "text": "*Device*\nRouter &lt;&amp;&gt; 1"},
                    {"type": "mrkdwn", "text": "*Address*\n192.0.2.7"},
                    {"type": "mrkdwn", "text": "*Status*\nonline → offline"},
                    {"type": "mrkdwn", "text": format!("*Time*\n{AT}")},
                ]},
                {"type": "actions", "elements": [
                    {"type": "button", "action_id": "acknowledge", "text": {"type": "plain_text", "text": "Acknowledge"}, "url": acknowledge_link(&message), "style": "primary"},
                    {"type": "button", "action_id": "open", "text": {"type": "plain_text", "text": "Open VelocityPulse"}, "url": org_link(&message)},
                ]},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": "VelocityPulse · Acme · rule Core"}]},
            ],
            "unfurl_links": false,
            "unfurl_media": false,
        })
    );
}

#[actix_web::test]
async fn only_ok_means_that_it_was_posted() {
    let receiver = Receiver::start();
    for (status, body, outcome) in [
        (200, "ok", AttemptOutcome::Accepted),
        (200, "ok\n", AttemptOutcome::Accepted),
        (200, "", AttemptOutcome::Permanent),
        (200, "<html>sign in</html>", AttemptOutcome::Permanent),
        (200, "invalid_token", AttemptOutcome::Permanent),
        (200, "no_service", AttemptOutcome::Permanent),
        (400, "invalid_payload", AttemptOutcome::Permanent),
        (403, "invalid_token", AttemptOutcome::Permanent),
        (403, "action_prohibited", AttemptOutcome::Permanent),
        (404, "channel_not_found", AttemptOutcome::Permanent),
        (404, "no_service", AttemptOutcome::Permanent),
        (404, "no_team", AttemptOutcome::Permanent),
        (410, "channel_is_archived", AttemptOutcome::Gone),
        (200, "channel_is_archived", AttemptOutcome::Gone),
        (429, "rate_limited", AttemptOutcome::Retry),
        (500, "rollup_error", AttemptOutcome::Retry),
    ] {
        let verdict = verdict(&receiver, status, body).await;
        assert_eq!((verdict.outcome, verdict.status), (outcome, Some(status)), "{status} {body}");
        let said = verdict.answer.unwrap_or_default();
        assert_eq!(said, body.trim(), "{status} {body}");
    }
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_none() {
    for (start, outcome) in [
        ("", AttemptOutcome::Retry),
        ("o", AttemptOutcome::Retry),
        ("ok", AttemptOutcome::Accepted),
    ] {
        let url = format!("http://{}/hook", breaking_off(start).await);
        let channel = channel(ChannelKind::Slack, json!({"webhook_url": url}));
        let message = device("offline", Reason::Alert, "Router");
        let verdict = Slack::new(http(local()), links()).send(&channel, &message).await;
        assert_eq!((verdict.outcome, verdict.status), (outcome, Some(200)), "{start}");
    }
}

#[actix_web::test]
async fn a_wait_is_honoured_and_the_url_is_never_shown() {
    let receiver = Receiver::start();
    receiver.answers_with(429, ("retry-after", "1.5"), "no s3cr3ts3cr3t for you");
    let url = receiver.url("/services/T0/B0/s3cr3ts3cr3t");
    let channel = channel(ChannelKind::Slack, json!({"webhook_url": url}));
    let message = device("offline", Reason::Alert, "Router");
    let verdict = Slack::new(http(local()), links()).send(&channel, &message).await;
    assert_eq!(verdict.retry_after, Some(std::time::Duration::from_millis(1_500)));
    assert!(!format!("{verdict:?}").contains("s3cr3t"), "{verdict:?}");
}

#[actix_web::test]
async fn a_long_digest_is_cut_to_what_slack_takes() {
    let receiver = Receiver::start();
    receiver.answers(200, "ok");
    let channel = channel(ChannelKind::Slack, json!({"webhook_url": receiver.url("/hook")}));
    let message = digest(100, 7, &"&".repeat(500));
    let verdict = Slack::new(http(local()), links()).send(&channel, &message).await;
    assert_eq!(verdict.outcome, AttemptOutcome::Accepted);
    let body = receiver.request().body;
    let blocks = body["blocks"].as_array().unwrap();
    assert_eq!(body["text"], "🔴 107 changes in Acme");
    assert!(body.to_string().len() <= 10_000 && blocks.len() <= 50);
    for block in blocks {
        assert!(block["text"]["text"].as_str().unwrap_or_default().chars().count() <= 3_000);
    }
    assert!(body.to_string().contains(" more"), "what is left out is counted");
}
