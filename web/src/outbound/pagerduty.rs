//! PagerDuty: Events API v2. An alert opens an incident, its recovery resolves it.

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::{ChannelRecord, Content, DigestItem};
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
        let notice = Notice::of(message, &self.links);
        let action = Action::of(&notice, message);
        let url = stored_url(&format!("{base}/{}", action.path()))?;
        let render =
            |notice: &Notice| body(action, notice, message, &config.routing_key).to_string();
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

/// What PagerDuty is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Trigger,
    Acknowledge,
    Resolve,
    /// To note it as a change of the service, which opens no incident.
    Note,
}

impl Action {
    fn of(notice: &Notice, message: &Message) -> Self {
        match (message.content.reason, &*message.event.name) {
            (Reason::Recovery, _) => Self::Resolve,
            (Reason::Event, "alert.acknowledged") => Self::Acknowledge,
            (Reason::Event, _) if notice.severity == Severity::Good => Self::Resolve,
            // It does not say which incidents it ends, and nobody is to be called for good news.
            (Reason::Digest, _) if is_good_alone(&message.content) => Self::Note,
            _ => Self::Trigger,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Trigger | Self::Acknowledge | Self::Resolve => "v2/enqueue",
            Self::Note => "v2/change/enqueue",
        }
    }

    /// Its name among the actions of events; a change has none.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Trigger => Some("trigger"),
            Self::Acknowledge => Some("acknowledge"),
            Self::Resolve => Some("resolve"),
            Self::Note => None,
        }
    }
}

/// Whether a digest tells of nothing else. What it does not name may be anything.
fn is_good_alone(digest: &Content) -> bool {
    let is_good = |item: &DigestItem| Severity::of(&item.event) == Severity::Good;
    digest.more == 0 && !digest.items.is_empty() && digest.items.iter().all(is_good)
}

fn body(action: Action, notice: &Notice, message: &Message, routing_key: &str) -> Value {
    let mut event = json!({"routing_key": routing_key});
    if let Some(name) = action.name() {
        event["event_action"] = name.into();
        event["dedup_key"] = dedup_key(message).into();
    }
    if matches!(action, Action::Acknowledge | Action::Resolve) {
        return event;
    }
    let source = Some(&message.content.resource_name).filter(|name| !name.is_empty());
    event["payload"] = json!({
        "summary": notice.title,
        "source": source.map_or_else(|| "VelocityPulse".to_owned(), |name| cut(name, 255)),
        "timestamp": notice.at,
        "custom_details": details(notice),
    });
    let link = |href: &str, text: &str| json!({"href": href, "text": text});
    let acknowledge = notice.acknowledge.as_deref().map(|href| link(href, "Acknowledge"));
    let links: Vec<Value> =
        acknowledge.into_iter().chain([link(&notice.link, "Open VelocityPulse")]).collect();
    event["links"] = links.into();
    if action == Action::Trigger {
        event["payload"]["severity"] = severity(notice.severity).into();
        event["payload"]["group"] = notice.org.as_str().into();
        event["payload"]["class"] = Value::from(&*message.event.name);
        event["client"] = "VelocityPulse".into();
        event["client_url"] = notice.link.as_str().into();
    }
    event
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Good | Severity::Info => "info",
    }
}

fn details(notice: &Notice) -> Map<String, Value> {
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
    details
}

/// One incident for each alert, so that its recovery finds it again; and where there is no alert, for what one rule sees
/// of one resource. What is about many things, such as a digest, is an incident of its own.
fn dedup_key(message: &Message) -> String {
    let own = message.delivery_id.to_string();
    if message.content.reason == Reason::Digest {
        return own;
    }
    if let Some(alert_id) = message.content.alert_id {
        return alert_id.to_string();
    }
    let data: Value = serde_json::from_str(&message.event.data).unwrap_or_default();
    // What is told of an alert names it.
    if let Some(alert_id) = data["alert"]["id"].as_str() {
        return cut(alert_id, DEDUP_KEY_CHARS_MAX);
    }
    let ids = ["device_id", "agent_id", "scan_id", "channel_id"];
    let resource = ids.iter().find_map(|id| data[id].as_str()).unwrap_or(&own);
    cut(&format!("{resource}/{}", message.content.rule_name), DEDUP_KEY_CHARS_MAX)
}
