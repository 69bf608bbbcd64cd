//! What all letters have in common: words for money, dates and links.

use chrono::{DateTime, Utc};
use pulse_domain::notification::mail::Money;
use pulse_protocol::Timestamp;
use pulse_protocol::ids::OrgId;

use crate::links::Links;
use crate::outbound::mail::template::{BRAND, Frame, Letter};
use crate::outbound::text::line;

/// Longest subject, in characters: what mail programs show, and no header of many lines.
const SUBJECT_CHARS_MAX: usize = 150;

/// A letter before it is cleaned and framed. Values may hold anything; what is shown of each is one printable line.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) subject: String,
    pub(super) title: String,
    pub(super) paragraphs: Vec<String>,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) lines: Vec<String>,
    pub(super) button: Option<(&'static str, String)>,
    pub(super) note: Option<String>,
    /// Why its reader gets it.
    pub(super) why: String,
}

impl Draft {
    /// A letter whose subject is its heading.
    pub(super) fn new(subject: impl Into<String>, why: impl Into<String>) -> Self {
        let subject = subject.into();
        Self { title: subject.clone(), subject, why: why.into(), ..Self::default() }
    }

    /// The same with another paragraph.
    pub(super) fn say(mut self, paragraph: impl Into<String>) -> Self {
        self.paragraphs.push(paragraph.into());
        self
    }

    /// The same with what a person wrote: each of its lines is a paragraph.
    pub(super) fn quote(mut self, text: &str) -> Self {
        self.paragraphs.extend(text.lines().map(str::to_owned));
        self
    }

    /// The same with a label and its value.
    pub(super) fn fact(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((label, value.into()));
        self
    }

    /// The same with a link to act on it.
    pub(super) fn button(mut self, label: &'static str, link: String) -> Self {
        self.button = Some((label, link));
        self
    }

    /// The same with small print.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The letter and its frame: nothing in it is more than one line.
    pub(super) fn finish(self, links: &Links, unsubscribe: Option<String>) -> (Letter, Frame) {
        let clean = |texts: Vec<String>| {
            let lines = texts.iter().map(|text| line(text));
            lines.filter(|text| !text.is_empty()).collect::<Vec<_>>()
        };
        let paragraphs = clean(self.paragraphs);
        let frame = Frame {
            preview: paragraphs.first().cloned().unwrap_or_default(),
            home: links.base().to_owned(),
            why: line(&self.why),
            unsubscribe,
        };
        let facts = self.facts.into_iter().map(|(label, value)| (label.to_owned(), line(&value)));
        let letter = Letter {
            subject: line(&self.subject).chars().take(SUBJECT_CHARS_MAX).collect(),
            title: line(&self.title),
            colour: BRAND,
            paragraphs,
            facts: facts.collect(),
            lines: clean(self.lines),
            buttons: self.button.into_iter().map(|(text, link)| (text.to_owned(), link)).collect(),
            note: self.note.as_deref().map(line),
        };
        (letter, frame)
    }
}

/// Where its links lead.
pub(super) struct Pages<'a> {
    links: &'a Links,
    org_id: OrgId,
}

impl<'a> Pages<'a> {
    pub(super) const fn new(links: &'a Links, org_id: OrgId) -> Self {
        Self { links, org_id }
    }

    /// A page of the hub.
    pub(super) fn hub(&self, path: &[&str]) -> String {
        self.links.page(path)
    }

    /// A page of the org.
    pub(super) fn org(&self, path: &[&str]) -> String {
        let org_id = self.org_id.to_string();
        self.links.page(&[&["orgs", &org_id], path].concat())
    }
}

/// Why a letter to owners and admins is sent.
pub(super) fn to_admins(org_name: &str) -> String {
    format!("You get this mail because you are an owner or admin of {org_name}.")
}

/// Why a letter to the owner of an address is sent.
pub(super) const TO_ACCOUNT: &str =
    "You get this mail because this address has an account at VelocityPulse.";

/// A day and a time, with the zone.
pub(super) fn when(at: Timestamp) -> String {
    formatted(at, "%-d %B %Y, %H:%M UTC")
}

/// A day, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    formatted(at, "%-d %B %Y (UTC)")
}

fn formatted(at: Timestamp, form: &str) -> String {
    // None only for instants 262,000 years away.
    DateTime::<Utc>::from_timestamp_millis(at.unix_ms())
        .map_or_else(|| at.to_string(), |at| at.format(form).to_string())
}

/// Currencies without a smaller unit, as the payment provider counts them.
const NO_DECIMALS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
/// Currencies whose smaller unit is a thousandth.
const THREE_DECIMALS: &[&str] = &["BHD", "JOD", "KWD", "OMR", "TND"];

/// An amount with its currency: `GBP 50.00`, `JPY 5,000`.
pub(super) fn money(amount: &Money) -> String {
    let currency = amount.currency.to_uppercase();
    let decimals = match currency.as_str() {
        code if NO_DECIMALS.contains(&code) => 0,
        code if THREE_DECIMALS.contains(&code) => 3,
        _ => 2,
    };
    let unit = 10_u64.pow(decimals);
    let (whole, part) = (amount.minor.unsigned_abs() / unit, amount.minor.unsigned_abs() % unit);
    let sign = if amount.minor < 0 { "-" } else { "" };
    let whole = thousands(whole);
    match decimals {
        0 => format!("{currency} {sign}{whole}"),
        _ => format!("{currency} {sign}{whole}.{part:0width$}", width = decimals as usize),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        // Digits are ASCII.
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_as_many_decimals_as_their_currency() {
        for (minor, currency, expected) in [
            (5_000, "gbp", "GBP 50.00"),
            (5, "USD", "USD 0.05"),
            (123_456_789, "eur", "EUR 1,234,567.89"),
            (5_000, "jpy", "JPY 5,000"),
            (1_000, "KRW", "KRW 1,000"),
            (1_234_567, "kwd", "KWD 1,234.567"),
            (-250, "gbp", "GBP -2.50"),
            (i64::MIN, "jpy", "JPY -9,223,372,036,854,775,808"),
        ] {
            assert_eq!(money(&Money { minor, currency: currency.to_owned() }), expected);
        }
    }

    #[test]
    fn an_instant_names_its_zone() {
        let at = Timestamp::from_unix_ms(1_772_366_400_000);
        assert_eq!(when(at), "1 March 2026, 12:00 UTC");
        assert_eq!(day(at), "1 March 2026 (UTC)");
        assert!(!when(Timestamp::from_unix_ms(i64::MAX)).is_empty());
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line(" a\r\nBcc: b\u{2028}c\u{202e}d\u{0} "), "a Bcc: b c d");
    }
}
