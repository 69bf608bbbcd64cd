//! How long to wait before the next connection, by how the last one ended.

use std::fmt;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use pulse_protocol::agent::CloseCode;

/// The least wait after the hub refused who we are. Someone must act there first.
const REFUSED_MIN: Duration = Duration::from_secs(5 * 60);
/// Ceiling of the first wait.
const CEILING_FIRST: Duration = Duration::from_millis(500);
/// Ceiling of the longest wait.
const CEILING_LAST: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one: the next wait starts small again.
const GOOD_AFTER: Duration = Duration::from_secs(2);

/// How a connection ended, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The hub answered the handshake with an HTTP status.
    Refused {
        /// The status.
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The hub closed the connection.
    Closed {
        /// The close code, if it gave one.
        code: Option<u16>,
    },
    /// No connection came about, or it broke.
    Lost {
        /// What the network or the websocket said.
        error: String,
    },
    /// Nothing was heard for the heartbeat timeout, or nothing could be written for as long.
    Silent,
    /// The node leaves; what is left of the time it gave us.
    Drained {
        /// Reconnect after this.
        reconnect_after: Duration,
    },
    /// The spool was replaced or numbered anew: the hub must be greeted again.
    SpoolChanged,
    /// The agent stops.
    Left,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status: 401, .. } => f.write_str("the hub refused the agent's key (401): check it"),
            Self::Refused { status: 403, .. } => {
                f.write_str("the hub refused the agent (403): it is disabled, or its org suspended or cancelled")
            }
            Self::Refused { status, .. } => write!(f, "the hub refused the connection with status {status}"),
            Self::Closed { code: Some(4003) } => f.write_str("the key was revoked, or the agent disabled or removed"),
            Self::Closed { code: Some(4004) } => f.write_str("the org is suspended or cancelled"),
            Self::Closed { code: Some(4001) } => f.write_str("another agent connected with the same key (4001)"),
            Self::Closed { code: Some(code) } => write!(f, "the hub closed the connection with code {code}"),
            Self::Closed { code: None } => f.write_str("the hub closed the connection"),
            Self::Lost { error } => write!(f, "{error}"),
            Self::Silent => f.write_str("nothing was heard from the hub for the heartbeat timeout"),
            Self::Drained { .. } => f.write_str("the hub's node leaves"),
            Self::SpoolChanged => f.write_str("the spool began a new sequence"),
            Self::Left => f.write_str("the agent stops"),
        }
    }
}

/// A rule for the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Exponential back-off with full jitter.
    BackOff,
    /// That, and this much at least.
    AtLeast(Duration),
    /// Exactly this, as the hub asked for it.
    Exactly(Duration),
}

/// The rule for the wait after `ending`.
#[must_use]
pub fn pause_after(ending: &Ending) -> Pause {
    match ending {
        Ending::Refused { status: 401 | 403, retry_after } => {
            Pause::AtLeast(retry_after.unwrap_or_default().max(REFUSED_MIN))
        }
        Ending::Refused { retry_after: Some(retry_after), .. } => Pause::AtLeast(*retry_after),
        Ending::Closed { code: Some(code) }
            if *code == CloseCode::KeyRevoked.code() || *code == CloseCode::OrgSuspended.code() =>
        {
            Pause::AtLeast(REFUSED_MIN)
        }
        Ending::Drained { reconnect_after } => Pause::Exactly(*reconnect_after),
        Ending::Refused { retry_after: None, .. }
        | Ending::Closed { .. }
        | Ending::Lost { .. }
        | Ending::Silent
        | Ending::SpoolChanged
        | Ending::Left => Pause::BackOff,
    }
}

/// Whether the connection was good, so that the back-off starts anew. Where the hub closed it for something
/// that would happen again, such as two agents with one key, the waits go on growing.
#[must_use]
pub(super) fn was_good(ending: &Ending, welcomed_for: Option<Duration>) -> bool {
    let by_chance = match ending {
        Ending::Lost { .. } | Ending::Silent | Ending::Drained { .. } | Ending::SpoolChanged => {
            true
        }
        Ending::Closed { code } => code.is_none_or(|code| code < 3000),
        Ending::Refused { .. } | Ending::Left => false,
    };
    by_chance && welcomed_for.is_some_and(|duration| duration >= GOOD_AFTER)
}

/// The waits between connections.
pub struct Waits(ExponentialBackoff);

impl Default for Waits {
    fn default() -> Self {
        // A randomisation factor of 1 draws from zero to twice the interval: full jitter under these ceilings.
        let (first, last) = (CEILING_FIRST / 2, CEILING_LAST / 2);
        let mut backoff = ExponentialBackoff {
            initial_interval: first,
            current_interval: first,
            max_interval: last,
            multiplier: 2.0,
            randomization_factor: 1.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self(backoff)
    }
}

impl Waits {
    /// The wait after `ending`; `welcomed_for` is how long the connection lived after its welcome.
    pub fn next(&mut self, ending: &Ending, welcomed_for: Option<Duration>) -> Duration {
        if was_good(ending, welcomed_for) {
            self.0.reset();
        }
        let mut jittered = || self.0.next_backoff().unwrap_or(CEILING_LAST);
        match pause_after(ending) {
            Pause::BackOff => jittered(),
            Pause::AtLeast(least) => least + jittered(),
            Pause::Exactly(wait) => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> Ending {
        Ending::Closed { code: Some(code) }
    }

    fn refused(status: u16, retry_after_s: Option<u64>) -> Ending {
        Ending::Refused { status, retry_after: retry_after_s.map(Duration::from_secs) }
    }

    #[test]
    fn every_ending_has_its_pause() {
        let five_minutes = Pause::AtLeast(Duration::from_secs(300));
        let table = [
            (closed(1000), Pause::BackOff),
            (closed(1001), Pause::BackOff),
            (closed(1009), Pause::BackOff),
            (closed(1011), Pause::BackOff),
            (closed(4000), Pause::BackOff),
            (closed(4001), Pause::BackOff),
            (closed(4002), Pause::BackOff),
            (closed(4003), five_minutes),
            (closed(4004), five_minutes),
            (closed(4008), Pause::BackOff),
            (closed(4010), Pause::BackOff),
            (closed(4029), Pause::BackOff),
            (Ending::Closed { code: None }, Pause::BackOff),
            (Ending::Lost { error: "reset".to_owned() }, Pause::BackOff),
            (Ending::Silent, Pause::BackOff),
            (refused(400, None), Pause::BackOff),
            (refused(401, None), five_minutes),
            (refused(403, Some(30)), five_minutes),
            (refused(403, Some(900)), Pause::AtLeast(Duration::from_secs(900))),
            (refused(429, None), Pause::BackOff),
            (refused(429, Some(7)), Pause::AtLeast(Duration::from_secs(7))),
            (refused(503, Some(7)), Pause::AtLeast(Duration::from_secs(7))),
            (
                Ending::Drained { reconnect_after: Duration::from_secs(3) },
                Pause::Exactly(Duration::from_secs(3)),
            ),
        ];
        for (ending, pause) in table {
            assert_eq!(pause_after(&ending), pause, "{ending:?}");
        }
    }

    #[test]
    fn the_waits_have_full_jitter_under_ceilings_from_half_a_second_to_a_minute() {
        let ceilings_ms = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        let mut longest = [Duration::ZERO; 9];
        let mut shortest = [Duration::MAX; 9];
        for _ in 0..2000 {
            let mut waits = Waits::default();
            for step in 0..9 {
                let wait = waits.next(&Ending::Silent, None);
                longest[step] = longest[step].max(wait);
                shortest[step] = shortest[step].min(wait);
            }
        }
        for (step, ceiling_ms) in ceilings_ms.into_iter().enumerate() {
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(longest[step] <= ceiling, "{step}: {:?}", longest[step]);
            assert!(
                longest[step] > ceiling.mul_f64(0.9) && shortest[step] < ceiling.mul_f64(0.1),
                "{step}"
            );
        }
    }

    #[test]
    fn a_good_connection_starts_the_waits_anew_and_a_quarrel_does_not() {
        let good = Some(Duration::from_secs(60));
        let lost = Ending::Lost { error: "reset".to_owned() };
        for (ending, welcomed_for, expected) in [
            (&lost, good, true),
            (&lost, Some(Duration::from_secs(1)), false),
            (&lost, None, false),
            (&closed(1001), good, true),
            (&closed(4001), good, false),
            (&closed(4029), good, false),
        ] {
            assert_eq!(was_good(ending, welcomed_for), expected, "{ending:?}");
        }
    }
}
