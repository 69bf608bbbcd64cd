//! Microsoft Teams: a workflow's webhook, the message as an Adaptive Card.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::problem::FieldError;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{self, Field, label_fault};
use super::http::{Answer, Fault, Http, is_passing, stored_config, stored_url};
use super::kind::{Checked, Kind};
use super::notice::{Notice, Severity};
use super::secrets::Secrets;
use super::text::backslashed;
use crate::links::Links;

/// Teams takes 28 KB, and some of its ways less.
const BODY_BYTES_MAX: usize = 20 * 1024;
/// What begins markup inside a text of a card.
const SPECIAL: &[char] = &['\\', '[', ']', '*', '_', '`', '<'];
/// What the connectors of old wrote before the status that they hid in an answer of 200.
const HIDDEN_STATUS: &str = "HTTP error ";

const FIELDS: &[Field] =
    &[Field::secret_url("webhook_url"), Field::new("channel_name", label_fault).optional()];

#[derive(Deserialize)]
struct Config {
    webhook_url: String,
}

/// Sends to workflows of Microsoft Teams.
#[derive(Clone, Debug)]
pub struct Teams {
    http: Http,
    links: Links,
}

impl Teams {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http, links: Links) -> Self {
        Self { http, links }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let url = stored_url(&config.webhook_url)?;
        let notice = Notice::of(message, &self.links);
        let body =
            notice.fitted(|notice| body(notice).to_string(), |body| body.len() <= BODY_BYTES_MAX);
        let secrets = Secrets::default().and_url(&config.webhook_url);
        Ok(judge(&self.http.post(url, HeaderMap::new(), body, &secrets).await?))
    }
}

#[async_trait]
impl Kind for Teams {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn body(notice: &Notice) -> Value {
    let style = match notice.severity {
        Severity::Critical => "attention",
        Severity::Warning => "warning",
        Severity::Good => "good",
        Severity::Info => "accent",
    };
    let text = |text: &str| json!({"type": "TextBlock", "text": escaped(text), "wrap": true});
    let mut title = text(&notice.title);
    title["size"] = "Medium".into();
    title["weight"] = "Bolder".into();
    let mut card =
        vec![json!({"type": "Container", "style": style, "bleed": true, "items": [title]})];
    card.extend(notice.summary.as_deref().map(text));
    if !notice.facts.is_empty() {
        let fact =
            |(label, value): &(&str, String)| json!({"title": label, "value": escaped(value)});
        let facts: Vec<Value> = notice.facts.iter().map(fact).collect();
        card.push(json!({"type": "FactSet", "facts": facts}));
    }
    card.extend(notice.lines.iter().cloned().chain(notice.and_more()).map(|line| text(&line)));
    let mut origin = text(&notice.origin());
    origin["isSubtle"] = true.into();
    origin["size"] = "Small".into();
    card.push(origin);
    let open =
        |title: &str, url: &str| json!({"type": "Action.OpenUrl", "title": title, "url": url});
    let acknowledge = notice.acknowledge.as_deref().map(|link| open("Acknowledge", link));
    let actions: Vec<Value> =
        acknowledge.into_iter().chain([open("Open VelocityPulse", &notice.link)]).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": {"width": "Full"},
                "body": card,
                "actions": actions,
            },
        }],
    })
}

fn escaped(text: &str) -> String {
    backslashed(text, SPECIAL)
}

/// A workflow answers 202 and nothing; a connector of old 200 and `1`, and 200 with a text where it failed.
fn judge(answer: &Answer) -> Verdict {
    let text = answer.text.trim();
    if answer.status != StatusCode::OK || text.is_empty() || text == "1" {
        return answer.verdict();
    }
    if let Some((_, rest)) = text.split_once(HIDDEN_STATUS) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let status = digits.parse::<StatusCode>().unwrap_or(StatusCode::BAD_REQUEST);
        return if is_passing(status) { answer.retry() } else { answer.permanent() };
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("error") || lower.contains("failed") {
        answer.permanent()
    } else {
        answer.accepted()
    }
}
