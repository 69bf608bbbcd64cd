//! How much one address, one agent and the node may ask of the sockets, and one org of its channels' tests.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use pulse_protocol::ids::OrgId;

/// Addresses that are remembered at most between two clean-ups.
const ADDRESSES_MAX: usize = 50_000;

/// Test messages a minute of one org.
const CHANNEL_TESTS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// One agent's frames.
pub type FrameLimiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;

/// What may be asked; nothing for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitSettings {
    /// Agent handshakes a second from one address.
    pub handshakes_per_address: Option<NonZeroU32>,
    /// Agent handshakes a second in all.
    pub handshakes_per_node: Option<NonZeroU32>,
    /// Frames a second of one agent, and how many at once.
    pub frames: Option<(NonZeroU32, NonZeroU32)>,
    /// State frames of one agent that may wait for their ack.
    pub unacked_frames: Option<NonZeroU32>,
}

/// Counts handshakes against the limits.
pub struct Limits {
    settings: LimitSettings,
    per_address: Option<RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock>>,
    per_node: Option<FrameLimiter>,
    channel_tests: RateLimiter<OrgId, DashMapStateStore<OrgId>, DefaultClock>,
}

impl Limits {
    /// Limits that count from now.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            settings,
            per_address: settings
                .handshakes_per_address
                .map(|rate| RateLimiter::dashmap(Quota::per_second(rate))),
            per_node: settings
                .handshakes_per_node
                .map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            channel_tests: RateLimiter::dashmap(Quota::per_minute(CHANNEL_TESTS)),
        }
    }

    /// Counts a test message of an org's channels.
    ///
    /// # Errors
    ///
    /// Returns how long to wait when the org has sent too many of late.
    pub fn admit_channel_test(&self, org_id: OrgId) -> Result<(), Duration> {
        if self.channel_tests.len() > ADDRESSES_MAX {
            self.channel_tests.retain_recent();
        }
        let refused = self.channel_tests.check_key(&org_id).err();
        refused.map_or(Ok(()), |until| Err(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Counts an agent's handshake; says whether it may go on.
    #[must_use]
    pub fn admit_handshake(&self, address: IpAddr) -> bool {
        if let Some(per_address) = &self.per_address {
            if per_address.len() > ADDRESSES_MAX {
                per_address.retain_recent();
            }
            if per_address.check_key(&address).is_err() {
                return false;
            }
        }
        self.per_node.as_ref().is_none_or(|per_node| per_node.check().is_ok())
    }

    /// A limiter for one agent's frames.
    #[must_use]
    pub fn frames(&self) -> Option<FrameLimiter> {
        let (rate, burst) = self.settings.frames?;
        Some(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)))
    }

    /// State frames of one agent that may wait for their ack.
    #[must_use]
    pub fn unacked_frames(&self) -> Option<u64> {
        self.settings.unacked_frames.map(|frames| u64::from(frames.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_limit_and_the_node_one_for_all() {
        let limits = Limits::new(LimitSettings {
            handshakes_per_address: NonZeroU32::new(2),
            handshakes_per_node: NonZeroU32::new(3),
            ..LimitSettings::default()
        });
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let admitted = [1, 1, 1, 2, 3].map(|last| limits.admit_handshake(address(last)));
        assert_eq!(admitted, [true, true, false, true, false]);
    }

    #[test]
    fn without_limits_everything_may_go_on() {
        let limits = Limits::new(LimitSettings::default());
        assert!((0..5_000).all(|_| limits.admit_handshake(IpAddr::from([192, 0, 2, 1]))));
        assert!(limits.frames().is_none());
    }
}
