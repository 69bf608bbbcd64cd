//! Mail: one message for each recipient.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use pulse_actors::ports::{MailStore, Message, StoreError, SuppressedAddress, Verdict};
use pulse_domain::record::{ChannelRecord, Content};
use pulse_protocol::api::{AttemptOutcome, Suppression, SuppressionReason};
use pulse_protocol::ids::OrgId;
use pulse_protocol::problem::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;
use tracing::warn;

use super::config::{json, read};
use super::http::{Fault, stored_config};
use super::kind::{Checked, Kind};
use super::mail::template::{Frame, Letter, Rendered};
use super::mail::transport::{MailTransport, OutgoingMail};
use super::notice::Notice;
use crate::links::Links;

/// Most recipients of one channel.
const RECIPIENTS_MAX: usize = 20;
/// How long the mails of a test may take; the transport bounds each of them.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest mail address (RFC 5321).
const ADDRESS_CHARS_MAX: usize = 254;

#[derive(Serialize, Deserialize)]
struct Config {
    recipients: Vec<String>,
}

/// Who mails come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letterhead {
    /// The sender.
    pub from: Mailbox,
    /// The host of the hub's public URL, part of every `Message-ID`.
    pub host: String,
}

/// Sends mails.
#[derive(Clone)]
pub struct Email {
    transport: Arc<dyn MailTransport>,
    letterhead: Letterhead,
    links: Links,
    suppressions: Option<Arc<dyn MailStore>>,
}

impl Email {
    /// Sends over this transport.
    #[must_use]
    pub fn new(transport: Arc<dyn MailTransport>, letterhead: Letterhead, links: Links) -> Self {
        Self { transport, letterhead, links, suppressions: None }
    }

    /// The same, but who wants no mail gets none, and an address that a mail server says does not exist is noted.
    #[must_use]
    pub fn heeding(self, suppressions: Arc<dyn MailStore>) -> Self {
        Self { suppressions: Some(suppressions), ..self }
    }

    /// Notes an address that does not exist.
    async fn bounced(&self, message: &Message, recipient: &str) {
        let Some(suppressions) = &self.suppressions else { return };
        let suppressed = SuppressedAddress {
            org_id: message.org_id,
            address: recipient.to_owned(),
            reason: SuppressionReason::Bounce,
            created_at: message.at,
        };
        if let Err(error) = suppressions.suppress(&suppressed).await {
            warn!(%error, org.id = %message.org_id, "an address that does not exist could not be noted");
        }
    }

    /// Those who may be written to.
    async fn willing(
        &self,
        org_id: OrgId,
        recipients: Vec<String>,
    ) -> Result<Vec<String>, StoreError> {
        let Some(suppressions) = &self.suppressions else { return Ok(recipients) };
        let mut willing = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            if suppressions.suppression(org_id, &recipient).await?.is_none() {
                willing.push(recipient);
            }
        }
        Ok(willing)
    }

    /// A delivery has one recipient. A test has none of its own, and goes to all who get mail.
    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let recipients = match &message.content.recipient {
            Some(recipient) if config.recipients.contains(recipient) => vec![recipient.clone()],
            Some(_) => {
                let error = "the channel no longer has this recipient";
                return Ok(Verdict::permanent(None, error).ours());
            }
            None => match self.willing(message.org_id, config.recipients).await {
                Ok(recipients) => recipients,
                Err(error) => {
                    warn!(%error, org.id = %message.org_id, "who wants no mail cannot be told now");
                    let error = "who wants no mail cannot be told now";
                    return Ok(Verdict::retry(None, error).ours());
                }
            },
        };
        let error = "no recipient of the channel gets mail: each unsubscribed or does not exist";
        let mut verdict = Verdict::permanent(None, error).ours();
        for recipient in &recipients {
            let told = self.transport.send(&self.mail(message, recipient)?).await;
            if told.suppress {
                self.bounced(message, recipient).await;
            }
            verdict = told.verdict;
            if verdict.outcome != AttemptOutcome::Accepted {
                break;
            }
        }
        Ok(verdict)
    }

    fn mail(&self, message: &Message, recipient: &str) -> Result<OutgoingMail, Fault> {
        let to: Address =
            recipient.parse().map_err(|_| Fault::permanent("the recipient is no mail address"))?;
        let unsubscribe = self.links.unsubscribe(message.org_id, recipient);
        let notice = Notice::of(message, &self.links);
        let frame = Frame {
            preview: notice.plain().lines().next().unwrap_or_default().to_owned(),
            home: self.links.base().to_owned(),
            why: why(&notice),
            unsubscribe: Some(unsubscribe.clone()),
        };
        let content =
            letter(&notice, &frame).map_err(|_| Fault::permanent("the mail cannot be written"))?;
        Ok(OutgoingMail {
            id: message.delivery_id,
            from: self.letterhead.from.clone(),
            host: self.letterhead.host.clone(),
            to,
            content,
            list_unsubscribe: Some(unsubscribe),
            one_click: true,
        })
    }
}

#[async_trait]
impl Kind for Email {
    fn check(&self, given: &Value, _: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        let config: Config = read(given)?;
        let config = Config {
            recipients: config
                .recipients
                .iter()
                .map(|recipient| recipient.trim().to_owned())
                .collect(),
        };
        let faults = faults(&config);
        if !faults.is_empty() {
            return Err(faults);
        }
        let whole = json(&config)?;
        Ok(Checked { shown: whole.clone(), whole })
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        match timeout(TIMEOUT, self.attempt(channel, message)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(fault)) => fault.into_verdict(),
            Err(_) => Verdict::retry(None, "the mails were not all sent in time").ours(),
        }
    }

    async fn held_back(
        &self,
        org_id: OrgId,
        content: &Content,
    ) -> Result<Option<Suppression>, StoreError> {
        if !self.transport.is_configured() {
            return Ok(Some(Suppression::MailNotConfigured));
        }
        let (Some(suppressions), Some(recipient)) = (&self.suppressions, &content.recipient) else {
            return Ok(None);
        };
        let why = suppressions.suppression(org_id, recipient).await?;
        Ok(why.map(|_| Suppression::Recipient))
    }
}

fn faults(config: &Config) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut fault = |field: String, code: &str, message: &str| {
        faults.push(FieldError::new(field, code, message));
    };
    match config.recipients.len() {
        0 => fault("config.recipients".into(), "required", "must name at least one recipient"),
        1..=RECIPIENTS_MAX => {}
        _ => fault("config.recipients".into(), "too_long", "at most 20 recipients"),
    }
    let mut seen = BTreeSet::new();
    for (place, recipient) in config.recipients.iter().enumerate() {
        let field = format!("config.recipients[{place}]");
        if recipient.chars().count() > ADDRESS_CHARS_MAX {
            fault(field, "too_long", "at most 254 characters");
        } else if recipient.parse::<Address>().is_err() {
            fault(field, "invalid", "must be a mail address such as `name@example.com`");
        } else if !seen.insert(recipient.to_lowercase()) {
            fault(field, "invalid", "is there twice");
        }
    }
    faults
}

fn letter(notice: &Notice, frame: &Frame) -> Result<Rendered, askama::Error> {
    let acknowledge = notice.acknowledge.clone().map(|link| ("Acknowledge".to_owned(), link));
    let open = ("Open VelocityPulse".to_owned(), notice.link.clone());
    let letter = Letter {
        subject: format!("{} {}", notice.severity.emoji(), notice.title),
        title: notice.title.clone(),
        colour: notice.severity.colour(),
        paragraphs: notice.summary.clone().into_iter().collect(),
        facts: notice
            .facts
            .iter()
            .map(|(label, value)| ((*label).to_owned(), value.clone()))
            .collect(),
        lines: notice.lines.iter().cloned().chain(notice.and_more()).collect(),
        buttons: acknowledge.into_iter().chain([open]).collect(),
        note: None,
    };
    letter.render(frame)
}

/// Why this mail comes, for whoever did not write the rule.
fn why(notice: &Notice) -> String {
    let rule = Some(&notice.rule).filter(|rule| !rule.is_empty());
    let org = Some(&notice.org).filter(|org| !org.is_empty());
    let of_org = org.map(|org| format!(" of {org}")).unwrap_or_default();
    match rule {
        Some(rule) => format!("You receive this because of the rule “{rule}”{of_org}."),
        None => format!("You receive this because a mail channel{of_org} names your address."),
    }
}
