//! Where a request comes from, seen through the proxies that are trusted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, http::header::HeaderMap};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer's own, or, when the peer is a trusted proxy, the nearest address that its
/// `Forwarded` or `X-Forwarded-For` names and that is no trusted proxy itself.
///
/// The lists are read from the end, because everything before the first untrusted hop can be made up.
#[must_use]
pub fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    for hop in forwarded(request.headers()).into_iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        let Some(address) = hop else { break };
        client = address;
    }
    client
}

/// The hops that the headers name, farthest first; none where a hop hides its address.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let elements = |name| {
        headers
            .get_all(name)
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
    };
    if headers.contains_key(header::FORWARDED) {
        elements(header::FORWARDED).map(forwarded_for).collect()
    } else {
        elements(X_FORWARDED_FOR).map(node_address).collect()
    }
}

/// The `for` parameter of one element of `Forwarded` (RFC 7239).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element
        .split(';')
        .find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then_some(value)
        })
        .and_then(node_address)
}

/// An address with or without a port, brackets and quotes.
fn node_address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    node.parse::<IpAddr>()
        .or_else(|_| node.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| node.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn seen(peer: &str, header: (&str, &str)) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let request = TestRequest::default()
            .peer_addr(format!("{peer}:4000").parse().unwrap())
            .insert_header(header)
            .to_http_request();
        client_address(&request, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(seen("198.51.100.7", ("x-forwarded-for", "203.0.113.9")), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", ("x-forwarded-for", "203.0.113.9")), "203.0.113.9");
    }

    #[test]
    fn what_a_client_put_before_its_own_address_is_not_believed() {
        let list = "127.0.0.1, 203.0.113.9, 10.0.0.2";
        assert_eq!(seen("10.0.0.1", ("x-forwarded-for", list)), "203.0.113.9");
    }

    #[test]
    fn the_standard_header_is_read_in_its_forms() {
        for (value, address) in [
            ("for=203.0.113.9;proto=https", "203.0.113.9"),
            ("proto=https;For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=\"203.0.113.9:80\", for=\"[fd00::2]\"", "203.0.113.9"),
            ("for=unknown", "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", ("forwarded", value)), address, "{value}");
        }
    }
}
