//! What a message says to people, before any receiver's markup.

mod wording;

use std::time::Duration;

use pulse_actors::ports::Message;
use pulse_domain::record::Content;
use pulse_protocol::Timestamp;
use pulse_protocol::api::Reason;
use pulse_protocol::event::EventBody;
use serde_json::Value;

use super::text::{bounded, cut};
use crate::links::Links;

/// Longest title.
pub const TITLE_CHARS_MAX: usize = 150;
/// Longest value of a fact, and longest line of a digest.
const VALUE_CHARS_MAX: usize = 200;
/// Longest name inside a title or a line.
const NAME_CHARS_MAX: usize = 80;
/// Lines of a digest that are written out.
const LINES_MAX: usize = 20;
/// A message that comes later than this says so.
const DELAY_TOLD: Duration = Duration::from_secs(5 * 60);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is right or wrong.
    Info,
    /// Right again.
    Good,
    /// It works badly.
    Warning,
    /// It does not work.
    Critical,
}

impl Severity {
    /// Of an event, by its name.
    #[must_use]
    pub fn of(event: &str) -> Self {
        match event {
            "channel.disabled" | "delivery.dead" | "scan.failed" | "command.failed" => {
                Self::Warning
            }
            "channel.healthy" => Self::Good,
            _ => match event.rsplit_once('.').map_or(event, |(_, what)| what) {
                "offline" => Self::Critical,
                "degraded" => Self::Warning,
                "online" => Self::Good,
                _ => Self::Info,
            },
        }
    }

    /// Six hexadecimal digits.
    #[must_use]
    pub const fn colour(self) -> &'static str {
        match self {
            Self::Critical => "dc2626",
            Self::Warning => "d97706",
            Self::Good => "16a34a",
            Self::Info => "2563eb",
        }
    }

    /// The colour as a number.
    #[must_use]
    pub const fn colour_number(self) -> u32 {
        match self {
            Self::Critical => 0x00dc_2626,
            Self::Warning => 0x00d9_7706,
            Self::Good => 0x0016_a34a,
            Self::Info => 0x0025_63eb,
        }
    }

    /// A disc of about that colour.
    #[must_use]
    pub const fn emoji(self) -> &'static str {
        match self {
            Self::Critical => "🔴",
            Self::Warning => "🟠",
            Self::Good => "🟢",
            Self::Info => "🔵",
        }
    }
}

/// A message in plain text: one line each, bounded, without control characters, and not yet escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened, in a few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// What else is to be said, as sentences.
    pub summary: Option<String>,
    /// Label and value.
    pub facts: Vec<(&'static str, String)>,
    /// The events of a digest.
    pub lines: Vec<String>,
    /// How many events of a digest are not in `lines`.
    pub more: u32,
    /// When it became true.
    pub at: Timestamp,
    /// The org's name.
    pub org: String,
    /// The rule's name.
    pub rule: String,
    /// Where the org's page is.
    pub link: String,
    /// The link that acknowledges the alert, where there is something to acknowledge.
    pub acknowledge: Option<String>,
}

impl Notice {
    /// What `message` says.
    #[must_use]
    pub fn of(message: &Message, links: &Links) -> Self {
        let event = &message.event;
        let content = &named(message);
        let body = EventBody::from_columns(&event.name, &event.data).ok();
        let to_acknowledge =
            matches!(content.reason, Reason::Alert | Reason::Escalation | Reason::Flapping);
        let alert_id = content.alert_id.filter(|_| to_acknowledge);
        let org = bounded(&content.org_name, NAME_CHARS_MAX);
        let lines: Vec<String> =
            content.items.iter().take(LINES_MAX).map(wording::digest_line).collect();
        let unwritten = u32::try_from(content.items.len() - lines.len()).unwrap_or(u32::MAX);
        let mut facts = wording::facts(&event.name, body.as_ref(), content);
        facts.push(("Time", event.at.to_string()));
        for (_, value) in &mut facts {
            *value = bounded(value, VALUE_CHARS_MAX);
        }
        Self {
            title: bounded(&wording::title(&event.name, body.as_ref(), content), TITLE_CHARS_MAX),
            severity: wording::severity(&event.name, content),
            summary: summary(message),
            facts,
            lines,
            more: content.more.saturating_add(unwritten),
            at: event.at,
            org,
            rule: bounded(&content.rule_name, NAME_CHARS_MAX),
            link: links.org(message.org_id),
            acknowledge: alert_id.map(|alert_id| links.acknowledge(message.org_id, alert_id)),
        }
    }

    /// Where it comes from: the org and the rule, as far as they have names.
    #[must_use]
    pub fn origin(&self) -> String {
        let rule = Some(&self.rule).filter(|rule| !rule.is_empty());
        let rule = rule.map(|rule| format!("rule {rule}"));
        let org = Some(&self.org).filter(|org| !org.is_empty()).cloned();
        ["VelocityPulse".to_owned()]
            .into_iter()
            .chain(org)
            .chain(rule)
            .collect::<Vec<_>>()
            .join(" · ")
    }

    /// The last line of a digest that is not written out.
    #[must_use]
    pub fn and_more(&self) -> Option<String> {
        (self.more > 0).then(|| format!("and {} more", self.more))
    }

    /// Title, summary, facts and lines as plain text, for receivers without markup.
    #[must_use]
    pub fn plain(&self) -> String {
        let facts = self.facts.iter().map(|(label, value)| format!("{label}: {value}"));
        let lines = self.lines.iter().cloned().chain(self.and_more());
        let parts = self.summary.clone().into_iter().chain(facts).chain(lines);
        parts.collect::<Vec<_>>().join("\n")
    }

    /// The largest form of it that `fits`: lines of the digest go first, then facts, from their ends.
    #[must_use]
    pub fn fitted<T>(&self, render: impl Fn(&Self) -> T, fits: impl Fn(&T) -> bool) -> T {
        let mut notice = self.clone();
        loop {
            let rendered = render(&notice);
            if fits(&rendered) {
                return rendered;
            }
            if notice.lines.pop().is_some() {
                notice.more = notice.more.saturating_add(1);
            } else if notice.facts.pop().is_none() && notice.summary.take().is_none() {
                return rendered;
            }
        }
    }
}

/// Content whose resource has a name: the one in the event where a delivery of an older version has none.
fn named(message: &Message) -> Content {
    let mut content = message.content.clone();
    if content.resource_name.is_empty() {
        let data: Value = serde_json::from_str(&message.event.data).unwrap_or_default();
        content.resource_name = data["name"].as_str().unwrap_or_default().to_owned();
    }
    content
}

fn summary(message: &Message) -> Option<String> {
    let reason = message.content.reason;
    let said = match reason {
        Reason::Flapping => Some("No more is told of it until it holds still.".to_owned()),
        Reason::Escalation => Some("Nobody has acknowledged this alert in time.".to_owned()),
        _ => None,
    };
    let late = message.at.duration_since(message.event.at);
    // An escalation is late by nature.
    let delayed = (late > DELAY_TOLD && reason != Reason::Escalation)
        .then(|| format!("This message is delayed by {}.", wording::duration(late)));
    let sentences: Vec<String> = said.into_iter().chain(delayed).collect();
    (!sentences.is_empty()).then(|| cut(&sentences.join(" "), VALUE_CHARS_MAX))
}

#[cfg(test)]
mod tests;
