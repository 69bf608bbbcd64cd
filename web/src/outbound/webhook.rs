//! Webhooks: one signed POST for one attempt (Standard Webhooks).

mod config;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::ChannelRecord;
use pulse_protocol::api::WebhookConfig;
use pulse_protocol::event::WebhookBody;
use pulse_protocol::problem::FieldError;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::egress::{Egress, Refused};
use super::kind::{Checked, Kind};

/// How long a receiver has for its whole answer.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take to open: a receiver that is there answers long before.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept for one receiver: attempts to one channel are made one after the other.
const IDLE_PER_HOST_MAX: usize = 2;
/// How much of an answer is read: enough for an error's text.
const ANSWER_BYTES_MAX: usize = 2 * 1024;
/// How long the start of an answer is waited for: the status has decided, the text is a help to people.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of an error's text is kept.
const ERROR_CHARS_MAX: usize = 300;
/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Values shorter than this are too common in plain text to be blotted out.
const REDACTED_CHARS_MIN: usize = 4;

/// The sender of webhook channels could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for webhooks cannot be built")]
pub struct ClientError(#[from] reqwest::Error);

/// Sends webhooks over a shared pool of connections.
#[derive(Clone, Debug)]
pub struct WebhookSender {
    client: Client,
    egress: Egress,
    timeout: Duration,
}

impl WebhookSender {
    /// A sender whose attempts take at most `timeout`; [`TIMEOUT`] outside of tests. The process must have
    /// installed a TLS provider.
    ///
    /// # Errors
    ///
    /// When the system's certificates cannot be read.
    pub fn new(egress: Egress, timeout: Duration) -> Result<Self, ClientError> {
        let client = Client::builder()
            .user_agent(concat!("VelocityPulse-Hub/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(egress.clone()))
            .redirect(Policy::none())
            // A proxy would connect for us, past the check of addresses.
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build()?;
        Ok(Self { client, egress, timeout })
    }

    async fn attempt(&self, channel: &ChannelRecord, message: &Message) -> Result<Verdict, Fault> {
        let config: WebhookConfig = serde_json::from_value(channel.hidden.config.clone())
            .map_err(|_| Fault::permanent("the channel's configuration cannot be read"))?;
        let url =
            Url::parse(&config.url).map_err(|_| Fault::permanent("the channel's URL is none"))?;
        self.egress.check_url(&url)?;
        let body = body_of(message)?;
        let headers = headers_of(&config, channel, message, &body)?;
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| Fault::from_client(&error.without_url()))?;
        Ok(judge(response, &Secrets::of(channel, &config)).await)
    }
}

#[async_trait]
impl Kind for WebhookSender {
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>> {
        config::checked(given, stored, &self.egress)
    }

    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        match timeout(self.timeout, self.attempt(channel, message)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(fault)) => fault.into_verdict(),
            Err(_) => Fault::Passing(format!("no answer within {} ms", self.timeout.as_millis()))
                .into_verdict(),
        }
    }
}

/// Why there is no answer to judge.
enum Fault {
    Passing(String),
    Permanent(String),
}

impl Fault {
    fn permanent(text: &str) -> Self {
        Self::Permanent(text.to_owned())
    }

    fn from_client(error: &reqwest::Error) -> Self {
        let mut innermost: &dyn StdError = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        if innermost.is::<Refused>() {
            return Refused.into();
        }
        let what = if error.is_connect() { "no connection" } else { "the connection broke" };
        Self::Passing(bounded(&format!("{what}: {innermost}")))
    }

    fn into_verdict(self) -> Verdict {
        match self {
            Self::Passing(error) => Verdict::retry(None, error),
            Self::Permanent(error) => Verdict::permanent(None, error),
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Permanent(refused.to_string())
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
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
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

async fn judge(response: Response, secrets: &Secrets) -> Verdict {
    let status = response.status();
    let code = status.as_u16();
    if status.is_success() {
        return Verdict::accepted(Some(code));
    }
    if status == StatusCode::GONE {
        return Verdict::gone();
    }
    let retry_after = retry_after(&response);
    let text = secrets.redact(&start_of(response).await);
    let reason = status.canonical_reason().unwrap_or("no reason");
    let error = bounded(&format!("{code} {reason}: {text}"));
    if is_passing(status) {
        Verdict::retry(Some(code), error).after(retry_after)
    } else {
        Verdict::permanent(Some(code), error)
    }
}

/// Whether the same message may be accepted later. A redirect is not followed and will not go away either.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
}

fn retry_after(response: &Response) -> Option<Duration> {
    let honoured = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !honoured.contains(&response.status()) {
        return None;
    }
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The first 2 KiB of an answer; what does not come within a second is left out.
async fn start_of(mut response: Response) -> String {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut start = Vec::new();
    while start.len() < ANSWER_BYTES_MAX {
        let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await else { break };
        start.extend_from_slice(&chunk);
    }
    start.truncate(ANSWER_BYTES_MAX);
    String::from_utf8_lossy(&start).into_owned()
}

/// What a receiver may echo and nobody else may read.
struct Secrets(Vec<String>);

impl Secrets {
    fn of(channel: &ChannelRecord, config: &WebhookConfig) -> Self {
        let secrets =
            channel.hidden.signing.iter().chain(config.headers.values()).chain([&config.url]);
        // Of an `Authorization` value the credentials alone may be echoed, too.
        let mut words: Vec<String> = secrets
            .flat_map(|secret| secret.split_whitespace().chain([secret.as_str()]))
            .filter(|word| word.chars().count() >= REDACTED_CHARS_MIN)
            .map(str::to_owned)
            .collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self(words)
    }

    fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
    }
}

/// One printable line of bounded length.
fn bounded(text: &str) -> String {
    let printable = text.replace(char::is_control, " ");
    let words: Vec<&str> = printable.split_whitespace().collect();
    words.join(" ").chars().take(ERROR_CHARS_MAX).collect()
}
