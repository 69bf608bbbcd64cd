//! The table of mails, and the life of one.

use std::collections::BTreeSet;

use proptest::prelude::*;
use pulse_protocol::api::ChannelKind;
use pulse_protocol::ids::ChannelId;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_ms(1_772_366_400_000);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn failing(channel_id: ChannelId, failing_since: Timestamp) -> ChannelFailing {
    ChannelFailing {
        org_name: "Acme".to_owned(),
        channel_id,
        channel_name: "Ops".to_owned(),
        kind: ChannelKind::Webhook,
        failing_since,
        error: None,
    }
}

fn reset(expires_at: Timestamp) -> PasswordReset {
    PasswordReset { request_id: "r1".to_owned(), token: "secret".to_owned(), expires_at }
}

fn mail(message: impl Into<MailMessage>) -> MailRecord {
    let request = MailRequest::to_addresses(message, vec![], NOW);
    request.record(NO_ORG, DeliveryId::new(), "A@example.org").unwrap()
}

fn retry(error: &str) -> Tried {
    Tried {
        outcome: AttemptOutcome::Retry,
        status: Some(451),
        error: Some(error.to_owned()),
        retry_after: None,
    }
}

fn tried(outcome: AttemptOutcome) -> Tried {
    Tried { outcome, status: None, error: None, retry_after: None }
}

/// Who gets it, its contract, List-Unsubscribe, how long it has a point, and its key.
type Row = (Audience, Contract, bool, Duration, &'static [&'static str], &'static [&'static str]);

/// N01 to N18, N34, N40 to N43, N46, N47 and those that the old product lacked: the whole table, as it was agreed.
#[test]
fn every_template_has_its_audience_contract_end_and_key() {
    use Audience::{Address, Owners, OwnersAndAdmins, Team};
    use Contract::{Outbox, Strict};
    use MailTemplate as T;
    let expected = |template| -> Row {
        match template {
            T::Welcome => (Address, Outbox, true, DAY * 7, &[], &[]),
            T::TrialExpiring => {
                let ends = &["trial_ends_at"];
                (OwnersAndAdmins, Outbox, true, DAY * 7, ends, ends)
            }
            T::TrialExpired => (OwnersAndAdmins, Outbox, true, DAY * 7, &[], &["trial_ended_at"]),
            T::AccountSuspended => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["suspended_at"])
            }
            T::SubscriptionActivated | T::SubscriptionCancelled => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["subscription_id"])
            }
            T::PaymentFailed => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["invoice_id", "attempt"])
            }
            T::PaymentRecovered | T::RenewalReceipt => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["invoice_id"])
            }
            T::CancellationScheduled | T::CancellationWithdrawn => {
                let key = &["subscription_id", "decided_at"];
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], key)
            }
            T::PlanChanged => (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["changed_at"]),
            T::CardExpiring => {
                (OwnersAndAdmins, Outbox, true, DAY * 14, &[], &["last4", "year", "month"])
            }
            T::RefundFull | T::RefundPartial => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["refund_id"])
            }
            T::DisputeOpened | T::DisputeClosed => {
                (OwnersAndAdmins, Outbox, false, DAY * 7, &[], &["dispute_id"])
            }
            T::Invitation => (Address, Strict, false, DAY * 7, &["expires_at"], &["invitation_id"]),
            T::InvitationResent => {
                let key = &["invitation_id", "resent_at"];
                (Address, Strict, false, DAY * 7, &["expires_at"], key)
            }
            T::MemberAdded => (Address, Outbox, false, DAY * 7, &[], &["user_id", "added_at"]),
            T::RoleChanged => (Address, Outbox, false, DAY * 7, &[], &["user_id", "changed_at"]),
            T::MemberRemoved => (Address, Outbox, false, DAY * 7, &[], &["user_id", "removed_at"]),
            T::AdminInvitation => {
                let key = &["invitation_id", "sent_at"];
                (Address, Strict, false, DAY * 7, &["expires_at"], key)
            }
            T::AdminGranted => (Address, Outbox, false, DAY * 7, &[], &["user_id", "granted_at"]),
            T::StaffMessage => (Owners, Strict, false, DAY, &[], &["message_id"]),
            T::QuotaWarning => {
                (OwnersAndAdmins, Outbox, true, DAY * 3, &[], &["quota", "percent", "period"])
            }
            T::TicketCreated => (Address, Outbox, false, DAY * 7, &[], &["ticket_id"]),
            T::TicketAnswered => {
                (Address, Outbox, false, DAY * 7, &[], &["ticket_id", "answer_id"])
            }
            T::KeyRotated => {
                (OwnersAndAdmins, Outbox, false, DAY * 3, &[], &["agent_id", "rotated_at"])
            }
            T::NewSignIn => (Address, Outbox, false, DAY, &[], &["session_id"]),
            T::EmailVerification => (Address, Outbox, false, DAY, &["expires_at"], &["request_id"]),
            T::PasswordReset => (Address, Outbox, false, HOUR, &["expires_at"], &["request_id"]),
            T::ChannelFailing => {
                let key = &["channel_id", "failing_since"];
                (OwnersAndAdmins, Outbox, true, DAY * 3, &[], key)
            }
            T::ChannelDisabled => {
                (OwnersAndAdmins, Outbox, true, DAY * 7, &[], &["channel_id", "disabled_at"])
            }
            T::ContactForm | T::PartnerForm => (Team, Outbox, false, DAY * 7, &[], &["form_id"]),
        }
    };
    for template in MailTemplate::ALL {
        let Facts { audience, contract, unsubscribe, lifetime, ends_at, key } = facts(*template);
        let found = (audience, contract, unsubscribe, lifetime, ends_at, key);
        assert_eq!(found, expected(*template), "{template}");
        assert!(!key.contains(&"token"), "a key is shown: {template}");
    }
}

fn documented(template: MailTemplate) -> String {
    let Facts { audience, contract, unsubscribe, lifetime, ends_at, key } = facts(template);
    let audience = match audience {
        Audience::Address => "the address it is about",
        Audience::Owners => "owners",
        Audience::OwnersAndAdmins => "owners and admins",
        Audience::Team => "the operator's team",
    };
    let contract = match contract {
        Contract::Strict => "strict",
        Contract::Outbox => "outbox",
    };
    let hours = lifetime.as_secs() / 3_600;
    let lasts = if hours < 48 { format!("{hours} h") } else { format!("{} days", hours / 24) };
    let ends: String = ends_at.iter().map(|end| format!(", at most until `{end}`")).collect();
    let key: String = key.iter().map(|part| format!(":{{{part}}}")).collect();
    let unsubscribe = if unsubscribe { "yes" } else { "–" };
    format!(
        "| `{template}` | {audience} | {contract} | {lasts}{ends} | {unsubscribe} | `{template}{key}` |"
    )
}

/// With `UPDATE_GOLDEN=1` in the environment the table in the documentation is written anew.
#[test]
fn the_table_in_the_documentation_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/notifications.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once("<!-- mails -->\n").unwrap();
    let (table, after) = rest.split_once("<!-- end of mails -->").unwrap();
    let head = "| mail | to | contract | has a point for | List-Unsubscribe | key |\n|---|---|---|---|---|---|\n";
    let rows: String =
        MailTemplate::ALL.iter().map(|template| documented(*template) + "\n").collect();
    let wanted = format!("{head}{rows}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let anew = format!("{before}<!-- mails -->\n{wanted}<!-- end of mails -->{after}");
        std::fs::write(path, anew).unwrap();
    } else {
        assert_eq!(table, wanted, "run this test with UPDATE_GOLDEN=1");
    }
}

#[test]
fn a_key_names_its_cause_and_no_other() {
    let channel = ChannelId::new();
    let key = MailMessage::from(failing(channel, NOW)).key();
    assert_eq!(key, format!("channel_failing:{channel}:1772366400000"));
    let texts = ["", ":", "::", "a", "a:", ":a", r"\", r"\:", r":\", "b"].map(str::to_owned);
    let mut keys = BTreeSet::new();
    for ticket_id in &texts {
        for answer_id in &texts {
            let answered = TicketAnswered {
                ticket_id: ticket_id.clone(),
                answer_id: answer_id.clone(),
                subject: String::new(),
                answered_by: String::new(),
                text: String::new(),
            };
            let key = MailMessage::from(answered).key();
            assert!(keys.insert(key.clone()), "{ticket_id} {answer_id}: {key}");
        }
    }
}

#[test]
fn parameters_are_read_as_they_were_written_and_never_shown() {
    let message = MailMessage::from(reset(NOW + HOUR));
    let read = MailMessage::read(message.template(), message.params().unwrap()).unwrap();
    assert!(read == message);
    assert!(MailMessage::read(MailTemplate::Welcome, message.params().unwrap()).is_err());
    let record = mail(reset(NOW + HOUR));
    assert!(!format!("{message:?} {record:?}").contains("secret"));
    assert_eq!(record.recipient, "a@example.org");
}

/// N02: a mail ends with what it is about, however often it was tried.
#[test]
fn a_mail_expires_with_its_cause() {
    let record = mail(reset(NOW + Duration::from_secs(60)));
    assert_eq!(record.expires_at, NOW + Duration::from_secs(60));
    assert_eq!(mail(reset(NOW + DAY)).expires_at, NOW + HOUR, "not later than its lifetime");
    let late = record.clone().unless_pointless(None, NOW + HOUR).unwrap_err();
    assert_eq!((late.state, late.error.as_deref()), (DeliveryState::Dead, Some(EXPIRED)));
    // The next attempt would be after its end.
    let asked = Tried { retry_after: Some(HOUR), ..retry("busy") };
    let ended = record.after_attempt(asked, 0.5, NOW);
    assert_eq!((ended.state, ended.next_attempt_at), (DeliveryState::Dead, None));
    assert_eq!(ended.error.unwrap(), format!("{EXPIRED}; last: busy"));
}

#[test]
fn who_unsubscribed_still_gets_what_they_asked_for() {
    let (alert, wanted) = (mail(failing(ChannelId::new(), NOW)), mail(reset(NOW + HOUR)));
    let unsubscribed = Some(SuppressionReason::Unsubscribed);
    let held = alert.clone().unless_pointless(unsubscribed, NOW).unwrap_err();
    assert_eq!(held.suppressed_by, Some(Suppression::Recipient));
    assert_eq!((held.outcome(), held.ended_at), (MailOutcome::Suppressed, Some(NOW)));
    assert!(wanted.clone().unless_pointless(unsubscribed, NOW).is_ok());
    for reason in [SuppressionReason::Bounce, SuppressionReason::Complaint] {
        assert!(wanted.clone().unless_pointless(Some(reason), NOW).is_err(), "{reason}");
    }
    assert!(alert.unless_pointless(None, NOW).is_ok());
}

#[test]
fn what_its_cause_is_told() {
    let record = mail(failing(ChannelId::new(), NOW));
    let told = |record: MailRecord| record.outcome();
    let after = |outcome| told(record.clone().after_attempt(tried(outcome), 0.5, NOW));
    assert_eq!(told(record.clone()), MailOutcome::Queued);
    assert_eq!(after(AttemptOutcome::Accepted), MailOutcome::Sent);
    assert_eq!(after(AttemptOutcome::Permanent), MailOutcome::Failed);
    assert_eq!(after(AttemptOutcome::Retry), MailOutcome::Queued);
    assert_eq!(told(record.clone().not_configured(NOW)), MailOutcome::NotConfigured);
    assert_eq!(told(record.given_up(NOW)), MailOutcome::Failed);
}

/// N38: what ended is tried anew when a person asks, but not what has no point.
#[test]
fn a_replay_begins_anew_unless_it_is_pointless() {
    let record = mail(failing(ChannelId::new(), NOW));
    assert!(record.clone().replayed(NOW).is_err(), "still tried");
    let held = record.clone().not_configured(NOW);
    let again = held.clone().replayed(NOW + HOUR).unwrap();
    let anew = MailRecord { next_attempt_at: Some(NOW + HOUR), ..record.clone() };
    assert_eq!(again, anew);
    assert!(held.clone().replayed(held.expires_at).is_err(), "expired");
    let accepted = record.clone().after_attempt(tried(AttemptOutcome::Accepted), 0.5, NOW);
    assert!(accepted.replayed(NOW).is_err(), "accepted");
    let strict = StaffMessage {
        org_name: "Acme".to_owned(),
        message_id: "m".to_owned(),
        subject: "s".to_owned(),
        text: "t".to_owned(),
    };
    assert!(mail(strict).given_up(NOW).replayed(NOW).is_err(), "its cause is gone");
    let discarded = record.discarded(NOW).unwrap();
    assert!(discarded.clone().discarded(NOW).is_err());
    assert!(discarded.replayed(NOW).is_ok());
}

proptest! {
    /// M1 to M3: whatever the mail server does, a mail ends before it expires, delivered only if accepted.
    #[test]
    fn every_mail_ends(
        outcomes in prop::collection::vec(prop::sample::select(AttemptOutcome::ALL), 40),
        jitter in 0.0_f64..1.0,
    ) {
        let mut record = mail(failing(ChannelId::new(), NOW));
        let mut now = NOW;
        for outcome in outcomes {
            record = record.after_attempt(tried(outcome), jitter, now);
            let is_ended = delivery::is_ended(record.state);
            prop_assert_eq!(is_ended, record.next_attempt_at.is_none());
            prop_assert_eq!(is_ended, record.ended_at.is_some());
            let is_delivered = record.state == DeliveryState::Delivered;
            prop_assert_eq!(is_delivered, outcome == AttemptOutcome::Accepted);
            let Some(at) = record.next_attempt_at else { break };
            prop_assert!(at > now && at < record.expires_at);
            now = at;
        }
        prop_assert!(delivery::is_ended(record.state));
    }
}
