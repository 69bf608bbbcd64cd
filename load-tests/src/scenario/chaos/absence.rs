//! Which announcements of an agent's absence were true, as the agent itself knows.
//!
//! - **A1** An agent whose connection ended may be announced once the grace has passed; what a fault lasted counts
//!   for nothing, since a hub that was away counts its grace from its being ready.
//! - **A2** An agent that is connected to a node which is cut off or stands still has no frame pass, and may be
//!   announced after timeout and grace, as after any silence.
//! - **A3** Nobody else may be announced.

use std::time::{Duration, Instant};

use super::fault::Hurt;
use crate::scenario::Absence;
use crate::session::Session;

/// The clocks of two processes, and the milliseconds of an event's time, agree so well.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Why an announcement is false; none if it is true.
pub(crate) fn is_false(
    at: Instant,
    sessions: &[Session],
    hurts: &[Hurt],
    allowed: Absence,
) -> Option<String> {
    let at = at + TOLERANCE;
    let begun: Vec<&Session> = sessions.iter().filter(|one| one.welcomed_at <= at).collect();
    let Some(last) = begun.last() else { return Some("it had never been there".to_owned()) };
    let hurt = unheard_since(last, hurts, at);
    if hurt.is_some_and(|since| at.duration_since(since) >= allowed.timeout + allowed.grace) {
        return None;
    }
    if last.ended_at > at {
        let hurt = hurt.map(|since| at.duration_since(since));
        let unheard = hurt.map_or(String::new(), |since| format!(", which was hurt for {since:?}"));
        return Some(format!("it was connected to {}{unheard}", last.address));
    }
    let away = at.duration_since(counted_from(last.ended_at, hurts, at));
    (away < allowed.grace).then(|| {
        let in_all = at.duration_since(last.ended_at);
        format!("it had been away for {in_all:?}, of which {away:?} after the last fault")
    })
}

/// Since when nothing that came over this connection was passed on; it must have been so until `at`.
fn unheard_since(session: &Session, hurts: &[Hurt], at: Instant) -> Option<Instant> {
    let until = session.ended_at.min(at);
    let of_it = hurts.iter().filter(|hurt| hurt.address.is_none_or(|on| on == session.address));
    let lasting = of_it.filter(|hurt| hurt.from <= until && hurt.to >= until);
    lasting.map(|hurt| hurt.from.max(session.welcomed_at)).min()
}

/// The end of the connection, or of the last fault that was still there then or came after it.
fn counted_from(ended_at: Instant, hurts: &[Hurt], at: Instant) -> Instant {
    let since = hurts.iter().filter(|hurt| hurt.to >= ended_at && hurt.from <= at);
    since.map(|hurt| hurt.to.min(at)).fold(ended_at, Instant::max)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const ALLOWED: Absence =
        Absence { timeout: Duration::from_secs(12), grace: Duration::from_secs(5) };

    struct Play(Instant);

    impl Play {
        fn at(&self, s: u64) -> Instant {
            self.0 + Duration::from_secs(s)
        }

        fn session(&self, node: u16, from: u64, to: u64) -> Session {
            let address = SocketAddr::from(([127, 0, 0, 1], node));
            Session { address, welcomed_at: self.at(from), ended_at: self.at(to) }
        }

        fn hurt(&self, node: u16, from: u64, to: u64) -> Hurt {
            let address = Some(SocketAddr::from(([127, 0, 0, 1], node)));
            Hurt { address, from: self.at(from), to: self.at(to) }
        }
    }

    #[test]
    fn an_agent_that_is_connected_is_not_away() {
        let play = Play(Instant::now());
        let sessions = [play.session(1, 0, 10), play.session(2, 11, 100)];
        assert!(is_false(play.at(50), &sessions, &[], ALLOWED).is_some());
        assert!(is_false(play.at(13), &sessions[..1], &[], ALLOWED).is_some());
        assert_eq!(is_false(play.at(15), &sessions[..1], &[], ALLOWED), None);
        assert!(is_false(play.at(15), &[], &[], ALLOWED).is_some());
    }

    #[test]
    fn what_a_fault_lasts_is_no_absence() {
        let play = Play(Instant::now());
        let sessions = [play.session(1, 0, 10)];
        let hurts = [play.hurt(1, 10, 18)];
        assert!(is_false(play.at(20), &sessions, &hurts, ALLOWED).is_some());
        assert_eq!(is_false(play.at(23), &sessions, &hurts, ALLOWED), None);
    }

    #[test]
    fn a_connection_to_a_hurt_node_counts_for_timeout_and_grace() {
        let play = Play(Instant::now());
        let sessions = [play.session(1, 0, 100)];
        let hurts = [play.hurt(1, 20, 60)];
        assert!(is_false(play.at(29), &sessions, &hurts, ALLOWED).is_some());
        assert_eq!(is_false(play.at(37), &sessions, &hurts, ALLOWED), None);
        let elsewhere = [play.hurt(2, 20, 60)];
        assert!(is_false(play.at(37), &sessions, &elsewhere, ALLOWED).is_some());
    }
}
