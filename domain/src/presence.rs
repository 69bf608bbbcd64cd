//! Presence of one agent: connected, lingering, or offline.
//!
//! A dropped socket is not an outage. The agent lingers first, and is announced offline only when it stays away
//! for the whole grace, so a lost packet, a restarted hub or a newer connection wakes nobody at night. An agent
//! that says when it will be back is given until then.
//!
//! - **P1** Only `Online` holds a connection, and it holds exactly one: the newest.
//! - **P2** `Lingering` always has an end, and a wake-up armed for it.
//! - **P3** What is announced alternates: no `CameOnline` while announced online, no `WentOffline` while not.
//! - **P4** News from a connection that was replaced changes nothing.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{ByeReason, CloseCode};
use pulse_protocol::status::{AgentState, Cause};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::decision::Decision;

/// Names one socket, on whichever node it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub Uuid);

/// One agent's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Where the agent is in its life.
    pub phase: Phase,
    /// Since when it is as it was last announced.
    pub since: Timestamp,
}

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection was ever welcomed.
    NeverConnected,
    /// It holds this connection.
    Online(ConnectionId),
    /// Announced online, without a connection: to be announced offline at `until`, for `cause`.
    Lingering {
        /// End of the grace.
        until: Timestamp,
        /// What will be announced.
        cause: Cause,
    },
    /// Announced offline.
    Offline,
}

/// What may happen to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A socket finished its handshake; it replaces any older one.
    Connect(ConnectionId),
    /// A socket ended, for `cause` (`connection_closed` or `heartbeat_timeout`).
    HangUp(ConnectionId, Cause),
    /// The agent announced its leave.
    Bye(ConnectionId, ByeReason, Option<Duration>),
    /// A person switched the agent off, or its key was revoked.
    SwitchOff(CloseCode),
    /// The hub started and finds the agent announced online.
    Restore {
        /// From when the grace counts: the hub being ready.
        ready_at: Timestamp,
        /// Until when its absence is planned.
        back_by: Option<Timestamp>,
    },
    /// The wake-up asked for by [`Effect::WakeAt`] is due.
    Wake,
}

/// What became true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It holds a connection; announced before already.
    Attached(ConnectionId),
    /// It holds none; the grace runs.
    Detached {
        /// End of the grace.
        until: Timestamp,
        /// What will be announced then.
        cause: Cause,
    },
    /// Announced online.
    CameOnline {
        /// The connection it holds.
        connection: ConnectionId,
        /// How it was announced before.
        previous: AgentState,
    },
    /// Announced offline.
    WentOffline {
        /// Why.
        cause: Cause,
    },
}

/// What must be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Close a socket that is no longer trusted.
    Close(ConnectionId, CloseCode),
    /// Send [`Command::Wake`] at this time or later.
    WakeAt(Timestamp),
}

impl Presence {
    /// An agent nobody has heard from, enrolled at `since`.
    #[must_use]
    pub const fn new(since: Timestamp) -> Self {
        Self { phase: Phase::NeverConnected, since }
    }

    /// How the agent was last announced.
    #[must_use]
    pub const fn announced(self) -> AgentState {
        match self.phase {
            Phase::NeverConnected => AgentState::NeverConnected,
            Phase::Online(_) | Phase::Lingering { .. } => AgentState::Online,
            Phase::Offline => AgentState::Offline,
        }
    }

    /// How the agent is now.
    #[must_use]
    pub const fn state(self) -> AgentState {
        match self.phase {
            Phase::Lingering { .. } => AgentState::Lingering,
            _ => self.announced(),
        }
    }

    /// The connection it holds.
    #[must_use]
    pub const fn connection(self) -> Option<ConnectionId> {
        match self.phase {
            Phase::Online(connection) => Some(connection),
            _ => None,
        }
    }

    /// When it must be woken.
    #[must_use]
    pub const fn wake_at(self) -> Option<Timestamp> {
        match self.phase {
            Phase::Lingering { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Answers one command; `grace` is how long an agent may be away unannounced.
    #[must_use]
    pub fn decide(
        self,
        command: Command,
        now: Timestamp,
        grace: Duration,
    ) -> Decision<Event, Effect> {
        let linger = |until: Timestamp, cause| {
            Decision::new(vec![Event::Detached { until, cause }], vec![Effect::WakeAt(until)])
        };
        match (self.phase, command) {
            (Phase::NeverConnected | Phase::Offline, Command::Connect(connection)) => {
                let previous = self.announced();
                Decision::new(vec![Event::CameOnline { connection, previous }], vec![])
            }
            (Phase::Lingering { .. }, Command::Connect(connection)) => {
                Decision::new(vec![Event::Attached(connection)], vec![])
            }
            (Phase::Online(older), Command::Connect(newer)) => Decision::new(
                vec![Event::Attached(newer)],
                vec![Effect::Close(older, CloseCode::Superseded)],
            ),
            (Phase::Online(held), Command::HangUp(from, cause)) if held == from => {
                linger(now + grace, cause)
            }
            (Phase::Online(held), Command::Bye(from, reason, expect_back)) if held == from => {
                let mut decision = match (reason, expect_back) {
                    (ByeReason::Shutdown, None) => {
                        Decision::new(vec![Event::WentOffline { cause: Cause::Bye }], vec![])
                    }
                    (_, Some(away)) => linger(now + away + grace, Cause::ByeOverdue),
                    (_, None) => linger(now + grace, Cause::ConnectionClosed),
                };
                decision.effects.push(Effect::Close(from, CloseCode::Normal));
                decision
            }
            (Phase::Online(held), Command::SwitchOff(code)) => Decision::new(
                vec![Event::WentOffline { cause: Cause::Disabled }],
                vec![Effect::Close(held, code)],
            ),
            (Phase::Lingering { .. }, Command::SwitchOff(_)) => {
                Decision::new(vec![Event::WentOffline { cause: Cause::Disabled }], vec![])
            }
            (
                Phase::Online(_) | Phase::Lingering { .. },
                Command::Restore { ready_at, back_by },
            ) => match back_by.filter(|back_by| *back_by > ready_at + grace) {
                Some(back_by) => linger(back_by, Cause::ByeOverdue),
                None => linger(ready_at + grace, Cause::ConnectionClosed),
            },
            (Phase::Lingering { until, .. }, Command::Wake) if now < until => {
                Decision::new(vec![], vec![Effect::WakeAt(until)])
            }
            (Phase::Lingering { cause, .. }, Command::Wake) => {
                Decision::new(vec![Event::WentOffline { cause }], vec![])
            }
            // News of a replaced socket, a wake-up that lost its race, or nothing to switch off or restore.
            (
                _,
                Command::HangUp(..)
                | Command::Bye(..)
                | Command::SwitchOff(_)
                | Command::Restore { .. }
                | Command::Wake,
            ) => Decision::nothing(),
        }
    }

    /// Folds an event that became true at `at` into the state.
    #[must_use]
    pub const fn apply(self, event: Event, at: Timestamp) -> Self {
        match event {
            Event::Attached(connection) => Self { phase: Phase::Online(connection), ..self },
            Event::Detached { until, cause } => {
                Self { phase: Phase::Lingering { until, cause }, ..self }
            }
            Event::CameOnline { connection, .. } => {
                Self { phase: Phase::Online(connection), since: at }
            }
            Event::WentOffline { .. } => Self { phase: Phase::Offline, since: at },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);
    const A: ConnectionId = ConnectionId(Uuid::from_u128(1));
    const B: ConnectionId = ConnectionId(Uuid::from_u128(2));

    fn s(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ms(seconds * 1_000)
    }

    fn play(script: &[(i64, Command)]) -> (Presence, Vec<Event>, Vec<Effect>) {
        let mut presence = Presence::new(s(0));
        let (mut events, mut effects) = (vec![], vec![]);
        for &(at, command) in script {
            let decision = presence.decide(command, s(at), GRACE);
            for event in decision.events {
                presence = presence.apply(event, s(at));
                events.push(event);
            }
            effects.extend(decision.effects);
        }
        (presence, events, effects)
    }

    #[test]
    fn a_closed_socket_is_announced_after_the_grace() {
        let (presence, events, _) = play(&[
            (0, Command::Connect(A)),
            (10, Command::HangUp(A, Cause::ConnectionClosed)),
            (14, Command::Wake),
            (15, Command::Wake),
        ]);
        assert_eq!(presence, Presence { phase: Phase::Offline, since: s(15) });
        assert_eq!(
            events,
            [
                Event::CameOnline { connection: A, previous: AgentState::NeverConnected },
                Event::Detached { until: s(15), cause: Cause::ConnectionClosed },
                Event::WentOffline { cause: Cause::ConnectionClosed },
            ]
        );
    }

    #[test]
    fn a_return_within_the_grace_is_silent() {
        let (presence, events, _) = play(&[
            (0, Command::Connect(A)),
            (10, Command::HangUp(A, Cause::HeartbeatTimeout)),
            (14, Command::Connect(B)),
            (60, Command::Wake),
        ]);
        assert_eq!(presence, Presence { phase: Phase::Online(B), since: s(0) });
        assert_eq!(events.last(), Some(&Event::Attached(B)));
    }

    #[test]
    fn a_replaced_socket_cannot_take_the_agent_down() {
        let (presence, _, effects) = play(&[
            (0, Command::Connect(A)),
            (1, Command::Connect(B)),
            (2, Command::HangUp(A, Cause::ConnectionClosed)),
            (3, Command::Bye(A, ByeReason::Shutdown, None)),
        ]);
        assert_eq!(presence.phase, Phase::Online(B));
        assert_eq!(effects, [Effect::Close(A, CloseCode::Superseded)]);
    }

    #[test]
    fn a_shutdown_without_a_return_is_announced_at_once() {
        let (presence, events, _) =
            play(&[(0, Command::Connect(A)), (9, Command::Bye(A, ByeReason::Shutdown, None))]);
        assert_eq!(presence, Presence { phase: Phase::Offline, since: s(9) });
        assert_eq!(events.last(), Some(&Event::WentOffline { cause: Cause::Bye }));
    }

    #[test]
    fn a_planned_leave_is_overdue_only_after_its_own_time_and_the_grace() {
        let leave = Command::Bye(A, ByeReason::Upgrade, Some(Duration::from_secs(60)));
        let (presence, _, _) = play(&[(0, Command::Connect(A)), (1, leave), (65, Command::Wake)]);
        assert_eq!(presence.state(), AgentState::Lingering);
        let (presence, events, _) =
            play(&[(0, Command::Connect(A)), (1, leave), (66, Command::Wake)]);
        assert_eq!(presence.state(), AgentState::Offline);
        assert_eq!(events.last(), Some(&Event::WentOffline { cause: Cause::ByeOverdue }));
    }

    #[test]
    fn a_restarted_hub_gives_everybody_the_grace_from_its_being_ready() {
        let restore = Command::Restore { ready_at: s(100), back_by: None };
        let (presence, events, effects) = play(&[(0, Command::Connect(A)), (100, restore)]);
        assert_eq!(presence.wake_at(), Some(s(105)));
        assert_eq!(events.len(), 2);
        assert_eq!(effects, [Effect::WakeAt(s(105))]);
        let restore = Command::Restore { ready_at: s(100), back_by: Some(s(300)) };
        let (presence, _, _) = play(&[(0, Command::Connect(A)), (100, restore)]);
        assert_eq!(presence.wake_at(), Some(s(300)));
    }

    fn command() -> impl Strategy<Value = Command> {
        let connection = prop_oneof![Just(A), Just(B)];
        let cause = prop_oneof![Just(Cause::ConnectionClosed), Just(Cause::HeartbeatTimeout)];
        let reason = prop_oneof![Just(ByeReason::Shutdown), Just(ByeReason::Restart)];
        let away = prop::option::of((0_u64..50).prop_map(Duration::from_secs));
        prop_oneof![
            connection.clone().prop_map(Command::Connect),
            (connection.clone(), cause).prop_map(|(from, cause)| Command::HangUp(from, cause)),
            (connection, reason, away).prop_map(|(c, r, a)| Command::Bye(c, r, a)),
            Just(Command::SwitchOff(CloseCode::KeyRevoked)),
            (0_i64..1_000).prop_map(|at| Command::Restore { ready_at: s(at), back_by: None }),
            Just(Command::Wake),
        ]
    }

    proptest! {
        /// P1 to P4 hold after any script.
        #[test]
        fn the_invariants_hold_after_any_script(
            steps in prop::collection::vec((0_i64..10, command()), 0..80),
        ) {
            let mut presence = Presence::new(s(0));
            let (mut now, mut newest) = (0, None);
            for (gap, command) in steps {
                now += gap;
                let before = presence;
                if let Command::Connect(from) = command {
                    newest = Some(from);
                }
                let decision = before.decide(command, s(now), GRACE);
                for event in &decision.events {
                    match event {
                        Event::CameOnline { .. } => prop_assert_ne!(presence.announced(), AgentState::Online),
                        Event::WentOffline { .. } => prop_assert_eq!(presence.announced(), AgentState::Online),
                        Event::Attached(_) | Event::Detached { .. } => {}
                    }
                    presence = presence.apply(*event, s(now));
                }
                if let Phase::Online(held) = presence.phase {
                    prop_assert_eq!(Some(held), newest);
                }
                if let Some(until) = presence.wake_at() {
                    let armed = decision.effects.contains(&Effect::WakeAt(until));
                    prop_assert!(armed || presence == before);
                }
                if let Command::HangUp(from, _) | Command::Bye(from, ..) = command
                    && before.connection() != Some(from)
                {
                    prop_assert_eq!(presence, before);
                }
            }
        }
    }
}
