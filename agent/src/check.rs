//! One run of a check: what is done, and what is found.

pub mod dns;
pub mod http;
pub mod ping;
pub mod tcp;
pub mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{CheckConfig, CheckResult, TlsFacts};
use pulse_protocol::status::{CheckKind, DeviceStatus};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::ping::Pings;

/// Longest text of an error in a result; 500 results must fit in one frame.
const ERROR_CHARS_MAX: usize = 200;
/// The shortest and longest time a run may take, whatever its check says.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 1..=120_000;

/// What one run found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How the device is.
    pub status: DeviceStatus,
    /// How long its answer took.
    pub response_time: Option<Duration>,
    /// Why it is not online.
    pub error: Option<String>,
    /// The certificate it showed.
    pub tls: Option<TlsFacts>,
}

impl Finding {
    fn online(response_time: Duration) -> Self {
        Self {
            status: DeviceStatus::Online,
            response_time: Some(response_time),
            error: None,
            tls: None,
        }
    }

    fn degraded(response_time: Duration, error: impl Into<String>) -> Self {
        let response_time = Some(response_time);
        Self { status: DeviceStatus::Degraded, response_time, error: Some(error.into()), tls: None }
    }

    fn offline(error: impl Into<String>) -> Self {
        Self {
            status: DeviceStatus::Offline,
            response_time: None,
            error: Some(error.into()),
            tls: None,
        }
    }

    /// Nobody can tell: the check itself cannot be run.
    fn unknown(error: impl Into<String>) -> Self {
        Self {
            status: DeviceStatus::Unknown,
            response_time: None,
            error: Some(error.into()),
            tls: None,
        }
    }
}

/// What all runs share.
pub struct Checker {
    pings: Arc<Pings>,
    tls: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl Checker {
    /// Checks that trust `roots`.
    #[must_use]
    pub fn new(pings: Arc<Pings>, tls: Arc<ClientConfig>, roots: Arc<RootCertStore>) -> Self {
        Self { pings, tls, roots }
    }

    /// Runs `check` once, within its timeout.
    pub async fn run(&self, check: &CheckConfig) -> CheckResult {
        let limit = Duration::from_millis(
            check.timeout_ms.clamp(*TIMEOUT_MS.start(), *TIMEOUT_MS.end()).into(),
        );
        let found = match check.check {
            // It waits for three probes within the limit by itself.
            CheckKind::Ping => self.pings.check(&check.address, limit).await,
            CheckKind::Tcp => within(limit, tcp::check(check)).await,
            CheckKind::Http => within(limit, http::check(check, &self.tls)).await,
            CheckKind::Tls => within(limit, tls::check(check, &self.roots)).await,
            CheckKind::Dns => within(limit, dns::check(check)).await,
        };
        result(check, found)
    }
}

async fn within(limit: Duration, run: impl Future<Output = Finding>) -> Finding {
    let late = || Finding::offline(format!("no answer within {} ms", limit.as_millis()));
    timeout(limit, Box::pin(run)).await.unwrap_or_else(|_| late())
}

fn result(check: &CheckConfig, found: Finding) -> CheckResult {
    let cut = |text: String| text.chars().take(ERROR_CHARS_MAX).collect();
    CheckResult {
        check_id: Some(check.check_id),
        device_id: None,
        address: None,
        check: Some(check.check),
        status: found.status,
        // A microsecond is as exact as this clock is worth.
        response_time_ms: found.response_time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3),
        checked_at: Timestamp::wall_clock(),
        error: found.error.map(cut),
        tls: found.tls,
    }
}

/// Every certificate authority that browsers trust.
#[must_use]
pub fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// The addresses of a host name or of an address as text; IPv6 in brackets too.
async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let mut addresses: Vec<IpAddr> =
        tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        Err(io::Error::other("the name has no address"))
    } else {
        Ok(addresses)
    }
}

/// Connects to the first address of `host` that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> =
        resolve(host).await?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    TcpStream::connect(&*addresses).await
}

#[cfg(test)]
pub(crate) mod testing {
    use pulse_protocol::agent::CheckConfig;
    use pulse_protocol::ids::{CheckId, DeviceId};
    use pulse_protocol::status::CheckKind;
    use serde_json::Value;

    /// A check of `address` with `expect`; null for none.
    pub(crate) fn check(
        kind: CheckKind,
        address: &str,
        port: Option<u16>,
        expect: Value,
    ) -> CheckConfig {
        CheckConfig {
            check_id: CheckId::new(),
            device_id: DeviceId::new(),
            address: address.to_owned(),
            check: kind,
            port,
            url: None,
            interval_s: 60,
            timeout_ms: 5000,
            failure_threshold: 1,
            expect: (!expect.is_null()).then_some(expect),
        }
    }
}
