use pulse_actors::ports::Verdict;
use pulse_protocol::api::AttemptOutcome;
use pulse_web::outbound::mail::resend::Resend;
use pulse_web::outbound::mail::transport::{MailTransport, MailVerdict};
use serde_json::json;

use crate::smtp::mail;
use crate::support::{Receiver, http, local};

/// Behind a private address: the operator's base is not a customer's.
fn resend(receiver: &Receiver) -> Resend {
    drop(http(local()));
    Resend::new(&receiver.url("/"), "re_s3cr3t").unwrap()
}

#[actix_web::test]
async fn a_mail_is_posted_with_its_delivery_as_the_key_of_idempotency() {
    let receiver = Receiver::start();
    receiver.answers(200, "{\"id\":\"49a3999c\"}");
    let mail = mail();
    let verdict = resend(&receiver).send(&mail).await;
    assert_eq!(verdict.verdict, Verdict::accepted(Some(200)).answered("{\"id\":\"49a3999c\"}"));
    let request = receiver.request();
    assert_eq!(request.path, "/emails");
    assert_eq!(request.authorization.unwrap(), "Bearer re_s3cr3t");
    let key = request.idempotency_key.unwrap();
    let hash = key.strip_prefix(&format!("{}-", mail.id)).unwrap();
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(
        request.body,
        json!({
            "from": "Pulse <pulse@example.com>",
            "to": ["ops@example.org"],
            "subject": "Router is offline",
            "html": "<p>Röuter</p>",
            "text": "Röuter",
            "headers": {
                "Auto-Submitted": "auto-generated",
                "X-Auto-Response-Suppress": "All",
                "List-Unsubscribe": "<https://hub.example/unsubscribe/x>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                "Message-ID": format!("<{}@hub.example>", mail.id),
            },
        })
    );
}

#[actix_web::test]
async fn the_key_of_idempotency_is_the_same_for_the_same_body_alone() {
    let receiver = Receiver::start();
    let (first, resend) = (mail(), resend(&receiver));
    let mut later = first.clone();
    later.content.text.push_str("\nThis message is delayed by 6 min.");
    let mut keys = Vec::new();
    for mail in [&first, &first, &later] {
        resend.send(mail).await;
        keys.push(receiver.request().idempotency_key.unwrap());
    }
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[actix_web::test]
async fn what_the_provider_refuses_is_the_hubs_fault_or_the_mails() {
    let receiver = Receiver::start();
    for (status, outcome, is_ours) in [
        (202, AttemptOutcome::Accepted, false),
        (400, AttemptOutcome::Permanent, false),
        (401, AttemptOutcome::Retry, true),
        (403, AttemptOutcome::Retry, true),
        (404, AttemptOutcome::Retry, true),
        (409, AttemptOutcome::Retry, true),
        (410, AttemptOutcome::Retry, true),
        (413, AttemptOutcome::Retry, true),
        (422, AttemptOutcome::Permanent, false),
        (429, AttemptOutcome::Retry, true),
        (500, AttemptOutcome::Retry, true),
    ] {
        receiver.answers_with(status, ("retry-after", "3"), "re_s3cr3t");
        let MailVerdict { verdict, suppress } = resend(&receiver).send(&mail()).await;
        assert_eq!((verdict.outcome, verdict.is_ours), (outcome, is_ours), "{status}");
        assert_eq!(verdict.retry_after.map(|wait| wait.as_secs()), (status == 429).then_some(3));
        assert!(!suppress && !format!("{verdict:?}").contains("s3cr3t"));
    }
    let away = Resend::new("http://127.0.0.1:1", "re_s3cr3t").unwrap().send(&mail()).await.verdict;
    assert_eq!((away.outcome, away.is_ours), (AttemptOutcome::Retry, true));
}
