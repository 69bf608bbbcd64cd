//! The steps of one mail, and what a refusal at each of them means.

use std::time::Duration;

use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use pulse_actors::ports::Verdict;

use super::settings::{SmtpSettings, TlsMode};
use crate::outbound::http::kept;
use crate::outbound::mail::transport::{MailVerdict, OutgoingMail};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server closes the connection (RFC 5321, 3.8): it says so in place of any other answer.
const CLOSING: u16 = 421;

/// How far a mail has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Connecting, and being greeted.
    Connect,
    /// STARTTLS.
    Tls,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The mail itself, up to the answer to its last dot.
    Content,
}

impl Stage {
    const fn what(self) -> &'static str {
        match self {
            Self::Connect => "no connection to the mail server",
            Self::Tls => "no TLS to the mail server",
            Self::Login => "the mail server refused the sign-in",
            Self::Sender => "the mail server refused the sender",
            Self::Recipient => "the mail server refused the recipient",
            Self::Data | Self::Content => "the mail server refused the message",
        }
    }
}

/// Why a mail was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The time is over.
    Timeout,
    /// What the server or the network said.
    Smtp(lettre::transport::smtp::Error),
    /// The server cannot do what is needed.
    Missing(&'static str),
}

impl From<lettre::transport::smtp::Error> for Refusal {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        Self::Smtp(error)
    }
}

impl Refusal {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Smtp(error) => error.status().map(u16::from),
            Self::Timeout | Self::Missing(_) => None,
        }
    }

    /// Whether it is about the connection alone.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Smtp(error) => error.status().is_none_or(|code| u16::from(code) == CLOSING),
            Self::Timeout | Self::Missing(_) => false,
        }
    }

    /// What it means at this step.
    pub(super) fn verdict(&self, stage: Stage, settings: &SmtpSettings) -> MailVerdict {
        let said = match self {
            Self::Timeout => "no answer in time".to_owned(),
            Self::Missing(what) => (*what).to_owned(),
            Self::Smtp(error) => match (std::error::Error::source(error), error.status()) {
                (Some(source), Some(code)) => format!("{code} {source}"),
                (Some(source), None) => source.to_string(),
                (None, _) => error.to_string(),
            },
        };
        let said = settings.secrets.redact(&said);
        let (code, error) = (self.code(), kept(&format!("{}: {said}", stage.what())));
        let answer = code.map(|_| kept(&said)).unwrap_or_default();
        let verdict = match code {
            // A recipient whose address the server cannot write is none it will ever take.
            None if stage == Stage::Recipient && matches!(self, Self::Missing(_)) => {
                Verdict::permanent(None, error)
            }
            None | Some(CLOSING) => Verdict::retry(code, error).ours(),
            Some(_) if stage < Stage::Recipient => Verdict::retry(code, error).ours(),
            Some(code) if stage == Stage::Recipient && is_of_relay(code, &said) => {
                Verdict::retry(Some(code), error).ours()
            }
            Some(500..) => Verdict::permanent(code, error),
            Some(_) => Verdict::retry(code, error),
        };
        let suppress =
            stage == Stage::Recipient && code.is_some_and(|code| is_unknown(code, &said));
        MailVerdict { verdict: verdict.answered(answer), suppress }
    }
}

/// An enhanced status code (RFC 3463): class, subject and detail.
type Enhanced = (u16, u16, u16);

/// Whether there is no such recipient, nor will be. Only an enhanced code says so: reply codes such as 550 stand for
/// policies as well.
fn is_unknown(code: u16, said: &str) -> bool {
    code >= 500 && matches!(first_enhanced(said), Some((5, 1, 1 | 2 | 3 | 6 | 10)))
}

/// Whether a refusal of the recipient is meant for the hub: its own mail server does not relay for it, wants it to
/// sign in, or does not like the sender.
fn is_of_relay(code: u16, said: &str) -> bool {
    if is_unknown(code, said) {
        return false;
    }
    let is_for_us = matches!(first_enhanced(said), Some((5, 1, 7 | 8) | (5, 7, 0)));
    code == 530 || is_for_us || said.to_ascii_lowercase().contains("relay")
}

fn first_enhanced(said: &str) -> Option<Enhanced> {
    said.split_whitespace().find_map(enhanced)
}

/// A code such as `5.1.1`. Some servers put it between brackets or behind a `#`.
fn enhanced(word: &str) -> Option<Enhanced> {
    let mut parts = word.trim_matches(|c: char| c.is_ascii_punctuation()).split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let is_code = parts.next().is_none() && matches!(class, "2" | "4" | "5");
    is_code.then_some((class.parse().ok()?, subject.parse().ok()?, detail.parse().ok()?))
}

/// Opens a connection that is ready for a mail.
pub(super) async fn open(
    settings: &SmtpSettings,
    tls: &TlsParameters,
    hello: &ClientId,
    stage: &mut Stage,
) -> Result<AsyncSmtpConnection, Refusal> {
    *stage = Stage::Connect;
    let server = (settings.host.as_str(), settings.port);
    let implicit = (settings.tls == TlsMode::Implicit).then(|| tls.clone());
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), hello, implicit, None)
            .await?;
    *stage = Stage::Tls;
    let wants_tls = match settings.tls {
        TlsMode::Required => true,
        TlsMode::Opportunistic => connection.can_starttls(),
        TlsMode::Implicit | TlsMode::None => false,
    };
    if wants_tls && !connection.can_starttls() {
        return Err(Refusal::Missing("it has no STARTTLS, and TLS is required"));
    }
    if wants_tls {
        connection.starttls(tls.clone(), hello).await?;
    }
    if let Some(credentials) = &settings.credentials {
        *stage = Stage::Login;
        connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
    }
    Ok(connection)
}

/// Hands over one mail; the server's answer says that it has taken the responsibility.
pub(super) async fn deliver(
    connection: &mut AsyncSmtpConnection,
    mail: &OutgoingMail,
    bytes: &[u8],
    stage: &mut Stage,
) -> Result<(u16, String), Refusal> {
    *stage = Stage::Sender;
    let is_utf8 =
        [&mail.from.email, &mail.to].into_iter().any(|address| !address.to_string().is_ascii());
    let mut parameters = Vec::new();
    if is_utf8 {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            *stage = Stage::Recipient;
            return Err(Refusal::Missing("it takes no address with characters beyond ASCII"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    connection.command(Mail::new(Some(mail.from.email.clone()), parameters)).await?;
    *stage = Stage::Recipient;
    connection.command(Rcpt::new(mail.to.clone(), Vec::new())).await?;
    *stage = Stage::Data;
    connection.command(Data).await?;
    *stage = Stage::Content;
    let answer = connection.message(bytes).await?;
    let text = answer.message().collect::<Vec<_>>().join(" ");
    Ok((u16::from(answer.code()), kept(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_unknown_by_an_enhanced_code_alone() {
        for (code, said, unknown) in [
            (550, "550 5.1.1 no such user", true),
            (550, "550 (#5.1.1) no such user", true),
            (550, "550 #5.1.1; no such user", true),
            (550, "550 [5.1.2]: no such host", true),
            (553, "553 5.1.3 bad address", true),
            (550, "550 5.1.6 moved", true),
            (550, "550 5.1.0 address rejected", false),
            (550, "550 5.1.7 bad sender", false),
            (550, "550 5.1.8 bad domain of the sender", false),
            (550, "550 no such user", false),
            (553, "553 mailbox name not allowed", false),
            (550, "550 5.7.1 blocked by policy", false),
            (552, "552 5.2.2 mailbox full", false),
            (552, "552 mailbox full", false),
            (554, "554 5.1.10 null MX", true),
            (554, "554 no", false),
            (450, "450 4.1.1 greylisted", false),
            (550, "550 5.7.1 blocked, 5.1.1 of late", false),
            (550, "550 see 10.0.0.1", false),
        ] {
            assert_eq!(is_unknown(code, said), unknown, "{said}");
        }
    }

    #[test]
    fn a_server_that_does_not_relay_says_nothing_of_the_recipient() {
        for (code, said, of_relay) in [
            (530, "530 authentication required", true),
            (550, "550 5.1.7 bad sender", true),
            (553, "553 (#5.1.8) bad domain of the sender", true),
            (550, "550 5.7.0 sign in first", true),
            (554, "554 5.7.1 Relay access denied", true),
            (550, "550 relaying denied", true),
            (550, "550 5.7.1 blocked by policy", false),
            (550, "550 5.1.1 User unknown in relay recipient table", false),
            (552, "552 5.2.2 mailbox full", false),
        ] {
            assert_eq!(is_of_relay(code, said), of_relay, "{said}");
        }
    }
}
