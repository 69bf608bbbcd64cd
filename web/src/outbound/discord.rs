//! Discord: a webhook, the message as an embed.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::problem::FieldError;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{self, Field, label_fault};
use super::http::{Answer, Fault, Http, stored_config, stored_url, waiting};
use super::kind::{Checked, Kind};
use super::notice::Notice;
use super::secrets::Secrets;
use super::text::{backslashed, cut};
use crate::links::Links;

/// Discord refuses embeds with more characters than this together.
const EMBED_CHARS_MAX: usize = 6_000;
/// Discord refuses longer descriptions.
const DESCRIPTION_CHARS_MAX: usize = 4_096;
/// What is markup, or begins a mention.
const SPECIAL: &[char] = &['\\', '*', '_', '~', '`', '|', '[', ']', '(', ')', '<', '>', '@', '#'];
/// Discord's number for a webhook that was deleted.
const UNKNOWN_WEBHOOK: u64 = 10_015;

const FIELDS: &[Field] =
    &[Field::secret_url("webhook_url"), Field::new("channel_name", label_fault).optional()];

#[derive(Deserialize)]
struct Config {
    webhook_url: String,
}

/// Sends to webhooks of Discord.
#[derive(Clone, Debug)]
pub struct Discord {
    http: Http,
    links: Links,
}

impl Discord {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http, links: Links) -> Self {
        Self { http, links }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let mut url = stored_url(&config.webhook_url)?;
        // Else it answers before it has stored the message.
        url.query_pairs_mut().append_pair("wait", "true");
        let embed = Notice::of(message, &self.links).fitted(embed, fits);
        let body = json!({"embeds": [embed], "allowed_mentions": {"parse": []}}).to_string();
        let secrets = Secrets::default().and_url(&config.webhook_url);
        Ok(judge(&self.http.post(url, HeaderMap::new(), body, &secrets).await?))
    }
}

#[async_trait]
impl Kind for Discord {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn embed(notice: &Notice) -> Value {
    let fields: Vec<Value> = notice
        .facts
        .iter()
        .map(|(label, value)| json!({"name": label, "value": shown(value), "inline": true}))
        .collect();
    let acknowledge = notice.acknowledge.as_ref().map(|link| format!("[Acknowledge]({link})"));
    let lines = notice.lines.iter().cloned().chain(notice.and_more());
    let text = notice.summary.clone().into_iter().chain(lines).map(|line| escaped(&line));
    let description: Vec<String> = text.chain(acknowledge).collect();
    json!({
        "title": cut(&format!("{} {}", notice.severity.emoji(), escaped(&notice.title)), 256),
        "url": notice.link,
        "color": notice.severity.colour_number(),
        "description": description.join("\n"),
        "fields": fields,
        "footer": {"text": notice.origin()},
        "timestamp": notice.at,
    })
}

/// An empty value is refused.
fn shown(value: &str) -> String {
    if value.is_empty() { "–".to_owned() } else { escaped(value) }
}

fn escaped(text: &str) -> String {
    backslashed(text, SPECIAL)
}

fn fits(embed: &Value) -> bool {
    let chars = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    let fields = embed["fields"].as_array().into_iter().flatten();
    let fields: usize = fields.map(|field| chars(&field["name"]) + chars(&field["value"])).sum();
    let description = chars(&embed["description"]);
    let all = fields + description + chars(&embed["title"]) + chars(&embed["footer"]["text"]);
    description <= DESCRIPTION_CHARS_MAX && all <= EMBED_CHARS_MAX
}

fn judge(answer: &Answer) -> Verdict {
    let json = answer.json();
    if answer.status == StatusCode::NOT_FOUND && json["code"] == UNKNOWN_WEBHOOK {
        return answer.gone();
    }
    waiting(answer.verdict(), json["retry_after"].as_f64())
}
