use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pulse_actors::ports::{MailStore, SuppressedAddress, Verdict};
use pulse_actors::testing::MemoryMails;
use pulse_domain::record::Content;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason, Suppression, SuppressionReason};
use pulse_protocol::ids::OrgId;
use pulse_web::outbound::email::{Email, Letterhead};
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::mail::none::NoMail;
use pulse_web::outbound::mail::transport::{MailTransport, MailVerdict, OutgoingMail};
use serde_json::{Value, json};

use crate::support::{acknowledge_link, channel, device, links, test_message};

#[derive(Default)]
pub(crate) struct Outbox(pub(crate) Mutex<Vec<OutgoingMail>>);

#[async_trait]
impl MailTransport for Outbox {
    async fn send(&self, mail: &OutgoingMail) -> MailVerdict {
        self.0.lock().push(mail.clone());
        Verdict::accepted(Some(250)).answered("2.0.0 queued").into()
    }
}

pub(crate) fn email(transport: Arc<dyn MailTransport>) -> Email {
    let from = "Pulse <pulse@example.com>".parse().unwrap();
    Email::new(transport, Letterhead { from, host: "hub.example".into() }, links())
}

#[actix_web::test]
async fn a_delivery_is_one_mail_to_its_recipient() {
    let outbox = Arc::new(Outbox::default());
    let channel =
        channel(ChannelKind::Email, json!({"recipients": ["a@example.com", "b@example.com"]}));
    let mut message = device("offline", Reason::Alert, "<b>Router");
    message.content.recipient = Some("b@example.com".into());
    let verdict = email(outbox.clone()).send(&channel, &message).await;
    assert_eq!(verdict, Verdict::accepted(Some(250)).answered("2.0.0 queued"));
    let mail = outbox.0.lock().remove(0);
    assert!(outbox.0.lock().is_empty());
    assert_eq!((mail.id, mail.to.to_string()), (message.delivery_id, "b@example.com".to_owned()));
    assert_eq!(mail.content.subject, "🔴 <b>Router is offline");
    assert!(mail.content.text.contains("Status: online → offline"), "{}", mail.content.text);
    assert!(mail.content.text.contains(&acknowledge_link(&message)));
    assert!(mail.content.text.contains("because of the rule “Core” of Acme"));
    assert!(mail.content.html.contains("&#60;b&#62;Router") && !mail.content.html.contains("<b>"));
    let unsubscribe = links().unsubscribe(message.org_id, "b@example.com");
    assert!(mail.content.html.contains(&unsubscribe));
    assert_eq!((mail.list_unsubscribe, mail.one_click), (Some(unsubscribe), true));
}

#[actix_web::test]
async fn a_test_goes_to_all_and_a_recipient_who_was_removed_gets_nothing() {
    let outbox = Arc::new(Outbox::default());
    let channel =
        channel(ChannelKind::Email, json!({"recipients": ["a@example.com", "b@example.com"]}));
    email(outbox.clone()).send(&channel, &test_message()).await;
    let subjects: Vec<String> = outbox
        .0
        .lock()
        .drain(..)
        .map(|mail| format!("{} {}", mail.to, mail.content.subject))
        .collect();
    assert_eq!(subjects, ["a@example.com 🔵 Test message", "b@example.com 🔵 Test message"]);

    let mut message = device("offline", Reason::Alert, "Router");
    message.content.recipient = Some("c@example.com".into());
    let verdict = email(outbox.clone()).send(&channel, &message).await;
    assert_eq!(verdict.outcome, AttemptOutcome::Permanent);
    assert!(verdict.is_ours, "it says nothing of the receivers that are left");
    assert!(outbox.0.lock().is_empty());
}

#[actix_web::test]
async fn without_a_way_to_send_it_says_so_and_blames_no_receiver() {
    let channel = channel(ChannelKind::Email, json!({"recipients": ["a@example.com"]}));
    let verdict = email(Arc::new(NoMail)).send(&channel, &test_message()).await;
    assert!(verdict.is_ours && verdict.error.unwrap().starts_with("mail is not configured"));
}

#[test]
fn recipients_are_checked() {
    let email = email(Arc::new(NoMail));
    let faults = |recipients: Value| {
        let faults =
            email.check(&json!({"recipients": recipients}), None).err().unwrap_or_default();
        faults
            .into_iter()
            .map(|fault| format!("{} {}", fault.field, fault.code))
            .collect::<Vec<_>>()
    };
    assert_eq!(faults(json!(["a@example.com", " b@example.com "])), Vec::<String>::new());
    assert_eq!(faults(json!([])), ["config.recipients required"]);
    assert_eq!(faults(json!("a@example.com")).len(), 1);
    assert_eq!(
        faults(json!([
            "a",
            "a@example.com",
            "A@example.com",
            "a@b\r\nBcc: c@d.example",
            "a b@c.example"
        ])),
        [
            "config.recipients[0] invalid",
            "config.recipients[2] invalid",
            "config.recipients[3] invalid",
            "config.recipients[4] invalid",
        ]
    );
    let many: Vec<String> = (0..21).map(|n| format!("a{n}@example.com")).collect();
    assert_eq!(faults(json!(many)), ["config.recipients too_long"]);
}

#[actix_web::test]
async fn a_test_leaves_out_who_gets_no_mail_and_says_so_if_that_is_everybody() {
    let (mails, outbox, message) =
        (MemoryMails::new(), Arc::new(Outbox::default()), test_message());
    let kind = email(outbox.clone()).heeding(mails.clone());
    let channel =
        channel(ChannelKind::Email, json!({"recipients": ["a@example.com", "b@example.com"]}));
    let suppress = async |address: &str| {
        let suppressed = SuppressedAddress {
            org_id: message.org_id,
            address: address.to_owned(),
            reason: SuppressionReason::Unsubscribed,
            created_at: Timestamp::from_unix_ms(1),
        };
        mails.suppress(&suppressed).await.unwrap();
    };
    suppress("a@example.com").await;
    assert_eq!(kind.send(&channel, &message).await.outcome, AttemptOutcome::Accepted);
    let to: Vec<String> = outbox.0.lock().drain(..).map(|mail| mail.to.to_string()).collect();
    assert_eq!(to, ["b@example.com"]);

    suppress("b@example.com").await;
    let verdict = kind.send(&channel, &message).await;
    assert_eq!((verdict.outcome, verdict.is_ours), (AttemptOutcome::Permanent, true));
    assert!(verdict.error.unwrap().contains("unsubscribed"));
    assert!(outbox.0.lock().is_empty());
}

/// A recipient who unsubscribed is told of nothing, and that is no fault of the channel.
#[actix_web::test]
async fn who_unsubscribed_or_does_not_exist_is_not_written_to() {
    let mails = MemoryMails::new();
    let outbox = Arc::new(Outbox::default());
    let kind = email(outbox).heeding(mails.clone());
    let asked = OrgId::new();
    let mut content = Content::about(Reason::Alert, "Router");
    content.recipient = Some("A@example.com".to_owned());
    assert_eq!(kind.held_back(asked, &content).await.unwrap(), None);
    for (org_id, held) in [(OrgId::new(), None), (asked, Some(Suppression::Recipient))] {
        let unsubscribed = SuppressedAddress {
            org_id,
            address: "a@example.com".to_owned(),
            reason: SuppressionReason::Unsubscribed,
            created_at: Timestamp::from_unix_ms(1),
        };
        mails.suppress(&unsubscribed).await.unwrap();
        assert_eq!(kind.held_back(asked, &content).await.unwrap(), held);
    }
    let without = email(Arc::new(NoMail)).held_back(asked, &content).await.unwrap();
    assert_eq!(without, Some(Suppression::MailNotConfigured));
}
