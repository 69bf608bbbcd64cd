//! The product's own mail: each is a row written with its cause, then tried until it is accepted, refused or pointless.
//!
//! - **M1** A mail that has not ended has a next attempt, and none that has ended has one.
//! - **M2** It is `delivered` only if the recipient's mail server accepted it.
//! - **M3** Nothing is sent after it expired, nor to somebody who wants none of its kind.
//! - **M4** Of the mails of one org with one key, each address gets one.

mod message;

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    AttemptOutcome, DeliveryState, MailOutcome, MailTemplate, Role, Suppression, SuppressionReason,
};
use pulse_protocol::ids::{DeliveryId, OrgId};
use serde_json::Value;
use uuid::Uuid;

use super::delivery;
use crate::request::Refusal;

pub use message::*;

/// Mails that belong to no org are stored under this one.
pub const NO_ORG: OrgId = OrgId::from_uuid(Uuid::nil());

/// What is written of a mail that became pointless.
pub const EXPIRED: &str = "expired before it was accepted";

/// One mail to one address.
#[derive(Clone, PartialEq)]
pub struct MailRecord {
    /// The org it is about, or [`NO_ORG`].
    pub org_id: OrgId,
    /// The mail; part of its `Message-ID`, the same on every attempt.
    pub id: DeliveryId,
    /// What it is about.
    pub template: MailTemplate,
    /// What tells its cause from others.
    pub key: String,
    /// The address, in lower case.
    pub recipient: String,
    /// What it says, by template. May hold tokens: encrypted in the tables, and never shown.
    pub params: Value,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Why it is not sent.
    pub suppressed_by: Option<Suppression>,
    /// Attempts since it was queued or last replayed.
    pub tries: u32,
    /// When it is tried next; none once it has ended.
    pub next_attempt_at: Option<Timestamp>,
    /// After this it is pointless.
    pub expires_at: Timestamp,
    /// When it was called for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The mail server's last reply code.
    pub status: Option<u16>,
    /// Why the last attempt failed, or why there was none.
    pub error: Option<String>,
}

impl std::fmt::Debug for MailRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailRecord")
            .field("org_id", &self.org_id)
            .field("id", &self.id)
            .field("template", &self.template)
            .field("key", &self.key)
            .field("state", &self.state)
            .field("tries", &self.tries)
            .field("next_attempt_at", &self.next_attempt_at)
            .finish_non_exhaustive()
    }
}

/// To whom a mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To the members of the org who have one of these roles when it is written.
    Members(&'static [Role]),
    /// To these addresses.
    Addresses(Vec<String>),
}

/// A mail that a decision calls for; one row for each recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct MailRequest {
    /// What it says.
    pub message: MailMessage,
    /// To whom.
    pub to: To,
    /// When it is called for.
    pub at: Timestamp,
}

impl MailRequest {
    /// A mail to the members its template is for; none if it is for an address that only its cause knows.
    #[must_use]
    pub fn to_members(message: impl Into<MailMessage>, at: Timestamp) -> Option<Self> {
        let message = message.into();
        let roles = roles(facts(message.template()).audience)?;
        Some(Self { message, to: To::Members(roles), at })
    }

    /// A mail to these addresses.
    #[must_use]
    pub fn to_addresses(
        message: impl Into<MailMessage>,
        addresses: Vec<String>,
        at: Timestamp,
    ) -> Self {
        Self { message: message.into(), to: To::Addresses(addresses), at }
    }

    /// Its row for one recipient.
    ///
    /// # Errors
    ///
    /// As [`MailMessage::params`].
    pub fn record(
        &self,
        org_id: OrgId,
        id: DeliveryId,
        recipient: &str,
    ) -> Result<MailRecord, serde_json::Error> {
        Ok(MailRecord {
            org_id,
            id,
            template: self.message.template(),
            key: self.message.key(),
            recipient: address(recipient),
            params: self.message.params()?,
            state: DeliveryState::Queued,
            suppressed_by: None,
            tries: 0,
            next_attempt_at: Some(self.at),
            expires_at: self.message.expires_at(self.at),
            created_at: self.at,
            ended_at: None,
            status: None,
            error: None,
        })
    }
}

/// A mail address as it is compared and stored.
#[must_use]
pub fn address(given: &str) -> String {
    given.trim().to_lowercase()
}

/// The members that an audience is.
#[must_use]
pub const fn roles(audience: Audience) -> Option<&'static [Role]> {
    match audience {
        Audience::Owners => Some(&[Role::Owner]),
        Audience::OwnersAndAdmins => Some(&[Role::Owner, Role::Admin]),
        Audience::Address | Audience::Team => None,
    }
}

/// Whether an address that gets no mail for this reason gets none of this template either. Who unsubscribed still gets
/// what they need to know or asked for.
#[must_use]
pub const fn is_kept_from(template: MailTemplate, reason: SuppressionReason) -> bool {
    match reason {
        SuppressionReason::Bounce | SuppressionReason::Complaint => true,
        SuppressionReason::Unsubscribed => facts(template).unsubscribe,
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether it was accepted, and if not whether it may be later.
    pub outcome: AttemptOutcome,
    /// The mail server's reply code.
    pub status: Option<u16>,
    /// Why it was not accepted.
    pub error: Option<String>,
    /// How long the mail server asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl MailRecord {
    /// Itself, if there is something to try at `now`.
    ///
    /// # Errors
    ///
    /// The mail as it ended, when it has expired or its recipient wants none.
    pub fn unless_pointless(
        mut self,
        suppressed: Option<SuppressionReason>,
        now: Timestamp,
    ) -> Result<Self, Box<Self>> {
        if now >= self.expires_at {
            self.end(DeliveryState::Dead, now);
            self.error = Some(EXPIRED.to_owned());
            return Err(Box::new(self));
        }
        match suppressed.filter(|reason| is_kept_from(self.template, *reason)) {
            Some(reason) => {
                let why = format!("the recipient is suppressed: {reason}");
                Err(Box::new(self.held_back(Suppression::Recipient, why, now)))
            }
            None => Ok(self),
        }
    }

    /// The hub has no way to send it.
    #[must_use]
    pub fn not_configured(self, now: Timestamp) -> Self {
        let why = "this hub has no way to send mail".to_owned();
        self.held_back(Suppression::MailNotConfigured, why, now)
    }

    /// What follows an attempt. `jitter`, in 0 to 1, spreads the retries.
    #[must_use]
    pub fn after_attempt(mut self, tried: Tried, jitter: f64, now: Timestamp) -> Self {
        self.tries = self.tries.saturating_add(1);
        let Tried { outcome, status, error, retry_after } = tried;
        let next = delivery::after_attempt(outcome, self.tries, &[], retry_after, jitter, now);
        (self.status, self.error) = (status, error);
        match next.next_attempt_at {
            None => self.end(next.state, now),
            Some(at) if at >= self.expires_at => {
                self.end(DeliveryState::Dead, now);
                self.error = Some(match self.error.take() {
                    Some(error) => format!("{EXPIRED}; last: {error}"),
                    None => EXPIRED.to_owned(),
                });
            }
            Some(at) => (self.state, self.next_attempt_at) = (next.state, Some(at)),
        }
        self
    }

    /// Nothing more is tried: whoever caused it was told so.
    #[must_use]
    pub fn given_up(mut self, now: Timestamp) -> Self {
        if !delivery::is_ended(self.state) {
            self.end(DeliveryState::Dead, now);
        }
        self
    }

    /// Tries it anew.
    ///
    /// # Errors
    ///
    /// [`Refusal::Conflict`] if it is still tried, was accepted, is pointless by now, or its cause was taken back.
    pub fn replayed(mut self, now: Timestamp) -> Result<Self, Refusal> {
        let why_not = if !delivery::is_ended(self.state) {
            Some("it has not ended; it is still being tried")
        } else if self.state == DeliveryState::Delivered {
            Some("it was delivered")
        } else if facts(self.template).contract == Contract::Strict {
            Some("what it was about was taken back when it failed; do that again")
        } else if now >= self.expires_at {
            Some("it has expired")
        } else {
            None
        };
        if let Some(why) = why_not {
            return Err(Refusal::Conflict { message: why.to_owned() });
        }
        (self.state, self.tries, self.next_attempt_at) = (DeliveryState::Queued, 0, Some(now));
        (self.suppressed_by, self.ended_at, self.status, self.error) = (None, None, None, None);
        Ok(self)
    }

    /// Gives it up, as a person asked.
    ///
    /// # Errors
    ///
    /// [`Refusal::Conflict`] if it has ended already.
    pub fn discarded(mut self, now: Timestamp) -> Result<Self, Refusal> {
        if delivery::is_ended(self.state) {
            return Err(Refusal::Conflict { message: format!("it is {} already", self.state) });
        }
        self.end(DeliveryState::Discarded, now);
        Ok(self)
    }

    /// What whoever caused it is told.
    #[must_use]
    pub const fn outcome(&self) -> MailOutcome {
        match (self.state, self.suppressed_by) {
            (DeliveryState::Queued | DeliveryState::Retrying, _) => MailOutcome::Queued,
            (DeliveryState::Delivered, _) => MailOutcome::Sent,
            (DeliveryState::Suppressed, Some(Suppression::MailNotConfigured)) => {
                MailOutcome::NotConfigured
            }
            (DeliveryState::Suppressed, _) => MailOutcome::Suppressed,
            (DeliveryState::Dead | DeliveryState::Superseded | DeliveryState::Discarded, _) => {
                MailOutcome::Failed
            }
        }
    }

    fn held_back(mut self, by: Suppression, why: String, now: Timestamp) -> Self {
        self.end(DeliveryState::Suppressed, now);
        (self.suppressed_by, self.error) = (Some(by), Some(why));
        self
    }

    const fn end(&mut self, state: DeliveryState, now: Timestamp) {
        self.state = state;
        self.next_attempt_at = None;
        self.ended_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
