//! One HTTP request to a receiver: where it may go, how long it takes, and what its answer means.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pulse_actors::ports::Verdict;
use pulse_protocol::api::AttemptOutcome;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::egress::{Egress, Refused};
use super::secrets::Secrets;
use super::text;

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
/// How much of an answer's or an error's text is kept.
const KEPT_CHARS_MAX: usize = 300;
/// The longest wait that a receiver may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for receivers cannot be built")]
pub struct ClientError(#[from] reqwest::Error);

/// Makes requests to receivers over a shared pool of connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    egress: Egress,
    timeout: Duration,
}

impl Http {
    /// A client whose attempts take at most `timeout`; [`TIMEOUT`] outside of tests. The process must have
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

    /// Where receivers may be.
    #[must_use]
    pub const fn egress(&self) -> &Egress {
        &self.egress
    }

    /// The verdict of an attempt, which takes no longer than it may.
    pub async fn within(&self, attempt: impl Future<Output = Result<Verdict, Fault>>) -> Verdict {
        match timeout(self.timeout, attempt).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(fault)) => fault.into_verdict(),
            Err(_) => {
                Verdict::retry(None, format!("no answer within {} ms", self.timeout.as_millis()))
            }
        }
    }

    /// Posts JSON, and reads the beginning of the answer.
    ///
    /// # Errors
    ///
    /// When the receiver may not be reached, or there is no answer.
    pub async fn post(
        &self,
        url: Url,
        mut headers: HeaderMap,
        body: String,
        secrets: &Secrets,
    ) -> Result<Answer, Fault> {
        self.egress.check_url(&url)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| Fault::from_client(&error.without_url(), secrets))?;
        Ok(Answer::read(response, secrets).await)
    }
}

/// Why there is no answer to judge.
#[derive(Debug)]
pub enum Fault {
    /// It may be gone later.
    Passing(String),
    /// It will not.
    Permanent(String),
}

impl Fault {
    /// A fault of the channel or the message.
    #[must_use]
    pub fn permanent(text: &str) -> Self {
        Self::Permanent(text.to_owned())
    }

    fn from_client(error: &reqwest::Error, secrets: &Secrets) -> Self {
        let mut innermost: &dyn StdError = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        if innermost.is::<Refused>() {
            return Refused.into();
        }
        let what = if error.is_connect() { "no connection" } else { "the connection broke" };
        Self::Passing(kept(&secrets.redact(&format!("{what}: {innermost}"))))
    }

    /// The verdict on an attempt that came no further.
    #[must_use]
    pub fn into_verdict(self) -> Verdict {
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

/// The beginning of a receiver's answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its text as it came, up to 2 KiB. What of it is shown must pass [`Answer::shown`].
    pub text: String,
    /// Whether the text broke off before its end, and before the 2 KiB that are read.
    pub is_broken_off: bool,
    retry_after: Option<Duration>,
    secrets: Secrets,
}

impl Answer {
    async fn read(response: Response, secrets: &Secrets) -> Self {
        let (status, retry_after) = (response.status(), retry_after(&response));
        let (text, is_broken_off) = start_of(response).await;
        Self { status, text, is_broken_off, retry_after, secrets: secrets.clone() }
    }

    /// Its text in one line, bounded and without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        kept(&self.secrets.redact(&self.text))
    }

    /// Its text as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// What the status alone says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.status.is_success() {
            return self.accepted();
        }
        if self.status == StatusCode::GONE {
            return self.gone();
        }
        if is_passing(self.status) { self.retry() } else { self.permanent() }
    }

    /// The receiver took it.
    #[must_use]
    pub fn accepted(&self) -> Verdict {
        Verdict::accepted(Some(self.status.as_u16())).answered(self.shown())
    }

    /// The receiver may take it later.
    #[must_use]
    pub fn retry(&self) -> Verdict {
        let verdict = Verdict::retry(Some(self.status.as_u16()), self.error());
        verdict.after(self.retry_after).answered(self.shown())
    }

    /// The receiver will never take it.
    #[must_use]
    pub fn permanent(&self) -> Verdict {
        Verdict::permanent(Some(self.status.as_u16()), self.error()).answered(self.shown())
    }

    /// The receiver is gone for good.
    #[must_use]
    pub fn gone(&self) -> Verdict {
        let status = Some(self.status.as_u16());
        let error = match self.status {
            StatusCode::GONE => Verdict::gone().error,
            _ => Some(format!("{}: the receiver is gone for good", self.error())),
        };
        Verdict { status, error, ..Verdict::gone() }.answered(self.shown())
    }

    fn error(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("no reason");
        kept(&format!("{} {reason}: {}", self.status.as_u16(), self.secrets.redact(&self.text)))
    }
}

/// The same verdict with a wait, in seconds, that the answer's body asks for.
#[must_use]
pub fn waiting(verdict: Verdict, seconds: Option<f64>) -> Verdict {
    let wait = seconds.and_then(wait).filter(|_| verdict.outcome == AttemptOutcome::Retry);
    let retry_after = wait.max(verdict.retry_after);
    verdict.after(retry_after)
}

/// Reads the stored configuration of a channel.
///
/// # Errors
///
/// When it is none: it was checked when it was written.
pub fn stored_config<T: DeserializeOwned>(config: &Value) -> Result<T, Fault> {
    T::deserialize(config)
        .map_err(|_| Fault::permanent("the channel's configuration cannot be read"))
}

/// Reads a URL of a stored configuration.
///
/// # Errors
///
/// When it is none: it was checked when it was written.
pub fn stored_url(text: &str) -> Result<Url, Fault> {
    Url::parse(text).map_err(|_| Fault::permanent("the channel's URL is none"))
}

/// One printable line of bounded length.
#[must_use]
pub fn kept(line: &str) -> String {
    text::line(line).chars().take(KEPT_CHARS_MAX).collect()
}

/// Whether the same message may be accepted later. A redirect is not followed and will not go away either.
#[must_use]
pub fn is_passing(status: StatusCode) -> bool {
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
    match text.parse::<f64>() {
        Ok(seconds) => wait(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            let wait = at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            Some(wait.min(RETRY_AFTER_MAX))
        }
    }
}

/// A wait of so many seconds, at most a day; none if that is no number of seconds.
fn wait(seconds: f64) -> Option<Duration> {
    let is_wait = seconds.is_finite() && seconds >= 0.0;
    is_wait.then(|| Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())))
}

/// The first 2 KiB of an answer, and whether they broke off; what does not come within a second is left out.
async fn start_of(mut response: Response) -> (String, bool) {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut start, mut is_broken_off) = (Vec::new(), false);
    while start.len() < ANSWER_BYTES_MAX {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => start.extend_from_slice(&chunk),
            Ok(Ok(None)) => break,
            Ok(Err(_)) | Err(_) => {
                is_broken_off = true;
                break;
            }
        }
    }
    start.truncate(ANSWER_BYTES_MAX);
    (String::from_utf8_lossy(&start).into_owned(), is_broken_off)
}
