//! Keys of mail, billing, single sign-on and traces.
//!
//! Of these this version uses mail. The others are checked all the same, so that a configuration written for a later
//! version starts or fails for the right reason, and what is set is named in a warning at start.

use lettre::message::Mailbox;
use pulse_web::outbound::mail::resend;
use pulse_web::outbound::mail::smtp::SmtpSettings;
use url::Url;

use super::Key;
use super::keys::{self, Shown};
use super::source::Check;

/// How mail leaves the hub.
#[derive(Clone, Debug)]
pub(crate) struct MailSettings {
    /// Who it comes from.
    pub(crate) from: Mailbox,
    /// Over what it goes.
    pub(crate) way: MailWay,
}

/// Over what mail goes.
#[derive(Clone)]
pub(crate) enum MailWay {
    /// A mail server.
    Smtp(SmtpSettings),
    /// The HTTP interface of Resend: its base, and its key.
    Resend(String, String),
}

impl std::fmt::Debug for MailWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Smtp(settings) => f.debug_tuple("Smtp").field(settings).finish(),
            Self::Resend(base, _) => f.debug_tuple("Resend").field(base).finish_non_exhaustive(),
        }
    }
}

/// What is set of the integrations.
#[derive(Debug)]
pub(super) struct Integrations {
    /// How mail leaves the hub; none if it does not.
    pub(super) mail: Option<MailSettings>,
    /// Names of those that are set, and not used.
    pub(super) unused: Vec<String>,
}

/// Keys that only work together. The first list must be complete once any key of either is set.
struct Group {
    name: &'static str,
    is_used: bool,
    required: &'static [&'static Key],
    optional: &'static [&'static Key],
}

const GROUPS: &[Group] = &[
    Group {
        name: "mail over SMTP",
        is_used: true,
        required: &[keys::SMTP_URL, keys::MAIL_FROM],
        optional: &[],
    },
    Group {
        name: "mail over Resend",
        is_used: true,
        required: &[keys::RESEND_API_KEY, keys::MAIL_FROM],
        optional: &[keys::RESEND_API_BASE],
    },
    Group {
        name: "billing",
        is_used: false,
        required: &[
            keys::STRIPE_SECRET_KEY,
            keys::STRIPE_WEBHOOK_SECRET,
            keys::STRIPE_PRICE_STARTER,
            keys::STRIPE_PRICE_UNLIMITED,
        ],
        optional: &[keys::STRIPE_API_BASE],
    },
    Group {
        name: "single sign-on",
        is_used: false,
        required: &[keys::OIDC_ISSUER, keys::OIDC_CLIENT_ID, keys::OIDC_CLIENT_SECRET],
        optional: &[],
    },
    Group { name: "traces", is_used: false, required: &[keys::OTLP_ENDPOINT], optional: &[] },
];

/// Checks the form of every integration, and reads those that are used.
pub(super) fn read(check: &mut Check) -> Integrations {
    check_forms(check);
    let mail = mail(check);
    if check.is_set(keys::SMTP_URL) && check.is_set(keys::RESEND_API_KEY) {
        check.fault(
            keys::RESEND_API_KEY,
            "mail goes over SMTP or over Resend: remove one of the two",
        );
    }
    check_mail_from(check);
    let mut unused = Vec::new();
    for group in GROUPS {
        // The sender's address belongs to both ways of mail and starts neither.
        let starts = |key: &&&Key| key.name != keys::MAIL_FROM.name && check.is_set(key);
        if !group.required.iter().chain(group.optional).any(|key| starts(&key)) {
            continue;
        }
        let missing: Vec<&Key> =
            group.required.iter().filter(|key| !check.is_set(key)).copied().collect();
        for key in missing {
            check.fault(key, format!("is missing: {} is half-configured", group.name));
        }
        if !group.is_used {
            unused.push(group.name.to_owned());
        }
    }
    Integrations { mail, unused }
}

fn mail(check: &mut Check) -> Option<MailSettings> {
    let from = check.parse(keys::MAIL_FROM, |text| {
        text.parse::<Mailbox>().map_err(|_| "is no mail address".to_owned())
    });
    let smtp = check.parse(keys::SMTP_URL, |text| {
        text.parse::<SmtpSettings>().map_err(|error| error.to_string())
    });
    let base = check.text(keys::RESEND_API_BASE).unwrap_or(resend::API_BASE).to_owned();
    let resend = check.text(keys::RESEND_API_KEY).map(|key| MailWay::Resend(base, key.to_owned()));
    Some(MailSettings { from: from?, way: smtp.map(MailWay::Smtp).or(resend)? })
}

fn check_mail_from(check: &mut Check) {
    let has_way = check.is_set(keys::SMTP_URL) || check.is_set(keys::RESEND_API_KEY);
    if check.is_set(keys::MAIL_FROM) && !has_way {
        let problem = "mail is half-configured: PULSE_SMTP_URL or PULSE_RESEND_API_KEY is missing";
        check.fault(keys::MAIL_FROM, problem);
    }
}

fn check_forms(check: &mut Check) {
    for key in
        [keys::RESEND_API_BASE, keys::STRIPE_API_BASE, keys::OIDC_ISSUER, keys::OTLP_ENDPOINT]
    {
        url(check, key, &["http", "https"]);
    }
    prefix(check, keys::STRIPE_SECRET_KEY, &["sk_", "rk_"]);
    prefix(check, keys::STRIPE_PRICE_STARTER, &["price_"]);
    prefix(check, keys::STRIPE_PRICE_UNLIMITED, &["price_"]);
    check.list(keys::STRIPE_WEBHOOK_SECRET, |item| {
        begins(keys::STRIPE_WEBHOOK_SECRET, item, &["whsec_"])
    });
}

fn url(check: &mut Check, key: &Key, schemes: &[&str]) {
    check.parse(key, |text| match Url::parse(text) {
        Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Ok(()),
        _ => Err(format!("is no {}:// URL with a host", schemes.join(":// or "))),
    });
}

fn prefix(check: &mut Check, key: &Key, prefixes: &[&str]) {
    check.parse(key, |text| begins(key, text, prefixes));
}

fn begins(key: &Key, text: &str, prefixes: &[&str]) -> Result<(), String> {
    if prefixes.iter().any(|prefix| text.starts_with(prefix) && text.len() > prefix.len()) {
        return Ok(());
    }
    let wanted = prefixes.join(" or ");
    match key.shown {
        Shown::Whole => Err(format!("`{text}` does not begin with {wanted}")),
        Shown::UrlWithoutPassword | Shown::Redacted => Err(format!("does not begin with {wanted}")),
    }
}
