//! ICMP echoes, for checks and for scans.
//!
//! One socket for each IP version serves all. It is a datagram socket where `net.ipv4.ping_group_range` allows
//! that to the agent's group, else a raw one, which needs `CAP_NET_RAW`.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Finding, resolve};

/// Probes until a device counts as offline.
const PROBES: u32 = 3;
const PAYLOAD: [u8; 16] = *b"velocitypulse   ";
/// ICMP types of an answer to an echo.
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

/// The agent's ICMP sockets, opened at their first use.
pub struct Pings {
    v4: Mutex<Option<Client>>,
    v6: Mutex<Option<Client>>,
    identifier: PingIdentifier,
    sequence: AtomicU16,
}

impl Default for Pings {
    fn default() -> Self {
        let identifier = PingIdentifier(rand::random());
        Self { v4: Mutex::new(None), v6: Mutex::new(None), identifier, sequence: AtomicU16::new(0) }
    }
}

impl Pings {
    /// Up to three probes within `limit`; online at the first answer.
    pub async fn check(&self, host: &str, limit: Duration) -> Finding {
        let deadline = Instant::now() + limit;
        let address = match timeout(limit, resolve(host)).await {
            Ok(Ok(addresses)) => addresses[0],
            Ok(Err(error)) => return Finding::offline(error.to_string()),
            Err(_) => return Finding::offline("the name could not be looked up in time"),
        };
        let mut failure = format!("no echo within {} ms", limit.as_millis());
        for left in (1..=PROBES).rev() {
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let probe_end = Instant::now() + share;
            match self.probe(address, share).await {
                Ok(Some(time)) => return Finding::online(time),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Finding::unknown(
                        "no ICMP socket: give the agent CAP_NET_RAW or its group net.ipv4.ping_group_range",
                    );
                }
                Err(error) => failure = error.to_string(),
            }
            // A probe that failed at once must not use up the next one's chance in the same moment.
            sleep_until(probe_end).await;
        }
        Finding::offline(failure)
    }

    /// One probe: the time to its answer, or nothing if none came within `limit`.
    ///
    /// # Errors
    ///
    /// Returns the system's error if there is no socket or no route.
    pub async fn probe(&self, address: IpAddr, limit: Duration) -> io::Result<Option<Duration>> {
        let client = self.client(address).await?;
        let mut pinger = client.pinger(address, self.identifier).await;
        pinger.timeout(limit);
        // The sequence number alone tells two probes of one address apart on a datagram socket.
        let sequence = PingSequence(self.sequence.fetch_add(1, Ordering::Relaxed));
        match pinger.ping(sequence, &PAYLOAD).await {
            Ok((packet, time)) if is_echo_reply(&packet) => Ok(Some(time)),
            Ok(_) => Err(io::ErrorKind::HostUnreachable.into()),
            Err(SurgeError::IOError(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn client(&self, address: IpAddr) -> io::Result<Client> {
        let (slot, kind) =
            if address.is_ipv4() { (&self.v4, ICMP::V4) } else { (&self.v6, ICMP::V6) };
        let mut slot = slot.lock().await;
        match &*slot {
            Some(client) => Ok(client.clone()),
            None => Ok(slot.insert(Client::new(&Config::builder().kind(kind).build())?).clone()),
        }
    }
}

fn is_echo_reply(packet: &IcmpPacket) -> bool {
    match packet {
        IcmpPacket::V4(packet) => packet.get_icmp_type().0 == ECHO_REPLY_V4,
        IcmpPacket::V6(packet) => packet.get_icmpv6_type().0 == ECHO_REPLY_V6,
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::status::DeviceStatus;

    use super::*;

    /// Whether the kernel gives this process an ICMP socket; says so if not.
    fn has_socket(error: Option<&io::Error>) -> bool {
        let forbidden = error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if forbidden {
            println!(
                "skipped: the kernel gives this process neither a datagram nor a raw ICMP socket"
            );
        }
        !forbidden
    }

    #[tokio::test]
    async fn this_machine_answers() {
        let pings = Pings::default();
        let answer = pings.probe([127, 0, 0, 1].into(), Duration::from_secs(5)).await;
        if has_socket(answer.as_ref().err()) {
            assert!(answer.unwrap().is_some());
            let found = pings.check("localhost", Duration::from_secs(5)).await;
            assert_eq!((found.status, found.error), (DeviceStatus::Online, None));
        }
    }

    #[tokio::test]
    async fn many_probes_of_one_address_do_not_get_in_each_others_way() {
        let pings = Pings::default();
        let probe = || pings.probe([127, 0, 0, 1].into(), Duration::from_secs(5));
        if has_socket(probe().await.as_ref().err()) {
            let answers = futures_util::future::join_all((0..50).map(|_| probe())).await;
            assert!(answers.into_iter().all(|answer| answer.unwrap().is_some()));
        }
    }

    #[tokio::test]
    async fn a_name_without_address_is_offline() {
        let found = Pings::default().check("no-such-name.invalid", Duration::from_secs(5)).await;
        assert_eq!(found.status, DeviceStatus::Offline);
    }

    #[tokio::test]
    async fn silence_is_offline_after_the_timeout_and_not_before() {
        // 192.0.2.0/24 is kept for documentation: nobody answers there, or there is no way to it at all.
        let start = Instant::now();
        let found = Pings::default().check("192.0.2.77", Duration::from_millis(300)).await;
        if found.status == DeviceStatus::Unknown {
            println!("skipped: {}", found.error.unwrap());
            return;
        }
        assert_eq!(found.status, DeviceStatus::Offline);
        assert!((290..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}
