//! Every letter, with examples.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proptest::prelude::*;
use pulse_domain::notification::mail::*;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, ChannelKind, MailTemplate, Plan, Role};
use pulse_protocol::ids::{AgentId, ChannelId, DeliveryId, OrgId, SessionId, UserId};

use super::*;
use crate::outbound::mail::transport;

const NOW: Timestamp = Timestamp::from_unix_ms(1_772_366_400_000);

fn links() -> Links {
    Links::new("https://hub.example/".parse().unwrap(), vec![[1; 32]])
}

fn gbp(minor: i64) -> Money {
    Money { minor, currency: "gbp".to_owned() }
}

/// A mail of this template in which every text is `word`.
fn sample(template: MailTemplate, word: &str) -> MailMessage {
    use MailTemplate as T;
    let text = || word.to_owned();
    let (org_name, id) = (text(), text());
    let user_id = UserId::new();
    let fields = vec![FormField { label: text(), value: text() }];
    match template {
        T::Welcome => Welcome { name: text(), org_name, trial_days: Some(14) }.into(),
        T::TrialExpiring => TrialExpiring { org_name, trial_ends_at: NOW, days_left: 3 }.into(),
        T::TrialExpired => {
            TrialExpired { org_name, trial_ended_at: NOW, grace_ends_at: Some(NOW) }.into()
        }
        T::AccountSuspended => {
            let reason = SuspensionReason::GracePeriodExceeded;
            AccountSuspended { org_name, reason, suspended_at: NOW }.into()
        }
        T::SubscriptionActivated => {
            SubscriptionActivated { org_name, plan: Plan::Starter, subscription_id: id }.into()
        }
        T::SubscriptionCancelled => {
            let ended = SubscriptionCancelled {
                org_name,
                subscription_id: id,
                ended_at: NOW,
                kept_days: 30,
            };
            ended.into()
        }
        T::PaymentFailed => {
            let (amount, next_attempt_at) = (gbp(5_000), Some(NOW));
            PaymentFailed { org_name, invoice_id: id, attempt: 1, amount, next_attempt_at }.into()
        }
        T::PaymentRecovered => {
            PaymentRecovered { org_name, invoice_id: id, amount: gbp(5_000) }.into()
        }
        T::RenewalReceipt => {
            let (amount, period_start, period_end) = (gbp(5_000), NOW, NOW);
            RenewalReceipt { org_name, invoice_id: id, amount, period_start, period_end }.into()
        }
        T::CancellationScheduled => {
            let (ends_at, decided_at) = (NOW, NOW);
            CancellationScheduled { org_name, subscription_id: id, ends_at, decided_at }.into()
        }
        T::CancellationWithdrawn => {
            CancellationWithdrawn { org_name, subscription_id: id, decided_at: NOW }.into()
        }
        T::PlanChanged => {
            let (previous, current) = (Plan::Starter, Plan::Unlimited);
            PlanChanged { org_name, previous, current, changed_at: NOW }.into()
        }
        T::CardExpiring => {
            CardExpiring { org_name, brand: text(), last4: text(), month: 3, year: 2026 }.into()
        }
        T::RefundFull => RefundFull { org_name, refund_id: id, amount: gbp(5_000) }.into(),
        T::RefundPartial => {
            RefundPartial { org_name, refund_id: id, amount: gbp(1_000), paid: gbp(5_000) }.into()
        }
        T::DisputeOpened => {
            DisputeOpened { org_name, dispute_id: id, amount: gbp(5_000), reason: text() }.into()
        }
        T::DisputeClosed => {
            let outcome = DisputeOutcome::Won;
            DisputeClosed { org_name, dispute_id: id, amount: gbp(5_000), outcome }.into()
        }
        T::Invitation => Invitation {
            org_name,
            inviter_name: text(),
            role: Role::Editor,
            invitation_id: id,
            token: text(),
            expires_at: NOW,
        }
        .into(),
        T::InvitationResent => InvitationResent {
            org_name,
            inviter_name: text(),
            role: Role::Editor,
            invitation_id: id,
            token: text(),
            resent_at: NOW,
            expires_at: NOW,
        }
        .into(),
        T::MemberAdded => {
            let role = Role::Viewer;
            MemberAdded { org_name, added_by: text(), role, user_id, added_at: NOW }.into()
        }
        T::RoleChanged => RoleChanged {
            org_name,
            changed_by: text(),
            previous: Role::Viewer,
            current: Role::Admin,
            user_id,
            changed_at: NOW,
        }
        .into(),
        T::MemberRemoved => MemberRemoved { org_name, user_id, removed_at: NOW }.into(),
        T::AdminInvitation => AdminInvitation {
            inviter_name: text(),
            staff_role: text(),
            invitation_id: id,
            token: text(),
            sent_at: NOW,
            expires_at: NOW,
        }
        .into(),
        T::AdminGranted => {
            let staff_role = text();
            AdminGranted { granted_by: text(), staff_role, user_id, granted_at: NOW }.into()
        }
        T::StaffMessage => {
            StaffMessage { org_name, message_id: id, subject: text(), text: text() }.into()
        }
        T::QuotaWarning => QuotaWarning {
            org_name,
            quota: text(),
            percent: 80,
            used: 80,
            limit: 100,
            period: "2026-03".to_owned(),
        }
        .into(),
        T::TicketCreated => TicketCreated { ticket_id: id, subject: text() }.into(),
        T::TicketAnswered => TicketAnswered {
            ticket_id: id,
            answer_id: text(),
            subject: text(),
            answered_by: text(),
            text: text(),
        }
        .into(),
        T::KeyRotated => KeyRotated {
            org_name,
            agent_id: AgentId::new(),
            agent_name: text(),
            rotated_by: text(),
            rotated_at: NOW,
        }
        .into(),
        T::NewSignIn => NewSignIn {
            session_id: SessionId::new(),
            address: text(),
            device: text(),
            signed_in_at: NOW,
        }
        .into(),
        T::EmailVerification => {
            EmailVerification { request_id: id, token: text(), expires_at: NOW }.into()
        }
        T::PasswordReset => PasswordReset { request_id: id, token: text(), expires_at: NOW }.into(),
        T::ChannelFailing => ChannelFailing {
            org_name,
            channel_id: ChannelId::new(),
            channel_name: text(),
            kind: ChannelKind::Slack,
            failing_since: NOW,
            error: Some(text()),
        }
        .into(),
        T::ChannelDisabled => ChannelDisabled {
            org_name,
            channel_id: ChannelId::new(),
            channel_name: text(),
            kind: ChannelKind::Slack,
            disabled_at: NOW,
            failing_since: Some(NOW),
            error: Some(text()),
        }
        .into(),
        T::ContactForm => {
            ContactForm { form_id: id, subject: text(), reply_to: text(), fields }.into()
        }
        T::PartnerForm => {
            PartnerForm { form_id: id, company: text(), reply_to: text(), fields }.into()
        }
    }
}

fn record(message: MailMessage) -> MailRecord {
    let request = MailRequest::to_addresses(message, vec![], NOW);
    request.record(OrgId::new(), DeliveryId::new(), "reader@example.org").unwrap()
}

fn composed(template: MailTemplate, word: &str) -> Composed {
    compose(&record(sample(template, word)), &links()).unwrap()
}

/// N01 to N18, N40 to N47: every mail has a subject and both parts, says how to end it where that is due, and leads to
/// the hub alone.
#[test]
fn every_template_renders_in_html_and_in_text() {
    for template in MailTemplate::ALL {
        let Composed { content, unsubscribe } = composed(*template, "Zebra");
        assert!(!content.subject.is_empty() && content.subject.len() < 200, "{template}");
        assert_eq!(unsubscribe.is_some(), facts(*template).unsubscribe, "{template}");
        for part in [&content.html, &content.text] {
            assert!(part.contains("VelocityPulse"), "{template}: {part}");
            assert!(!part.contains("{{") && !part.contains("None"), "{template}: {part}");
            let (mut links, rest) = (0, part.split("https://").skip(1));
            for link in rest {
                assert!(link.starts_with("hub.example"), "{template}: {link}");
                links += 1;
            }
            assert!(links > 0, "{template}");
            match &unsubscribe {
                Some(link) => assert!(part.contains(link.as_str()), "{template}"),
                None => assert!(!part.contains("/unsubscribe/"), "{template}"),
            }
        }
        let is_named = content.subject.contains("Zebra") || content.text.contains("Zebra");
        assert!(is_named, "{template}: says nothing of its cause");
        assert!(content.html.starts_with("<!DOCTYPE html>"), "{template}");
        assert!(!content.text.contains('<'), "{template}: {}", content.text);
    }
}

#[test]
fn subjects_tell_mails_apart() {
    let mut subjects = BTreeMap::new();
    for template in MailTemplate::ALL {
        let subject = composed(*template, "Zebra").content.subject;
        if let Some(other) = subjects.insert(subject.clone(), template) {
            panic!("{template} and {other} are both called {subject}");
        }
    }
}

/// N12: who won is told from the payer's side.
#[test]
fn a_dispute_that_the_hub_won_upheld_the_charge() {
    let said = |outcome| {
        let org_name = "Acme".to_owned();
        let amount = Money { minor: 5_000, currency: "jpy".to_owned() };
        let closed = DisputeClosed { org_name, dispute_id: "d".to_owned(), amount, outcome };
        compose(&record(closed.into()), &links()).unwrap().content.text
    };
    let won = said(DisputeOutcome::Won);
    assert!(won.contains("the payment stands") && won.contains("service is restored"), "{won}");
    assert!(won.contains("JPY 5,000"), "{won}");
    let lost = said(DisputeOutcome::Lost);
    assert!(lost.contains("the payment was given back") && lost.contains("cancelled"), "{lost}");
    let closed = said(DisputeOutcome::Closed);
    assert!(closed.contains("without a decision"), "{closed}");
}

#[test]
fn a_token_stays_one_segment_of_its_link() {
    let text = composed(MailTemplate::PasswordReset, "a/../b?c#d e").content.text;
    assert!(text.contains("https://hub.example/reset-password/a%2F..%2Fb%3Fc%23d%20e"), "{text}");
}

#[test]
fn parameters_of_another_template_are_no_letter() {
    let mut mail = record(sample(MailTemplate::Welcome, "Acme"));
    mail.template = MailTemplate::PasswordReset;
    assert!(matches!(compose(&mail, &links()), Err(ComposeError::Params { .. })));
}

proptest! {
    /// No parameter can make markup, another line of a header, or another line of the text.
    #[test]
    fn no_parameter_makes_markup_or_a_line(
        template in prop::sample::select(MailTemplate::ALL),
        word in "[ -~\r\n\u{0}\u{7f}\u{2028}\u{202e}<>&'\"é]{0,40}",
    ) {
        let evil = format!("x<script a='b'>&{word}\r\nBcc: victim@example.org\u{202e}</td>");
        let Rendered { subject, html, text } = composed(template, &evil).content;
        let is_line = |text: &str| !text.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}');
        prop_assert!(is_line(&subject), "{:?}", subject);
        let plain = composed(template, "x").content.html;
        let tags = |html: &str| html.matches('<').count();
        // What is quoted, and a form's values, may be of several lines: of paragraphs and items, not of other tags.
        prop_assert!(!html.contains("<script") && !html.contains("</td></td>"));
        if !matches!(template, MailTemplate::StaffMessage | MailTemplate::TicketAnswered | MailTemplate::ContactForm | MailTemplate::PartnerForm) {
            prop_assert_eq!(tags(&html), tags(&plain));
            let lines = |text: &str| text.lines().count();
            prop_assert_eq!(lines(&text), lines(&composed(template, "x").content.text));
        }
        prop_assert!(text.split('\n').all(is_line));
    }
}

/// Notes what it is given, and accepts it unless it is told otherwise.
#[derive(Default)]
struct Recorder {
    sent: Mutex<Vec<OutgoingMail>>,
    answer: Mutex<Option<transport::MailVerdict>>,
}

#[async_trait]
impl MailTransport for Recorder {
    async fn send(&self, mail: &OutgoingMail) -> transport::MailVerdict {
        self.sent.lock().push(mail.clone());
        let answer = self.answer.lock().clone();
        answer.unwrap_or_else(|| Verdict::accepted(Some(250)).into())
    }
}

fn account_mail(transport: &Arc<Recorder>) -> AccountMail {
    let from = "VelocityPulse <no-reply@hub.example>".parse().unwrap();
    let transport: Arc<dyn MailTransport> = Arc::clone(transport) as _;
    AccountMail { outgoing: Some(Outgoing { transport, from }), links: links() }
}

#[tokio::test]
async fn an_alert_can_be_ended_with_one_click_and_an_answer_to_a_request_cannot() {
    let transport = Arc::new(Recorder::default());
    let sender = account_mail(&transport);
    for template in [MailTemplate::ChannelFailing, MailTemplate::PasswordReset] {
        let verdict = sender.send(&record(sample(template, "Zebra"))).await;
        let accepted = Verdict::accepted(Some(250));
        assert_eq!(verdict, MailVerdict::Tried { verdict: accepted, is_bounce: false });
    }
    let sent = transport.sent.lock();
    let (alert, answer) = (&sent[0], &sent[1]);
    assert!(
        alert.one_click && alert.list_unsubscribe.as_deref().unwrap().contains("/unsubscribe/")
    );
    assert!(!answer.one_click && answer.list_unsubscribe.is_none());
    assert_eq!(
        (alert.to.to_string().as_str(), alert.host.as_str()),
        ("reader@example.org", "hub.example")
    );
}

#[tokio::test]
async fn a_hub_without_mail_says_so_and_a_letter_it_cannot_write_is_its_own_fault() {
    let nobody = AccountMail { outgoing: None, links: links() };
    let mail = record(sample(MailTemplate::Welcome, "Zebra"));
    assert_eq!(nobody.send(&mail).await, MailVerdict::NotConfigured);

    let transport = Arc::new(Recorder::default());
    let broken = MailRecord { recipient: "a@b\r\nRCPT TO:<c@d>".to_owned(), ..mail.clone() };
    let told = account_mail(&transport).send(&broken).await;
    let MailVerdict::Tried { verdict, is_bounce: false } = told else { panic!("{told:?}") };
    assert!(verdict.is_ours && verdict.outcome == AttemptOutcome::Permanent);
    assert!(transport.sent.lock().is_empty());

    let refused = Verdict::permanent(Some(550), "no such user");
    *transport.answer.lock() =
        Some(transport::MailVerdict { verdict: refused.clone(), suppress: true });
    let told = account_mail(&transport).send(&mail).await;
    assert_eq!(told, MailVerdict::Tried { verdict: refused, is_bounce: true });
}
