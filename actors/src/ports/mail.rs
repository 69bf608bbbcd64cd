//! The product's own mail: where its rows are, and what carries them.

use std::time::Duration;

use async_trait::async_trait;
use pulse_domain::notification::mail::{MailRecord, MailRequest};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, DeliveryState, Mail, MailTemplate, SuppressionReason};
use pulse_protocol::ids::{DeliveryId, OrgId};
use uuid::Uuid;

use super::sender::Verdict;
use super::store::StoreError;

/// A mail server that says nothing for this long is not waited for any more.
pub const MAIL_ATTEMPT_WITHIN: Duration = Duration::from_secs(30);

/// Whoever holds it may try the mail: nobody else does until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailClaim {
    /// Tells it from every other claim.
    pub by: Uuid,
    /// When it ends.
    pub until: Timestamp,
}

impl MailClaim {
    /// A claim that ends `lease` after `now`.
    #[must_use]
    pub fn new(now: Timestamp, lease: Duration) -> Self {
        Self { by: Uuid::now_v7(), until: now + lease }
    }
}

/// A mail that its holder may try.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedMail {
    /// The mail.
    pub mail: MailRecord,
    /// What allows to try it.
    pub claim: MailClaim,
}

/// What became of a claimed mail.
#[derive(Clone, Debug, PartialEq)]
pub struct SettledMail {
    /// The mail after it.
    pub mail: MailRecord,
    /// The attempt, if one was made.
    pub attempt: Option<Attempt>,
    /// Why its recipient gets no more mail of this org.
    pub suppress: Option<SuppressionReason>,
}

/// Which mails to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct MailFilter {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of this template.
    pub template: Option<MailTemplate>,
    /// Only those older than this one: the last of the page before.
    pub before: Option<DeliveryId>,
}

/// An address that gets no mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressedAddress {
    /// Of this org, or of all where it is the one of mails without an org.
    pub org_id: OrgId,
    /// In lower case.
    pub address: String,
    /// Why.
    pub reason: SuppressionReason,
    /// Since when.
    pub created_at: Timestamp,
}

/// Whether an address gets mail.
#[async_trait]
pub trait Suppressions: Send + Sync {
    /// Why an org's mail is kept from an address; none if it is not. Of several reasons the one that keeps most from it.
    async fn suppression(
        &self,
        org_id: OrgId,
        address: &str,
    ) -> Result<Option<SuppressionReason>, StoreError>;
}

/// The rows of all mails.
#[async_trait]
pub trait MailStore: Suppressions {
    /// Writes one row for each recipient, unless there is one of this key for it; the ids of all of them.
    async fn enqueue(
        &self,
        org_id: OrgId,
        request: &MailRequest,
    ) -> Result<Vec<DeliveryId>, StoreError>;

    /// Claims up to `limit` mails that are due at `now` and that nobody holds, the one due first in front.
    async fn claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedMail>, StoreError>;

    /// Writes what became of a claimed mail and gives the claim back. False, and nothing is written, if the claim ended
    /// and somebody else took the mail, or a person ended it.
    async fn settle(&self, claim: &MailClaim, settled: &SettledMail) -> Result<bool, StoreError>;

    /// When the next mail that nobody holds at `now` is due; none if there is none.
    async fn next_mail_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Up to `limit` mails of an org, newest first, each with its attempts.
    async fn mails(
        &self,
        org_id: OrgId,
        filter: MailFilter,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreError>;

    /// One mail with its attempts.
    async fn mail(
        &self,
        org_id: OrgId,
        id: DeliveryId,
    ) -> Result<Option<(MailRecord, Mail)>, StoreError>;

    /// Writes `after` for what a person was shown as `before`, and takes it from whoever holds it. False, and nothing is
    /// written, if it has changed since.
    async fn change_mail(
        &self,
        before: &MailRecord,
        after: &MailRecord,
    ) -> Result<bool, StoreError>;

    /// Keeps mail from an address; what kept it before stays.
    async fn suppress(&self, suppressed: &SuppressedAddress) -> Result<(), StoreError>;

    /// Addresses that get no mail, of one org or of all, in order of org and address.
    async fn suppressions(
        &self,
        org_id: Option<OrgId>,
    ) -> Result<Vec<SuppressedAddress>, StoreError>;

    /// Lets an address get an org's mail again; whether anything kept it.
    async fn unsuppress(&self, org_id: OrgId, address: &str) -> Result<bool, StoreError>;
}

/// How a strict mail's cause ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseEnd {
    /// The mail was accepted: the cause stands.
    Confirm,
    /// It was not: the cause is taken back.
    Undo,
}

/// What a strict mail is about. It must be good as soon as it has begun: whoever began it may fall, and then the mailer
/// sends the mail when the claim has ended, and the cause stands.
#[async_trait]
pub trait StrictCause: Send + Sync {
    /// Writes the cause, and its mail held by `claim`, in one transaction. The mail as it is stored.
    async fn begin(&self, claim: &MailClaim) -> Result<MailRecord, StoreError>;

    /// Writes what became of the mail, and confirms or takes back the cause, in one transaction. False, and nothing is
    /// written, if the claim ended and somebody else took the mail.
    async fn end(
        &self,
        claim: &MailClaim,
        settled: &SettledMail,
        end: CauseEnd,
    ) -> Result<bool, StoreError>;
}

/// What a mail server made of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailVerdict {
    /// It was tried.
    Tried {
        /// What became of it.
        verdict: Verdict,
        /// Whether the recipient's mail server says that there is no such address.
        is_bounce: bool,
    },
    /// This hub has no way to send mail.
    NotConfigured,
}

/// Carries mails. Bounded in time by itself, and by whoever asks.
#[async_trait]
pub trait MailSender: Send + Sync {
    /// Makes one attempt.
    async fn send(&self, mail: &MailRecord) -> MailVerdict;
}
