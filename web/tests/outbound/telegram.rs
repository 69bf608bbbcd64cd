use std::time::Duration;

use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::telegram::Telegram;
use serde_json::json;

use crate::support::{
    AT, Receiver, acknowledge_link, breaking_off, channel, device, digest, http, links, local,
    org_link,
};

const TOKEN: &str = "123456:AbC-dEf_s3cr3t";

fn to(receiver: &Receiver) -> ChannelRecord {
    let config = json!({"bot_token": TOKEN, "chat_id": "-100123", "api_base": receiver.url("")});
    channel(ChannelKind::Telegram, config)
}

#[actix_web::test]
async fn an_alert_is_a_text_with_markup_of_ours_alone() {
    let receiver = Receiver::start();
    receiver.answers(200, "{\"ok\":true,\"result\":{}}");
    let message = device("offline", Reason::Escalation, "<b>&Router");
    let verdict = Telegram::new(http(local()), links()).send(&to(&receiver), &message).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Accepted, Some(200)));
    let request = receiver.request();
    assert_eq!(request.path, format!("/bot{TOKEN}/sendMessage"));
    let text = format!(
        "🔴 <b>Not acknowledged: &lt;b&gt;&amp;Router is offline</b>\nNobody has acknowledged this alert in time.\n<b>Device:</b> &lt;b&gt;&amp;Router\n<b>Address:</b> 192.0.2.7\n<b>Status:</b> online → offline\n<b>Time:</b> {AT}\n<a href=\"{}\">Acknowledge</a> · <a href=\"{}\">Open VelocityPulse</a>\n<i>VelocityPulse · Acme · rule Core</i>",
        acknowledge_link(&message),
        org_link(&message),
    );
    assert_eq!(
        request.body,
        json!({
            "chat_id": "-100123",
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        })
    );
}

#[actix_web::test]
async fn telegram_says_ok_or_why_not() {
    let receiver = Receiver::start();
    let long = format!("{{\"ok\":true,\"result\":\"{}\"}}", "x".repeat(5_000));
    for (status, body, outcome, wait) in [
        (200, long.as_str(), AttemptOutcome::Accepted, None),
        (200, "{\"ok\":false}", AttemptOutcome::Permanent, None),
        (200, "<html>", AttemptOutcome::Permanent, None),
        (
            429,
            "{\"ok\":false,\"parameters\":{\"retry_after\":35}}",
            AttemptOutcome::Retry,
            Some(Duration::from_secs(35)),
        ),
        (
            403,
            "{\"ok\":false,\"description\":\"bot was blocked by the user\"}",
            AttemptOutcome::Permanent,
            None,
        ),
        (400, "{\"ok\":false,\"description\":\"chat not found\"}", AttemptOutcome::Permanent, None),
        (401, "123456:AbC-dEf_s3cr3t", AttemptOutcome::Permanent, None),
        (500, "", AttemptOutcome::Retry, None),
    ] {
        receiver.answers(status, body);
        let message = device("offline", Reason::Alert, "Router");
        let verdict = Telegram::new(http(local()), links()).send(&to(&receiver), &message).await;
        assert_eq!((verdict.outcome, verdict.retry_after), (outcome, wait), "{status} {body}");
        assert!(!format!("{verdict:?}").contains("s3cr3t"), "{verdict:?}");
    }
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_none_unless_it_began_with_ok() {
    for (start, outcome) in [
        ("", AttemptOutcome::Retry),
        ("{\"ok\":", AttemptOutcome::Retry),
        ("{\"ok\":true,\"result\":", AttemptOutcome::Accepted),
    ] {
        let base = format!("http://{}", breaking_off(start).await);
        let config = json!({"bot_token": TOKEN, "chat_id": "-100123", "api_base": base});
        let message = device("offline", Reason::Alert, "Router");
        let telegram = Telegram::new(http(local()), links());
        let verdict = telegram.send(&channel(ChannelKind::Telegram, config), &message).await;
        assert_eq!((verdict.outcome, verdict.status), (outcome, Some(200)), "{start}");
    }
}

#[actix_web::test]
async fn a_text_is_shrunk_to_what_telegram_takes() {
    let receiver = Receiver::start();
    receiver.answers(200, "{\"ok\":true}");
    let message = digest(500, 0, &"&".repeat(300));
    let verdict = Telegram::new(http(local()), links()).send(&to(&receiver), &message).await;
    assert_eq!(verdict.outcome, AttemptOutcome::Accepted);
    assert!(receiver.request().body["text"].as_str().unwrap().chars().count() <= 4_096);
}

#[test]
fn tokens_and_chats_are_checked() {
    let telegram = Telegram::new(http(Egress::default()), links());
    let check = |token: &str, chat: serde_json::Value| {
        let given = json!({"bot_token": token, "chat_id": chat});
        telegram.check(&given, None).map_err(|faults| faults.len()).map(|checked| checked.shown)
    };
    let shown = json!({"bot_token": "********", "chat_id": "-100123"});
    assert_eq!(check(TOKEN, json!("-100123")), Ok(shown.clone()));
    assert_eq!(check(TOKEN, json!(-100_123)), Ok(shown));
    assert!(check(TOKEN, json!("@channel_1")).is_ok());
    for (token, chat, faults) in [
        ("", "", 2),
        ("123/../:x", "1", 1),
        ("123:a/b", "1", 1),
        (TOKEN, "name", 1),
        (TOKEN, "@a b", 1),
    ] {
        assert_eq!(check(token, json!(chat)), Err(faults), "{token} {chat}");
    }
}
