//! Webhooks: one signed POST for one attempt (Standard Webhooks).

mod config;

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::WebhookConfig;
use pulse_protocol::event::WebhookBody;
use pulse_protocol::problem::FieldError;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use super::http::{Fault, Http, stored_config, stored_url};
use super::kind::{Checked, Kind};
use super::secrets::Secrets;

/// Sends webhooks.
#[derive(Clone, Debug)]
pub struct WebhookSender {
    http: Http,
}

impl WebhookSender {
    /// A sender over this client.
    #[must_use]
    pub const fn new(http: Http) -> Self {
        Self { http }
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: WebhookConfig = stored_config(&channel.hidden.config)?;
        let url = stored_url(&config.url)?;
        let body = body_of(message)?;
        let headers = headers_of(&config, channel, message, &body)?;
        let signing = channel.hidden.signing.iter();
        let secrets = Secrets::of(signing.chain(config.headers.values()).map(String::as_str));
        let answer = self.http.post(url, headers, body, &secrets.and_url(&config.url)).await?;
        Ok(answer.verdict())
    }
}

#[async_trait]
impl Kind for WebhookSender {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(given, stored, self.http.egress())
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        self.http.within(self.attempt(channel, message)).await
    }
}

fn body_of(message: &Message) -> Result<String, Fault> {
    let event = &message.event;
    let unreadable = |_| Fault::permanent("the event's payload cannot be read");
    let mut data: serde_json::Map<String, Value> =
        serde_json::from_str(&event.data).map_err(unreadable)?;
    data.insert("org_id".to_owned(), message.org_id.to_string().into());
    data.insert("event_id".to_owned(), event.id.to_string().into());
    data.insert("seq".to_owned(), event.seq.into());
    let content = &message.content;
    data.insert("reason".to_owned(), content.reason.as_str().into());
    if let Some(alert_id) = content.alert_id {
        data.insert("alert_id".to_owned(), alert_id.to_string().into());
    }
    if !content.items.is_empty() {
        let items = serde_json::to_value(&content.items).map_err(unreadable)?;
        data.insert("digest".to_owned(), json!({"items": items, "more": content.more}));
    }
    let body = WebhookBody { kind: event.name.to_string(), timestamp: event.at, data };
    serde_json::to_string(&body).map_err(unreadable)
}

fn headers_of(
    config: &WebhookConfig,
    channel: &ChannelRecord,
    message: &Message,
    body: &str,
) -> Result<HeaderMap, Fault> {
    let unsendable = || Fault::permanent("the channel's headers cannot be sent");
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable())?;
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| unsendable())?);
    }
    // Ours come last: they win.
    let id = message.delivery_id.to_string();
    let timestamp = message.at.unix_ms().div_euclid(1_000);
    let signatures = signatures(&channel.hidden.signing, &id, timestamp, body)?;
    for (name, value) in [
        (HeaderName::from_static(HEADER_WEBHOOK_ID), id),
        (HeaderName::from_static(HEADER_WEBHOOK_TIMESTAMP), timestamp.to_string()),
        (HeaderName::from_static(HEADER_WEBHOOK_SIGNATURE), signatures),
    ] {
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| unsendable())?);
    }
    Ok(headers)
}

/// One signature for each secret: two while the secret is being rotated.
fn signatures(secrets: &[String], id: &str, timestamp: i64, body: &str) -> Result<String, Fault> {
    let signed: Result<Vec<String>, _> = secrets
        .iter()
        .map(|secret| Webhook::new(secret)?.sign(id, timestamp, body.as_bytes()))
        .collect();
    match signed {
        Ok(signatures) if !signatures.is_empty() => Ok(signatures.join(" ")),
        _ => Err(Fault::permanent("the channel has no usable signing secret; rotate it")),
    }
}
