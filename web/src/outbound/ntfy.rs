//! ntfy: a topic of a server, published as JSON.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::problem::FieldError;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{self, Field, token_fault};
use super::egress::Egress;
use super::http::{Fault, Http, stored_config, stored_url};
use super::kind::{Checked, Kind};
use super::notice::{Notice, Severity};
use super::secrets::Secrets;
use super::text::cut;
use crate::links::Links;

const SERVER: &str = "https://ntfy.sh";
/// ntfy makes longer messages attachments, and refuses longer titles.
const MESSAGE_BYTES_MAX: usize = 3_800;
const TITLE_CHARS_MAX: usize = 100;

const FIELDS: &[Field] = &[
    Field::new("topic", topic_fault),
    Field::destination("server").optional(),
    Field::secret("token", token_fault).optional(),
];

#[derive(Deserialize)]
struct Config {
    topic: String,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

/// Publishes to topics of ntfy.
#[derive(Clone, Debug)]
pub struct Ntfy {
    http: Http,
    links: Links,
}

impl Ntfy {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http, links: Links) -> Self {
        Self { http, links }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let url = stored_url(config.server.as_deref().unwrap_or(SERVER))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &config.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Fault::permanent("the channel's token cannot be sent"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let notice = Notice::of(message, &self.links);
        let text = notice.fitted(Notice::plain, |text| text.len() <= MESSAGE_BYTES_MAX);
        let body = body(&notice, &config.topic, &text).to_string();
        let secrets = Secrets::of(config.token.as_deref());
        Ok(self.http.post(url, headers, body, &secrets).await?.verdict())
    }
}

#[async_trait]
impl Kind for Ntfy {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn topic_fault(text: &str, _: &Egress) -> Option<config::Fault> {
    let is_topic = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (!is_topic).then_some(("invalid", "must be 1 to 64 letters, digits, `-` or `_`"))
}

fn body(notice: &Notice, topic: &str, text: &str) -> Value {
    let (priority, tag) = match notice.severity {
        Severity::Critical => (5, "red_circle"),
        Severity::Warning => (4, "orange_circle"),
        Severity::Good => (3, "green_circle"),
        Severity::Info => (3, "large_blue_circle"),
    };
    let mut body = json!({
        "topic": topic,
        "title": cut(&notice.title, TITLE_CHARS_MAX),
        "message": text,
        "priority": priority,
        "tags": [tag],
        "click": notice.link,
    });
    if let Some(link) = &notice.acknowledge {
        body["actions"] = json!([{"action": "view", "label": "Acknowledge", "url": link}]);
    }
    body
}
