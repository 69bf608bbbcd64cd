//! Health of one channel, as its attempts tell.
//!
//! - **H1** Success makes any enabled channel healthy.
//! - **H2** A receiver that is gone for good disables its channel; only a person enables it again.

use pulse_protocol::api::{AttemptOutcome, ChannelHealth};

/// How a channel is after an attempt with this outcome and HTTP status.
#[must_use]
pub const fn after_attempt(
    health: ChannelHealth,
    outcome: AttemptOutcome,
    status: Option<u16>,
) -> ChannelHealth {
    match (health, outcome) {
        (ChannelHealth::Disabled, _) => ChannelHealth::Disabled,
        (_, AttemptOutcome::Accepted) => ChannelHealth::Healthy,
        (_, AttemptOutcome::Gone) => ChannelHealth::Disabled,
        // A credential or an address that a person must put right.
        (_, AttemptOutcome::Permanent) if matches!(status, Some(401 | 403 | 404)) => {
            ChannelHealth::NeedsAttention
        }
        (ChannelHealth::NeedsAttention, _) => ChannelHealth::NeedsAttention,
        (_, AttemptOutcome::Retry | AttemptOutcome::Permanent) => ChannelHealth::Degraded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use AttemptOutcome::{Accepted, Gone, Permanent, Retry};
        use ChannelHealth::{Degraded, Disabled, Healthy, NeedsAttention};
        for (health, outcome, status, expected) in [
            (Healthy, Retry, Some(500), Degraded),
            (Healthy, Retry, None, Degraded),
            (Healthy, Permanent, Some(422), Degraded),
            (Healthy, Permanent, Some(404), NeedsAttention),
            (NeedsAttention, Retry, Some(500), NeedsAttention),
            (NeedsAttention, Accepted, Some(200), Healthy),
            (Degraded, Accepted, Some(204), Healthy),
            (Degraded, Gone, Some(410), Disabled),
            (Disabled, Accepted, Some(200), Disabled),
        ] {
            assert_eq!(
                after_attempt(health, outcome, status),
                expected,
                "{health} {outcome} {status:?}"
            );
        }
    }
}
