//! A webhook receiver: verifies the signature and prints what it gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;

use super::say;

/// The running receiver.
pub(super) struct Receiver {
    address: SocketAddr,
    secret: Arc<OnceLock<Webhook>>,
}

impl Receiver {
    /// Starts it on a free port.
    pub(super) fn start() -> anyhow::Result<Self> {
        let secret = Arc::new(OnceLock::new());
        let data = Data::from(secret.clone());
        let app = move || {
            let answer = web::resource("/").get(page).post(receive);
            App::new().app_data(data.clone()).service(answer)
        };
        // The demo waits for signals itself: it has children to stop.
        let server =
            HttpServer::new(app).workers(1).disable_signals().bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Ok(Self { address, secret })
    }

    /// Where it takes deliveries, and shows a page.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on deliveries must be signed with `secret`.
    pub(super) fn expect_secret(&self, secret: String) -> anyhow::Result<()> {
        // A second call would keep the first secret; there is only one channel.
        let _ = self.secret.set(Webhook::new(&secret)?);
        Ok(())
    }
}

async fn page() -> &'static str {
    "This page answers.\n"
}

async fn receive(
    request: HttpRequest,
    body: Bytes,
    secret: Data<OnceLock<Webhook>>,
) -> HttpResponse {
    let verified = secret.get().is_some_and(|hook| hook.verify(&body, &headers(&request)).is_ok());
    if !verified {
        let _ = say("webhook  refused: the signature is not good");
        return HttpResponse::Unauthorized().finish();
    }
    // Standard output may be closed; what was received was received.
    let _ = say(&describe(&body));
    HttpResponse::NoContent().finish()
}

/// The web server and the verifier use different versions of the same types.
fn headers(request: &HttpRequest) -> HeaderMap {
    let copy = |(name, value): (
        &actix_web::http::header::HeaderName,
        &actix_web::http::header::HeaderValue,
    )| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    request.headers().iter().filter_map(copy).collect()
}

fn describe(body: &[u8]) -> String {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let fact = &message["data"];
    format!(
        "webhook  {}  {:<16} {}: {} -> {} ({}), signature good",
        word(&message["timestamp"]),
        word(&message["type"]),
        word(&fact["name"]),
        word(&fact["previous"]),
        word(&fact["current"]),
        word(&fact["cause"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_went_from_where_to_where_and_why() {
        let body = br#"{"type":"agent.offline","timestamp":"2026-03-01T12:00:00.000Z",
            "data":{"name":"Attic","previous":"online","current":"offline","cause":"heartbeat_timeout"}}"#;
        assert_eq!(
            describe(body),
            "webhook  2026-03-01T12:00:00.000Z  agent.offline    Attic: online -> offline \
             (heartbeat_timeout), signature good"
        );
    }
}
