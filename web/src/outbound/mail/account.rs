//! The letters of the product's own mail: from a row to what is sent.

mod accounts;
mod billing;
mod draft;
mod monitoring;
mod support;

use std::sync::Arc;

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use pulse_actors::ports::{MailSender, MailVerdict, Verdict};
use pulse_domain::notification::mail::{self, MailMessage, MailRecord};

use super::template::{Letter, Rendered};
use super::transport::{MailTransport, OutgoingMail};
use crate::links::Links;
use crate::outbound::text::line;
use draft::Draft;

/// Why a mail cannot be written. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// What is stored is not what this template takes.
    #[error("the parameters of the template {template} cannot be read")]
    Params {
        /// The template.
        template: &'static str,
        /// What is missing, or has another form.
        #[source]
        source: serde_json::Error,
    },
    /// The recipient is no mail address.
    #[error("the recipient is no mail address")]
    Recipient(#[source] lettre::address::AddressError),
    /// The template failed.
    #[error("the letter cannot be rendered")]
    Render(#[source] askama::Error),
}

/// What is sent of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Subject and both parts.
    pub content: Rendered,
    /// The link that ends such mails, where they may be ended.
    pub unsubscribe: Option<String>,
}

/// Writes the letter of a row.
///
/// # Errors
///
/// Returns [`ComposeError`]; a later attempt would fail alike.
pub fn compose(mail: &MailRecord, links: &Links) -> Result<Composed, ComposeError> {
    let template = mail.template;
    let message = MailMessage::read(template, mail.params.clone())
        .map_err(|source| ComposeError::Params { template: template.as_str(), source })?;
    let unsubscribe =
        mail::facts(template).unsubscribe.then(|| links.unsubscribe(mail.org_id, &mail.recipient));
    let draft = draft(&message, &draft::Pages::new(links, mail.org_id));
    let (letter, frame) = draft.finish(links, unsubscribe.clone());
    let content = Letter::render(&letter, &frame).map_err(ComposeError::Render)?;
    Ok(Composed { content, unsubscribe })
}

fn draft(message: &MailMessage, pages: &draft::Pages<'_>) -> Draft {
    use MailMessage as M;
    match message {
        M::Welcome(said) => accounts::welcome(said, pages),
        M::TrialExpiring(said) => billing::trial_expiring(said, pages),
        M::TrialExpired(said) => billing::trial_expired(said, pages),
        M::AccountSuspended(said) => billing::account_suspended(said, pages),
        M::SubscriptionActivated(said) => billing::subscription_activated(said, pages),
        M::SubscriptionCancelled(said) => billing::subscription_cancelled(said, pages),
        M::PaymentFailed(said) => billing::payment_failed(said, pages),
        M::PaymentRecovered(said) => billing::payment_recovered(said, pages),
        M::RenewalReceipt(said) => billing::renewal_receipt(said, pages),
        M::CancellationScheduled(said) => billing::cancellation_scheduled(said, pages),
        M::CancellationWithdrawn(said) => billing::cancellation_withdrawn(said, pages),
        M::PlanChanged(said) => billing::plan_changed(said, pages),
        M::CardExpiring(said) => billing::card_expiring(said, pages),
        M::RefundFull(said) => billing::refund_full(said, pages),
        M::RefundPartial(said) => billing::refund_partial(said, pages),
        M::DisputeOpened(said) => billing::dispute_opened(said, pages),
        M::DisputeClosed(said) => billing::dispute_closed(said, pages),
        M::Invitation(said) => accounts::invitation(said, pages),
        M::InvitationResent(said) => accounts::invitation_resent(said, pages),
        M::MemberAdded(said) => accounts::member_added(said, pages),
        M::RoleChanged(said) => accounts::role_changed(said, pages),
        M::MemberRemoved(said) => accounts::member_removed(said, pages),
        M::AdminInvitation(said) => accounts::admin_invitation(said, pages),
        M::AdminGranted(said) => accounts::admin_granted(said, pages),
        M::StaffMessage(said) => support::staff_message(said, pages),
        M::QuotaWarning(said) => monitoring::quota_warning(said, pages),
        M::TicketCreated(said) => support::ticket_created(said, pages),
        M::TicketAnswered(said) => support::ticket_answered(said, pages),
        M::KeyRotated(said) => monitoring::key_rotated(said, pages),
        M::NewSignIn(said) => accounts::new_sign_in(said, pages),
        M::EmailVerification(said) => accounts::email_verification(said, pages),
        M::PasswordReset(said) => accounts::password_reset(said, pages),
        M::ChannelFailing(said) => monitoring::channel_failing(said, pages),
        M::ChannelDisabled(said) => monitoring::channel_disabled(said, pages),
        M::ContactForm(said) => support::contact_form(said, pages),
        M::PartnerForm(said) => support::partner_form(said, pages),
    }
}

/// How this hub's own mail leaves it.
#[derive(Clone)]
pub struct Outgoing {
    /// The way to the next mail server.
    pub transport: Arc<dyn MailTransport>,
    /// Who sends.
    pub from: Mailbox,
}

/// Writes the letters of rows and hands them on.
#[derive(Clone)]
pub struct AccountMail {
    /// None where no way to send mail is configured.
    pub outgoing: Option<Outgoing>,
    /// Where its links lead.
    pub links: Links,
}

impl AccountMail {
    fn write(&self, mail: &MailRecord, from: &Mailbox) -> Result<OutgoingMail, ComposeError> {
        let to: Address = mail.recipient.parse().map_err(ComposeError::Recipient)?;
        let Composed { content, unsubscribe } = compose(mail, &self.links)?;
        Ok(OutgoingMail {
            id: mail.id,
            from: from.clone(),
            host: self.links.host().to_owned(),
            to,
            content,
            one_click: unsubscribe.is_some(),
            list_unsubscribe: unsubscribe,
        })
    }
}

#[async_trait]
impl MailSender for AccountMail {
    async fn send(&self, mail: &MailRecord) -> MailVerdict {
        let Some(Outgoing { transport, from }) = &self.outgoing else {
            return MailVerdict::NotConfigured;
        };
        match self.write(mail, from) {
            Ok(outgoing) => {
                let told = transport.send(&outgoing).await;
                MailVerdict::Tried { verdict: told.verdict, is_bounce: told.suppress }
            }
            // The fault is this hub's, and the same next time.
            Err(error) => {
                let verdict = Verdict::permanent(None, line(&error.to_string())).ours();
                MailVerdict::Tried { verdict, is_bounce: false }
            }
        }
    }
}

#[cfg(test)]
mod tests;
