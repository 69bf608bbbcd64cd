//! An HTTP request, each on a connection of its own: what is asked is whether a new client gets through.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pulse_protocol::agent::CheckConfig;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{Finding, connect};

/// Redirects followed.
const REDIRECTS_MAX: usize = 5;
/// How much of the answer is searched for `expect.contains`.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const AGENT_NAME: &str = concat!("pulse-agent/", env!("CARGO_PKG_VERSION"));

/// What the answer must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expect {
    /// The lowest and highest good status.
    status: Option<(u16, u16)>,
    /// A text in the answer.
    contains: Option<String>,
}

impl Expect {
    fn read(expect: Option<&Value>) -> Result<Self, &'static str> {
        let Some(expect) = expect else { return Ok(Self::default()) };
        let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
        let status = match expect.get("status") {
            None | Some(Value::Null) => None,
            Some(status) => {
                let range = match status.as_array().map(Vec::as_slice) {
                    Some([low, high]) => number(low).zip(number(high)),
                    Some(_) => None,
                    None => number(status).map(|code| (code, code)),
                };
                Some(range.ok_or("`expect.status` is neither a status nor [lowest, highest]")?)
            }
        };
        let contains = match expect.get("contains") {
            None | Some(Value::Null) => None,
            Some(text) => Some(text.as_str().ok_or("`expect.contains` is no text")?.to_owned()),
        };
        Ok(Self { status, contains })
    }

    fn is_good(&self, status: StatusCode) -> bool {
        let (low, high) = self.status.unwrap_or((200, 399));
        (low..=high).contains(&status.as_u16())
    }

    /// Whether the check looks at a redirect itself, and not at where it leads.
    fn wants_redirect(&self, status: StatusCode) -> bool {
        self.status.is_some_and(|(low, high)| (low..=high).contains(&status.as_u16()))
    }
}

/// Online when the answer is as expected (2xx and 3xx by default), degraded when it is another.
pub(super) async fn check(check: &CheckConfig, tls: &Arc<ClientConfig>) -> Finding {
    let expect = match Expect::read(check.expect.as_ref()) {
        Ok(expect) => expect,
        Err(error) => return Finding::unknown(error),
    };
    let mut url = match url_of(check) {
        Ok(url) => url,
        Err(error) => return Finding::unknown(error),
    };
    let start = Instant::now();
    for _ in 0..=REDIRECTS_MAX {
        let response = match request(&url, tls).await {
            Ok(response) => response,
            Err(error) => return Finding::offline(error),
        };
        match next_url(&url, &response) {
            Some(next) if !expect.wants_redirect(response.status()) => url = next,
            _ => return judge(response, &expect, start).await,
        }
    }
    Finding::degraded(start.elapsed(), format!("more than {REDIRECTS_MAX} redirects"))
}

fn url_of(check: &CheckConfig) -> Result<Url, String> {
    let text = match &check.url {
        Some(url) => url.clone(),
        None => {
            let host = if check.address.contains(':') {
                format!("[{}]", check.address)
            } else {
                check.address.clone()
            };
            check
                .port
                .map_or_else(|| format!("http://{host}/"), |port| format!("http://{host}:{port}/"))
        }
    };
    let url = Url::parse(&text).map_err(|error| format!("the url is wrong: {error}"))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("the url is neither http nor https".to_owned())
    }
}

/// Where a redirect leads; nothing if it is none, or leads out of HTTP.
fn next_url(url: &Url, response: &Response<Incoming>) -> Option<Url> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let next = url.join(location).ok()?;
    (moved && matches!(next.scheme(), "http" | "https")).then_some(next)
}

async fn judge(response: Response<Incoming>, expect: &Expect, start: Instant) -> Finding {
    let status = response.status();
    let response_time = start.elapsed();
    if !expect.is_good(status) {
        return Finding::degraded(response_time, format!("answered {}", status.as_u16()));
    }
    let Some(wanted) = &expect.contains else { return Finding::online(response_time) };
    let Ok(body) = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await else {
        return Finding::degraded(response_time, "the answer broke off, or is longer than 1 MiB");
    };
    if String::from_utf8_lossy(&body.to_bytes()).contains(wanted) {
        Finding::online(response_time)
    } else {
        Finding::degraded(response_time, "the answer does not contain what is expected")
    }
}

async fn request(url: &Url, tls: &Arc<ClientConfig>) -> Result<Response<Incoming>, String> {
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return Err("the url has no host".to_owned());
    };
    let stream = connect(&host.to_string(), port).await.map_err(|error| error.to_string())?;
    if url.scheme() == "http" {
        return exchange(stream, url).await;
    }
    let name = match host {
        Host::Domain(name) => {
            ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?
        }
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
    };
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    exchange(stream, url).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
) -> Result<Response<Incoming>, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // It ends by itself once the answer was read or dropped; its errors reach the request too.
    tokio::spawn(connection);
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(USER_AGENT, AGENT_NAME)
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
