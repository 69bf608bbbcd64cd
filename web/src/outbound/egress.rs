//! Where the hub may connect to on a customer's word.
//!
//! A receiver's name is the customer's choice, and so is what it resolves to. Each address is checked when it
//! is connected to, not only when the channel is written: a name can be pointed elsewhere in between. What is
//! checked is what is connected to, because the check sits in the client's resolver.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::{Host, Url};

/// How long a name may take to resolve.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

const fn v6(a: u16, b: u16, prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix_len)
}

/// IPv4 networks that are not the public internet (IANA's special-purpose registry), and one public address
/// that answers inside a cloud only.
const REFUSED_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),        // this network, unspecified
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // a cloud's metadata service
    v4(169, 254, 0, 0, 16),   // link-local, metadata services
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];
/// The IPv6 addresses that are given out for the public internet; all others are refused.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);
/// Those among them that are something else, or carry an IPv4 address that would have to be checked instead.
const REFUSED_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 23),     // protocol assignments, Teredo, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

/// The address of a receiver is none that webhooks may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver's address is in a network that webhooks may not reach")]
pub struct Refused;

/// Which addresses webhooks may reach; cheap to clone. By default the public internet alone.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    allowed: Arc<[IpNet]>,
}

impl Egress {
    /// The public internet, and these networks although they are not part of it.
    #[must_use]
    pub fn allowing(networks: &[IpNet]) -> Self {
        Self { allowed: networks.into() }
    }

    /// Everywhere: for addresses that the operator chose, and no customer.
    #[must_use]
    pub fn anywhere() -> Self {
        let (v4, v6) = (Ipv4Net::default(), Ipv6Net::default());
        Self::allowing(&[IpNet::V4(v4), IpNet::V6(v6)])
    }

    /// Whether webhooks may reach this address. An IPv4 address in IPv6 form counts as what it is.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(&address)) || is_public(address)
    }

    /// Checks the scheme of a URL, and its host where that is an address. A name is checked when it is
    /// resolved.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] for another scheme than `http` and `https`, no host, or an address that is not
    /// permitted.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused);
        }
        let address = match url.host().ok_or(Refused)? {
            Host::Domain(name) if is_localhost(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(v4) => IpAddr::V4(v4),
            Host::Ipv6(v6) => IpAddr::V6(v6),
        };
        if self.permits(address) { Ok(()) } else { Err(Refused) }
    }
}

/// Names that mean this machine everywhere (RFC 6761): no resolver needs to be asked.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !REFUSED_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => {
            PUBLIC_V6.contains(&v6) && !REFUSED_V6.iter().any(|network| network.contains(&v6))
        }
    }
}

/// The system's resolver with the addresses left out that may not be reached.
impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.clone();
        Box::pin(async move {
            let looked_up = timeout(DNS_TIMEOUT, lookup_host((name.as_str(), 0))).await;
            let slow = |_| io::Error::new(ErrorKind::TimedOut, "the name was not resolved in time");
            let found: Vec<SocketAddr> = looked_up.map_err(slow)??.collect();
            if found.is_empty() {
                return Err(io::Error::other("the name has no address").into());
            }
            let permitted: Vec<SocketAddr> =
                found.into_iter().filter(|socket| egress.permits(socket.ip())).collect();
            if permitted.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(egress: &Egress, address: &str) -> bool {
        egress.permits(address.parse().unwrap())
    }

    #[test]
    fn the_public_internet_is_permitted() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "2001:db9::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(permits(&Egress::default(), address), "{address}");
        }
    }

    #[test]
    fn everything_else_is_refused_in_every_form() {
        for address in [
            // This network, private, loopback, link-local, CGNAT, and their first and last addresses.
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            // Metadata services.
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            // Documentation, benchmarks, multicast, reserved, broadcast.
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            // IPv6: unspecified, loopback, link-local, site-local, unique-local, multicast, documentation.
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            // IPv4 inside IPv6: mapped, compatible, NAT64, its local form, 6to4, Teredo.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::7f00:1",
            "2001:0:1234::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!permits(&Egress::default(), address), "{address}");
        }
    }

    #[test]
    fn allowed_networks_are_an_exception_of_their_own_size() {
        let egress =
            Egress::allowing(&["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert!(permits(&egress, "127.0.0.1"));
        assert!(permits(&egress, "::ffff:127.0.0.1"));
        assert!(permits(&egress, "fd12::1"));
        for address in ["10.0.0.1", "::1", "fc00::1", "169.254.169.254"] {
            assert!(!permits(&egress, address), "{address}");
        }
    }

    #[test]
    fn a_url_is_refused_for_its_scheme_or_its_literal_address() {
        let check = |url: &str| Egress::default().check_url(&Url::parse(url).unwrap());
        for url in ["https://example.com/", "http://example.com:8080/x", "https://1.1.1.1/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "ftp://example.com/",
            "file:///etc/passwd",
            "data:text/plain,x",
            "http://127.1/",
            "http://localhost:8080/",
            "http://a.LOCALHOST./",
            "http://0177.0.0.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert_eq!(check(url), Err(Refused), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_resolves_to_nothing() {
        let refused = Egress::default().resolve("localhost".parse().unwrap()).await;
        assert!(refused.err().unwrap().downcast_ref::<Refused>().is_some());

        let egress =
            Egress::allowing(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let found: Vec<_> = egress.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|socket| socket.ip().is_loopback()));
    }
}
