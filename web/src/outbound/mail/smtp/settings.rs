//! Which mail server to use, and how.

use std::net::IpAddr;
use std::str::FromStr;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::outbound::secrets::Secrets;

/// The port of submission over TLS.
const PORT_TLS: u16 = 465;
/// The port of submission, with a sign-in.
const PORT_SUBMISSION: u16 = 587;
/// The port of a relay.
const PORT_RELAY: u16 = 25;

/// When TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From the first byte on.
    Implicit,
    /// After STARTTLS, or not at all.
    Required,
    /// After STARTTLS where the server has it.
    Opportunistic,
    /// Never.
    None,
}

/// A mail server, from a URL such as `smtp://user:password@mail.example.com:587?tls=required`.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// When TLS is used.
    pub tls: TlsMode,
    pub(super) credentials: Option<Credentials>,
    pub(super) secrets: Secrets,
}

impl std::fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A text is no URL of a mail server. It does not show the text: that may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSmtpUrl {
    /// No URL, another scheme, or no host.
    #[error("is no smtp:// or smtps:// URL with a host")]
    Url,
    /// A user without a password, or the other way round.
    #[error("has a user without a password, or characters in them that are not percent-encoded")]
    Credentials,
    /// An unknown parameter.
    #[error("has a parameter other than tls=required, tls=opportunistic or tls=none")]
    Parameter,
}

impl FromStr for SmtpSettings {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let url = Url::parse(text).map_err(|_| InvalidSmtpUrl::Url)?;
        let is_implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(InvalidSmtpUrl::Url),
        };
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err(InvalidSmtpUrl::Url),
        };
        if host.is_empty() || !matches!(url.path(), "" | "/") {
            return Err(InvalidSmtpUrl::Url);
        }
        let login = login(&url)?;
        let asked = tls_asked_for(&url)?;
        let tls = match asked {
            Some(_) if is_implicit => return Err(InvalidSmtpUrl::Parameter),
            _ if is_implicit => TlsMode::Implicit,
            Some(asked) => asked,
            // A password is not sent in the clear over a network.
            None if login.is_some() && !is_loopback(&host) => TlsMode::Required,
            None => TlsMode::Opportunistic,
        };
        let port = url.port().unwrap_or(match (is_implicit, &login) {
            (true, _) => PORT_TLS,
            (false, Some(_)) => PORT_SUBMISSION,
            (false, None) => PORT_RELAY,
        });
        let secrets = Secrets::of(login.as_ref().map(|(_, password)| password.as_str()));
        let credentials = login.map(|(user, password)| Credentials::new(user, password));
        Ok(Self { host, port, tls, credentials, secrets })
    }
}

fn login(url: &Url) -> Result<Option<(String, String)>, InvalidSmtpUrl> {
    let decoded = |text: &str| {
        let text =
            percent_decode_str(text).decode_utf8().map_err(|_| InvalidSmtpUrl::Credentials)?;
        Ok(text.into_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => {
            Ok(Some((decoded(user)?, decoded(password)?)))
        }
        _ => Err(InvalidSmtpUrl::Credentials),
    }
}

fn tls_asked_for(url: &Url) -> Result<Option<TlsMode>, InvalidSmtpUrl> {
    let mut asked = None;
    for (name, value) in url.query_pairs() {
        asked = match (&*name, &*value) {
            ("tls", "required") => Some(TlsMode::Required),
            ("tls", "opportunistic") => Some(TlsMode::Opportunistic),
            ("tls", "none") => Some(TlsMode::None),
            _ => return Err(InvalidSmtpUrl::Parameter),
        };
    }
    Ok(asked)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// How the hub names itself in `EHLO`.
pub(super) fn client_id(host: &str) -> ClientId {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => ClientId::Domain(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, u16, TlsMode, bool), InvalidSmtpUrl> {
        text.parse().map(|SmtpSettings { host, port, tls, credentials, .. }| {
            (host, port, tls, credentials.is_some())
        })
    }

    #[test]
    fn what_is_left_out_has_a_safe_value() {
        let host = || "mail.example.com".to_owned();
        for (text, port, tls, has_login) in [
            ("smtp://mail.example.com", 25, TlsMode::Opportunistic, false),
            ("smtp://u:p@mail.example.com", 587, TlsMode::Required, true),
            ("smtp://u:p@mail.example.com:25?tls=none", 25, TlsMode::None, true),
            ("smtp://mail.example.com?tls=required", 25, TlsMode::Required, false),
            ("smtps://u%40example.com:p%3Aw@mail.example.com", 465, TlsMode::Implicit, true),
        ] {
            assert_eq!(read(text), Ok((host(), port, tls, has_login)), "{text}");
        }
        let local = read("smtp://u:p@127.0.0.1:2525").unwrap();
        assert_eq!(local, ("127.0.0.1".into(), 2_525, TlsMode::Opportunistic, true));
        assert_eq!(read("smtp://[::1]:25").unwrap().0, "::1");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_showing_the_password() {
        for text in ["", "mail.example.com", "http://a", "smtp://", "smtp://a/path"] {
            assert_eq!(read(text), Err(InvalidSmtpUrl::Url), "{text}");
        }
        for text in ["smtp://u@a", "smtp://:hunter22@a", "smtp://u:%ff@a"] {
            assert_eq!(read(text), Err(InvalidSmtpUrl::Credentials), "{text}");
        }
        for text in ["smtp://a?tls=yes", "smtp://a?x=1", "smtps://a?tls=none"] {
            assert_eq!(read(text), Err(InvalidSmtpUrl::Parameter), "{text}");
        }
        let settings: SmtpSettings = "smtp://u:hunter22@a".parse().unwrap();
        assert!(!format!("{settings:?}").contains("hunter22"));
    }
}
