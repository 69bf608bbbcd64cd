//! PagerDuty: Events API v2. An alert opens an incident, its recovery resolves it.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::Reason;
use pulse_protocol::problem::FieldError;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::{self, Field, token_fault};
use super::http::{Fault, Http, stored_config, stored_url};
use super::kind::{Checked, Kind};
use super::notice::{Notice, Severity};
use super::secrets::Secrets;
use super::text::cut;
use crate::links::Links;

const API_BASE: &str = "https://events.pagerduty.com";
/// PagerDuty refuses longer keys.
const DEDUP_KEY_CHARS_MAX: usize = 255;
/// PagerDuty refuses larger events.
const BODY_BYTES_MAX: usize = 512_000;

const FIELDS: &[Field] =
    &[Field::secret("routing_key", token_fault), Field::destination("api_base").optional()];

#[derive(Deserialize)]
struct Config {
    routing_key: String,
    #[serde(default)]
    api_base: Option<String>,
}

/// Sends to integrations of PagerDuty.
#[derive(Clone, Debug)]
pub struct Pagerduty {
    http: Http,
    links: Links,
}

impl Pagerduty {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http, links: Links) -> Self {
        Self { http, links }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: Config = stored_config(&channel.hidden.config)?;
        let base = config.api_base.as_deref().unwrap_or(API_BASE).trim_end_matches('/');
        let url = stored_url(&format!("{base}/v2/enqueue"))?;
        let render = |notice: &Notice| body(notice, message, &config.routing_key).to_string();
        let notice = Notice::of(message, &self.links);
        let body = notice.fitted(render, |body| body.len() <= BODY_BYTES_MAX);
        let secrets = Secrets::of([config.routing_key.as_str()]);
        Ok(self.http.post(url, HeaderMap::new(), body, &secrets).await?.verdict())
    }
}

#[async_trait]
impl Kind for Pagerduty {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(FIELDS, given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn body(notice: &Notice, message: &Message, routing_key: &str) -> Value {
    let action = action(notice, message);
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(message),
    });
    if action != "trigger" {
        return event;
    }
    let severity = match notice.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Good | Severity::Info => "info",
    };
    let mut details: Map<String, Value> = notice
        .facts
        .iter()
        .map(|(label, value)| ((*label).to_owned(), value.as_str().into()))
        .collect();
    details.extend(notice.summary.clone().map(|summary| ("Summary".to_owned(), summary.into())));
    details.insert("Rule".to_owned(), notice.rule.as_str().into());
    if !notice.lines.is_empty() {
        let lines: Vec<String> = notice.lines.iter().cloned().chain(notice.and_more()).collect();
        details.insert("Changes".to_owned(), lines.into());
    }
    let source = Some(&message.content.resource_name).filter(|name| !name.is_empty());
    event["payload"] = json!({
        "summary": notice.title,
        "source": source.map_or_else(|| "VelocityPulse".to_owned(), |name| cut(name, 255)),
        "severity": severity,
        "timestamp": notice.at,
        "group": notice.org,
        "class": message.event.name,
        "custom_details": details,
    });
    let link = |href: &str, text: &str| json!({"href": href, "text": text});
    let acknowledge = notice.acknowledge.as_deref().map(|href| link(href, "Acknowledge"));
    let links: Vec<Value> =
        acknowledge.into_iter().chain([link(&notice.link, "Open VelocityPulse")]).collect();
    event["links"] = links.into();
    event["client"] = "VelocityPulse".into();
    event["client_url"] = notice.link.as_str().into();
    event
}

fn action(notice: &Notice, message: &Message) -> &'static str {
    match (message.content.reason, &*message.event.name) {
        (Reason::Recovery, _) => "resolve",
        (Reason::Event, "alert.acknowledged") => "acknowledge",
        (Reason::Event, _) if notice.severity == Severity::Good => "resolve",
        _ => "trigger",
    }
}

/// One incident for what one rule sees of one resource, so that its recovery finds it again.
fn dedup_key(message: &Message) -> String {
    let data: Value = serde_json::from_str(&message.event.data).unwrap_or_default();
    let alert = &data["alert"];
    let (resource, rule) = match alert["resource_id"].as_str() {
        Some(resource) => (Some(resource), alert["rule_name"].as_str().unwrap_or_default()),
        None => {
            let ids = ["device_id", "agent_id", "scan_id", "channel_id"];
            let resource = ids.iter().find_map(|id| data[id].as_str());
            (resource, message.content.rule_name.as_str())
        }
    };
    // What is about many things, such as a digest, is an incident of its own.
    let of_many = message.content.reason == Reason::Digest;
    let own = message.delivery_id.to_string();
    let resource = resource.filter(|_| !of_many).unwrap_or(&own);
    cut(&format!("{resource}/{rule}"), DEDUP_KEY_CHARS_MAX)
}
