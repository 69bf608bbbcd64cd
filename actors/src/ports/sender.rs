//! Carrying one message to one receiver.

use std::time::Duration;

use async_trait::async_trait;
use pulse_domain::record::{ChannelRecord, Content, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, Suppression};
use pulse_protocol::ids::{DeliveryId, OrgId};

use super::store::StoreError;

/// One message on its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// The org.
    pub org_id: OrgId,
    /// The delivery; the receiver sees it as the message's id.
    pub delivery_id: DeliveryId,
    /// What it is about.
    pub event: JournalEvent,
    /// What it says beside the event.
    pub content: Content,
    /// When this attempt is made.
    pub at: Timestamp,
}

/// What the receiver made of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it accepted the message, and if not whether it may later.
    pub outcome: AttemptOutcome,
    /// Its HTTP status, or the reply code of its mail server, if it answered.
    pub status: Option<u16>,
    /// The beginning of its answer; bounded and without secrets.
    pub answer: Option<String>,
    /// Why it did not, for people; bounded and without secrets.
    pub error: Option<String>,
    /// How long it asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether the fault is this hub's, such as its own mail server being away: it says nothing of the receiver.
    pub is_ours: bool,
}

impl Verdict {
    /// The receiver accepted the message.
    #[must_use]
    pub const fn accepted(status: Option<u16>) -> Self {
        Self {
            outcome: AttemptOutcome::Accepted,
            status,
            answer: None,
            error: None,
            retry_after: None,
            is_ours: false,
        }
    }

    /// It did not, and may later.
    #[must_use]
    pub fn retry(status: Option<u16>, error: impl Into<String>) -> Self {
        Self::failed(AttemptOutcome::Retry, status, error.into())
    }

    /// It will never accept this message.
    #[must_use]
    pub fn permanent(status: Option<u16>, error: impl Into<String>) -> Self {
        Self::failed(AttemptOutcome::Permanent, status, error.into())
    }

    /// It is gone for good (410).
    #[must_use]
    pub fn gone() -> Self {
        Self::failed(
            AttemptOutcome::Gone,
            Some(410),
            "410 Gone: the receiver is gone for good".to_owned(),
        )
    }

    /// The same, with the beginning of the receiver's answer.
    #[must_use]
    pub fn answered(self, answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self { answer: Some(answer).filter(|answer| !answer.is_empty()), ..self }
    }

    /// The same, with what the receiver asked for.
    #[must_use]
    pub fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same, but the fault is this hub's.
    #[must_use]
    pub fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    const fn failed(outcome: AttemptOutcome, status: Option<u16>, error: String) -> Self {
        Self {
            outcome,
            status,
            answer: None,
            error: Some(error),
            retry_after: None,
            is_ours: false,
        }
    }
}

/// Carries messages. Bounded in time by itself.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Makes one attempt.
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict;

    /// Why a message of this org is not to be tried at all; none for most.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if that cannot be told now.
    async fn held_back(
        &self,
        _: &ChannelRecord,
        _: OrgId,
        _: &Content,
    ) -> Result<Option<Suppression>, StoreError> {
        Ok(None)
    }
}
