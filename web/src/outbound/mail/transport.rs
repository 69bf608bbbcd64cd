//! One mail on its way to the next mail server.

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use pulse_actors::ports::Verdict;
use pulse_protocol::ids::DeliveryId;

use super::template::Rendered;

/// A mail to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMail {
    /// The delivery. Its `Message-ID` and `Date` come from it, so they are the same on every attempt.
    pub id: DeliveryId,
    /// Who sends it.
    pub from: Mailbox,
    /// What stands behind the `@` of its `Message-ID`: the host of the hub's public URL.
    pub host: String,
    /// Who gets it.
    pub to: Address,
    /// What it says.
    pub content: Rendered,
    /// The link that ends such mails, where they may be ended.
    pub list_unsubscribe: Option<String>,
    /// Whether that link takes a POST without a question (RFC 8058); said only of an `https` link.
    pub one_click: bool,
}

/// What the next mail server made of a mail. Accepted means that it took the responsibility (RFC 5321, 6.1), not that
/// somebody reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailVerdict {
    /// Whether it accepted the mail, and if not whether it may later.
    pub verdict: Verdict,
    /// Whether there is no such recipient: further mails to this address are pointless.
    pub suppress: bool,
}

impl From<Verdict> for MailVerdict {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, suppress: false }
    }
}

/// Carries mails. Bounded in time by itself.
#[async_trait]
pub trait MailTransport: Send + Sync {
    /// Makes one attempt.
    async fn send(&self, mail: &OutgoingMail) -> MailVerdict;

    /// Whether there is a way to send mail at all.
    fn is_configured(&self) -> bool {
        true
    }
}
