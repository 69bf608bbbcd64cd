//! The networks the agent's machine sits on.

use std::net::Ipv4Addr;

use if_addrs::{IfAddr, get_if_addrs};
use ipnet::Ipv4Net;
use pulse_protocol::agent::Network;

/// How the names of interfaces begin that carry no network of the machine's surroundings: bridges and links of
/// containers and virtual machines, tunnels.
const VIRTUAL: [&str; 17] = [
    "docker",
    "veth",
    "br-",
    "virbr",
    "tun",
    "tap",
    "lo",
    "wg",
    "cni",
    "flannel",
    "cali",
    "podman",
    "lxc",
    "vmnet",
    "vboxnet",
    "tailscale",
    "zt",
];

/// The physical IPv4 networks, in a fixed order.
///
/// # Errors
///
/// Returns the system's error if it does not tell its interfaces.
pub fn networks() -> std::io::Result<Vec<Network>> {
    let mut networks: Vec<Network> = get_if_addrs()?
        .into_iter()
        .filter_map(|interface| match interface.addr {
            IfAddr::V4(address) => network(&interface.name, address.ip, address.netmask),
            IfAddr::V6(_) => None,
        })
        .collect();
    networks.sort_by(|a, b| (&a.interface, &a.cidr).cmp(&(&b.interface, &b.cidr)));
    networks.dedup_by(|a, b| a.cidr == b.cidr);
    Ok(networks)
}

fn network(interface: &str, address: Ipv4Addr, netmask: Ipv4Addr) -> Option<Network> {
    let is_virtual = VIRTUAL.iter().any(|prefix| interface.starts_with(prefix));
    let net = Ipv4Net::with_netmask(address, netmask).ok()?.trunc();
    // A network of one address holds nothing but the machine itself.
    if is_virtual || address.is_loopback() || address.is_link_local() || net.prefix_len() == 32 {
        return None;
    }
    let cidr = net.to_string();
    Some(Network { name: format!("{interface} {cidr}"), cidr, interface: interface.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(interface: &str, address: [u8; 4], netmask: [u8; 4]) -> Option<String> {
        network(interface, address.into(), netmask.into()).map(|network| network.cidr)
    }

    #[test]
    fn a_physical_network_is_told_by_its_own_address() {
        assert_eq!(
            cidr("eth0", [192, 168, 7, 20], [255, 255, 255, 0]).as_deref(),
            Some("192.168.7.0/24")
        );
        assert_eq!(
            cidr("wlp3s0", [10, 1, 2, 3], [255, 255, 240, 0]).as_deref(),
            Some("10.1.0.0/20")
        );
    }

    #[test]
    fn what_is_no_network_around_the_machine_is_left_out() {
        let mask = [255, 255, 255, 0];
        for interface in
            ["docker0", "veth12ab", "br-9f", "virbr0", "tun0", "tap1", "lo", "wg0", "tailscale0"]
        {
            assert_eq!(cidr(interface, [192, 168, 7, 20], mask), None, "{interface}");
        }
        assert_eq!(cidr("eth0", [127, 0, 0, 1], mask), None);
        assert_eq!(cidr("eth0", [169, 254, 3, 4], [255, 255, 0, 0]), None);
        assert_eq!(cidr("eth0", [10, 0, 0, 1], [255, 255, 255, 255]), None);
        assert_eq!(cidr("eth0", [10, 0, 0, 1], [255, 0, 255, 0]), None, "no netmask");
    }

    #[test]
    fn this_machine_tells_its_networks() {
        for network in networks().unwrap() {
            assert!(network.cidr.parse::<Ipv4Net>().is_ok() && !network.interface.is_empty());
        }
    }
}
