//! Slack: an incoming webhook, the message in blocks.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::problem::FieldError;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{self, Field, label_fault};
use super::http::{Answer, Fault, Http, stored_config, stored_url};
use super::kind::{Checked, Kind};
use super::notice::Notice;
use super::secrets::Secrets;
use super::text::{cut, without_markup};
use crate::links::Links;

/// Slack refuses longer texts in a section.
const SECTION_CHARS_MAX: usize = 3_000;
/// Slack refuses sections with more fields.
const FIELDS_MAX: usize = 10;
/// Slack refuses messages whose blocks are longer than about 13,000 characters together.
const BODY_BYTES_MAX: usize = 10_000;

const FIELDS: &[Field] =
    &[Field::secret_url("webhook_url"), Field::new("channel_name", label_fault).optional()];

#[derive(Deserialize)]
struct Config {
    webhook_url: String,
}

/// Sends to incoming webhooks of Slack.
#[derive(Clone, Debug)]
pub struct Slack {
    http: Http,
    links: Links,
}

impl Slack {
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
impl Kind for Slack {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn body(notice: &Notice) -> Value {
    let title = format!("{} {}", notice.severity.emoji(), notice.title);
    let mrkdwn = |text: &str| json!({"type": "mrkdwn", "text": cut(text, SECTION_CHARS_MAX)});
    let section = |text: &str| json!({"type": "section", "text": mrkdwn(text)});
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&title, 150), "emoji": false},
    })];
    blocks.extend(notice.summary.as_deref().map(|summary| section(&without_markup(summary))));
    let fields: Vec<Value> = notice
        .facts
        .iter()
        .take(FIELDS_MAX)
        .map(|(label, value)| mrkdwn(&format!("*{label}*\n{}", without_markup(value))))
        .collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    // One section for each few lines: escaped, twenty of them are longer than one section may be.
    let lines: Vec<String> = notice.lines.iter().cloned().chain(notice.and_more()).collect();
    blocks.extend(lines.chunks(2).map(|lines| section(&without_markup(&lines.join("\n")))));
    let mut buttons = Vec::new();
    if let Some(link) = &notice.acknowledge {
        buttons.push(button("acknowledge", "Acknowledge", link, Some("primary")));
    }
    buttons.push(button("open", "Open VelocityPulse", &notice.link, None));
    blocks.push(json!({"type": "actions", "elements": buttons}));
    blocks
        .push(json!({"type": "context", "elements": [mrkdwn(&without_markup(&notice.origin()))]}));
    json!({"text": without_markup(&title), "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

fn button(id: &str, label: &str, link: &str, style: Option<&str>) -> Value {
    let text = json!({"type": "plain_text", "text": label});
    let mut button = json!({"type": "button", "action_id": id, "text": text, "url": link});
    if let Some(style) = style {
        button["style"] = style.into();
    }
    button
}

/// Slack says `ok`, and nothing else, when it has taken a message. The status of a refusal says what it means: 404 for
/// a webhook that was removed, 410 for a channel that was archived.
fn judge(answer: &Answer) -> Verdict {
    match answer.text.trim() {
        "ok" if answer.status.is_success() => answer.accepted(),
        "channel_is_archived" => answer.gone(),
        "rate_limited" | "rollup_error" => answer.retry(),
        // What it said in the end is not known.
        _ if answer.status.is_success() && answer.is_broken_off => answer.retry(),
        _ if answer.status.is_success() => answer.permanent(),
        _ => answer.verdict(),
    }
}
