//! Listeners, TLS, and who is trusted on the way to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::keys;
use super::source::Check;
use super::tls::Tls;

/// Longest time a stop may take: past ten minutes a supervisor has long killed the process.
const SHUTDOWN_GRACE_MS_MAX: u64 = 600_000;

/// How the hub is reached, and what it may reach.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// REST, websockets and pages.
    pub(crate) listen: SocketAddr,
    /// Metrics and health.
    pub(crate) ops_listen: SocketAddr,
    /// Where browsers reach the hub; ends in a slash.
    pub(crate) public_url: Url,
    /// TLS on the public listener.
    pub(crate) tls: Option<Tls>,
    /// Networks whose `Forwarded` and `X-Forwarded-For` are believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Networks that webhooks may reach although they are private or loopback.
    pub(crate) egress_allow: Vec<IpNet>,
    /// How long a stop may take.
    pub(crate) shutdown_grace: Duration,
}

impl Server {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let listen = check.parse(keys::LISTEN, address);
        let ops_listen = check.parse(keys::OPS_LISTEN, address);
        if listen.is_some() && listen == ops_listen && listen.is_some_and(|it| it.port() != 0) {
            check.fault(keys::OPS_LISTEN, "is the same address as PULSE_LISTEN");
        }
        let tls = Tls::read(check);
        let public_url = match check.is_set(keys::PUBLIC_URL) {
            true => check.parse(keys::PUBLIC_URL, site),
            false => listen.and_then(|listen| local_url(listen, tls.is_some())),
        };
        let trusted_proxies = check.list(keys::TRUSTED_PROXIES, network);
        let egress_allow = check.list(keys::EGRESS_ALLOW, network);
        let shutdown_grace = check.number(keys::SHUTDOWN_GRACE_MS, 0, SHUTDOWN_GRACE_MS_MAX);
        check.parse(keys::SIGNUP, |text| match text {
            "closed" => Ok(()),
            "open" => Err("`open` is not supported by this version: use `closed`".to_owned()),
            _ => Err(format!("`{text}` is neither `closed` nor `open`")),
        });
        Some(Self {
            listen: listen?,
            ops_listen: ops_listen?,
            public_url: public_url?,
            tls,
            trusted_proxies,
            egress_allow,
            shutdown_grace: Duration::from_millis(shutdown_grace?),
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no IP address with a port"))
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is no network in CIDR form"))
}

/// The address of a whole site: a cookie and an origin have no path.
fn site(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    let whole = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    whole.then_some(url).ok_or_else(|| {
        format!("`{text}` must be http or https with a host, and without a path or credentials")
    })
}

fn local_url(listen: SocketAddr, tls: bool) -> Option<Url> {
    let host =
        if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let scheme = if tls { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{}", SocketAddr::new(host, listen.port()))).ok()
}
