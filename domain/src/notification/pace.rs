//! How fast each kind of receiver is sent to.

use std::time::Duration;

use pulse_protocol::api::{ChannelHealth, ChannelKind};

/// How fast one channel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Attempts under way at the same time.
    pub in_flight: usize,
    /// From the start of one attempt to the start of the next.
    pub interval: Duration,
}

/// The pace of a channel of this kind and health. One that is not healthy is sent one message at a time: the next
/// says whether it is back.
#[must_use]
pub const fn pace(kind: ChannelKind, health: ChannelHealth) -> Pace {
    // Chat services allow about one message a second for each of their webhooks.
    const CHAT: Pace = Pace { in_flight: 1, interval: Duration::from_secs(1) };
    let own = match kind {
        ChannelKind::Webhook | ChannelKind::Email => {
            Pace { in_flight: 4, interval: Duration::ZERO }
        }
        ChannelKind::Pagerduty => Pace { in_flight: 2, interval: Duration::ZERO },
        ChannelKind::Slack
        | ChannelKind::Teams
        | ChannelKind::Discord
        | ChannelKind::Telegram
        | ChannelKind::Ntfy => CHAT,
    };
    match health {
        ChannelHealth::Healthy => own,
        _ => Pace { in_flight: 1, ..own },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_pace_and_slows_down_when_it_fails() {
        for kind in ChannelKind::ALL {
            let well = pace(*kind, ChannelHealth::Healthy);
            assert!((1..=4).contains(&well.in_flight), "{kind}");
            for health in ChannelHealth::ALL.iter().filter(|it| **it != ChannelHealth::Healthy) {
                assert_eq!(pace(*kind, *health), Pace { in_flight: 1, ..well }, "{kind} {health}");
            }
        }
        let second = Duration::from_secs(1);
        assert_eq!(pace(ChannelKind::Slack, ChannelHealth::Healthy).interval, second);
        assert_eq!(pace(ChannelKind::Webhook, ChannelHealth::Healthy).interval, Duration::ZERO);
    }
}
