//! Mail through the HTTP interface of Resend.

use async_trait::async_trait;
use pulse_actors::ports::Verdict;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::message::{headers, message_id, subject};
use super::transport::{MailTransport, MailVerdict, OutgoingMail};
use crate::outbound::egress::Egress;
use crate::outbound::http::{Answer, ClientError, Fault, Http, TIMEOUT};
use crate::outbound::secrets::Secrets;

/// Where the provider is.
pub const API_BASE: &str = "https://api.resend.com";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Bytes of the body's hash in the key: enough to tell the few bodies of one delivery apart.
const KEY_HASH_BYTES: usize = 8;

/// Sends through Resend.
#[derive(Clone, Debug)]
pub struct Resend {
    http: Http,
    emails: Url,
    key: String,
}

/// Mail cannot be sent through Resend.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// There is no HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The base is no URL.
    #[error("the base of the provider's interface is no URL")]
    Base(#[from] url::ParseError),
}

impl Resend {
    /// Sends through the interface at `base`, wherever that is: the operator chose it, and no customer.
    ///
    /// # Errors
    ///
    /// When the base is no URL or the system's certificates cannot be read.
    pub fn new(base: &str, key: impl Into<String>) -> Result<Self, ResendError> {
        let emails = Url::parse(&format!("{}/emails", base.trim_end_matches('/')))?;
        Ok(Self { http: Http::new(Egress::anywhere(), TIMEOUT)?, emails, key: key.into() })
    }

    async fn attempt(&self, mail: &OutgoingMail) -> Result<Verdict, Fault> {
        let unsendable = || Fault::permanent("the provider's key cannot be sent");
        let mut request = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.key));
        request.insert(AUTHORIZATION, bearer.map_err(|_| unsendable())?);
        let body = body(mail).to_string();
        let key = HeaderValue::from_str(&idempotency_key(mail, &body)).map_err(|_| unsendable())?;
        request.insert(IDEMPOTENCY_KEY, key);
        let secrets = Secrets::of([self.key.as_str()]);
        Ok(judge(&self.http.post(self.emails.clone(), request, body, &secrets).await?))
    }
}

#[async_trait]
impl MailTransport for Resend {
    async fn send(&self, mail: &OutgoingMail) -> MailVerdict {
        let verdict = self.http.within(self.attempt(mail)).await;
        // Without an answer it is the provider that is away, and no recipient.
        let is_ours = verdict.is_ours || verdict.status.is_none();
        Verdict { is_ours, ..verdict }.into()
    }
}

/// The provider refuses a key that comes again with another body, and a later attempt may say how late it is.
fn idempotency_key(mail: &OutgoingMail, body: &str) -> String {
    let hash = hex::encode(Sha256::digest(body.as_bytes()));
    format!("{}-{}", mail.id, &hash[..2 * KEY_HASH_BYTES])
}

fn body(mail: &OutgoingMail) -> Value {
    let mut headers: Map<String, Value> =
        headers(mail).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    headers.insert("Message-ID".to_owned(), message_id(mail).into());
    json!({
        "from": mail.from.to_string(),
        "to": [mail.to.to_string()],
        "subject": subject(mail),
        "html": mail.content.html,
        "text": mail.content.text,
        "headers": headers,
    })
}

/// Only a mail that is not well formed is the mail's fault; all else is between the hub and its provider.
fn judge(answer: &Answer) -> Verdict {
    match answer.status {
        status if status.is_success() => answer.accepted(),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => answer.permanent(),
        _ => answer.retry().ours(),
    }
}
