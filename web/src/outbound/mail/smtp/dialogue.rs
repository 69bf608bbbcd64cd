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
            Some(500..) => Verdict::permanent(code, error),
            Some(_) => Verdict::retry(code, error),
        };
        let suppress =
            stage == Stage::Recipient && code.is_some_and(|code| is_unknown(code, &said));
        MailVerdict { verdict: verdict.answered(answer), suppress }
    }
}

/// Whether there is no such recipient. The enhanced code (RFC 3463) knows it better than the reply code.
fn is_unknown(code: u16, said: &str) -> bool {
    if code < 500 {
        return false;
    }
    match said.split_whitespace().find_map(enhanced) {
        Some((5, subject)) => subject == 1,
        Some(_) => false,
        None => matches!(code, 550 | 551 | 553),
    }
}

/// Class and subject of a code such as `5.1.1`.
fn enhanced(word: &str) -> Option<(u16, u16)> {
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    detail.parse::<u16>().ok()?;
    let is_code = parts.next().is_none() && matches!(class, "2" | "4" | "5");
    is_code.then_some((class.parse().ok()?, subject.parse().ok()?))
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
    fn a_recipient_is_unknown_by_its_enhanced_code_or_else_by_its_reply_code() {
        for (code, said, unknown) in [
            (550, "550 5.1.1 no such user", true),
            (550, "550 no such user", true),
            (553, "553 mailbox name not allowed", true),
            (550, "550 5.7.1 blocked by policy", false),
            (552, "552 5.2.2 mailbox full", false),
            (552, "552 mailbox full", false),
            (554, "554 5.1.10 null MX", true),
            (554, "554 no", false),
            (450, "450 4.1.1 greylisted", false),
            (550, "550 see 10.0.0.1", true),
        ] {
            assert_eq!(is_unknown(code, said), unknown, "{said}");
        }
    }
}
