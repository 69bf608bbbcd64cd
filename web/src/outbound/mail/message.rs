//! A mail as it travels (RFC 5322).

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use url::Url;

use super::transport::OutgoingMail;

/// A mail cannot be written down.
#[derive(Debug, thiserror::Error)]
#[error("the mail cannot be written: {0}")]
pub(super) struct Unwritable(String);

/// Its `Message-ID`, the same on every attempt: a mail that arrives twice is shown once by most programs.
pub(super) fn message_id(mail: &OutgoingMail) -> String {
    format!("<{}@{}>", mail.id, mail.host)
}

/// Headers beside those of every mail: no autoresponder answers it, and it can be ended.
pub(super) fn headers(mail: &OutgoingMail) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
    ];
    // A link of any other form could not stand between the brackets.
    let link = mail.list_unsubscribe.as_deref().and_then(|link| Url::parse(link).ok());
    if let Some(link) = link.filter(|link| matches!(link.scheme(), "https" | "http")) {
        headers.push(("List-Unsubscribe", format!("<{link}>")));
        // RFC 8058 takes no other scheme.
        if mail.one_click && link.scheme() == "https" {
            headers.push(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
        }
    }
    headers
}

/// The whole mail, in two parts that say the same.
pub(super) fn written(mail: &OutgoingMail) -> Result<Message, Unwritable> {
    let mut builder = Message::builder()
        .message_id(Some(message_id(mail)))
        .date(called_for(mail))
        .from(mail.from.clone())
        .to(Mailbox::new(None, mail.to.clone()))
        .subject(subject(mail));
    for (name, value) in headers(mail) {
        builder = builder.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
    }
    let content = &mail.content;
    builder
        .multipart(MultiPart::alternative_plain_html(content.text.clone(), content.html.clone()))
        .map_err(|error| Unwritable(error.to_string()))
}

/// The subject in one line.
pub(super) fn subject(mail: &OutgoingMail) -> String {
    crate::outbound::text::line(&mail.content.subject)
}

/// When the delivery was called for: its id says so.
fn called_for(mail: &OutgoingMail) -> SystemTime {
    let since_epoch = mail.id.uuid().get_timestamp().map(|at| at.to_unix());
    since_epoch.map_or_else(SystemTime::now, |(seconds, _)| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    })
}
