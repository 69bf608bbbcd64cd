//! Telegram: a bot that writes to a chat.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::problem::FieldError;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{self, Field};
use super::egress::Egress;
use super::http::{Answer, Fault, Http, stored_config, stored_url, waiting};
use super::kind::{Checked, Kind};
use super::notice::Notice;
use super::secrets::Secrets;
use super::text::without_markup;
use crate::links::Links;

const API_BASE: &str = "https://api.telegram.org";
/// Telegram refuses longer texts.
const TEXT_CHARS_MAX: usize = 4_096;

const FIELDS: &[Field] = &[
    Field::secret("bot_token", bot_token_fault),
    Field::new("chat_id", chat_id_fault),
    Field::destination("api_base").optional(),
];

#[derive(Deserialize)]
struct Config {
    bot_token: String,
    chat_id: String,
    #[serde(default)]
    api_base: Option<String>,
}

/// Sends as bots of Telegram.
#[derive(Clone, Debug)]
pub struct Telegram {
    http: Http,
    links: Links,
}

impl Telegram {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http, links: Links) -> Self {
        Self { http, links }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let base = config.api_base.as_deref().unwrap_or(API_BASE).trim_end_matches('/');
        let url = stored_url(&format!("{base}/bot{}/sendMessage", config.bot_token))?;
        let notice = Notice::of(message, &self.links);
        let text = notice.fitted(text, |text| text.chars().count() <= TEXT_CHARS_MAX);
        let body = json!({
            "chat_id": config.chat_id,
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        });
        let secret_part = config.bot_token.rsplit(':').next().unwrap_or_default();
        let secrets = Secrets::of([config.bot_token.as_str(), secret_part]);
        Ok(judge(&self.http.post(url, HeaderMap::new(), body.to_string(), &secrets).await?))
    }
}

#[async_trait]
impl Kind for Telegram {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn bot_token_fault(text: &str, _: &Egress) -> Option<config::Fault> {
    let is_token = text.len() <= 100
        && text.split_once(':').is_some_and(|(id, secret)| {
            !id.is_empty()
                && id.bytes().all(|byte| byte.is_ascii_digit())
                && !secret.is_empty()
                && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    (!is_token).then_some(("invalid", "must be a bot's token such as `123456:AbC-dEf`"))
}

fn chat_id_fault(text: &str, _: &Egress) -> Option<config::Fault> {
    let is_name = text.strip_prefix('@').is_some_and(|name| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    (!is_name && text.parse::<i64>().is_err())
        .then_some(("invalid", "must be a number such as `-1001234567890`, or `@channel`"))
}

fn text(notice: &Notice) -> String {
    let facts = notice
        .facts
        .iter()
        .map(|(label, value)| format!("<b>{label}:</b> {}", without_markup(value)));
    let lines = notice.lines.iter().cloned().chain(notice.and_more());
    let link = |label: &str, link: &str| {
        format!("<a href=\"{}\">{label}</a>", without_markup(link).replace('"', "&quot;"))
    };
    let acknowledge = notice.acknowledge.as_deref().map(|to| link("Acknowledge", to));
    let links: Vec<String> =
        acknowledge.into_iter().chain([link("Open VelocityPulse", &notice.link)]).collect();
    let title = format!("{} <b>{}</b>", notice.severity.emoji(), without_markup(&notice.title));
    [title]
        .into_iter()
        .chain(notice.summary.as_deref().map(without_markup))
        .chain(facts)
        .chain(lines.map(|line| without_markup(&line)))
        .chain([links.join(" · "), format!("<i>{}</i>", without_markup(&notice.origin()))])
        .collect::<Vec<_>>()
        .join("\n")
}

/// Telegram says `ok` in its answer's body, and how long to wait.
fn judge(answer: &Answer) -> Verdict {
    let json = answer.json();
    if answer.status.is_success() {
        // A long message is echoed in an answer that is cut, and then is no JSON.
        let is_ok = json["ok"] == true || answer.text.trim_start().starts_with("{\"ok\":true");
        return match (is_ok, answer.is_broken_off) {
            (true, _) => answer.accepted(),
            (false, true) => answer.retry(),
            (false, false) => answer.permanent(),
        };
    }
    waiting(answer.verdict(), json["parameters"]["retry_after"].as_f64())
}
