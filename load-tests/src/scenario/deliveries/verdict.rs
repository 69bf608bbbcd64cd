//! What must hold of deliveries at the end, whatever their receivers did.
//!
//! - **D1** Every event that the rule called for has its delivery, and one only.
//! - **D2** A delivery that is `delivered` was accepted by its receiver, and shows the attempt.
//! - **D3** Every other one ended, or says when it is tried next.
//! - **D4** What is sent to a receiver that accepts everything is delivered, or made pointless by a newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulse_protocol::api::{AttemptOutcome, Delivery, DeliveryState};

use crate::checker::Fault;

/// One delivery as the hub lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    /// Number of the event that called for it.
    pub(crate) seq: u64,
    pub(crate) state: DeliveryState,
    pub(crate) is_scheduled: bool,
    pub(crate) shows_acceptance: bool,
}

impl From<&Delivery> for Listed {
    fn from(delivery: &Delivery) -> Self {
        let accepted = |outcome| outcome == AttemptOutcome::Accepted;
        Self {
            id: delivery.id.to_string(),
            seq: delivery.seq,
            state: delivery.state,
            is_scheduled: delivery.next_attempt_at.is_some(),
            shows_acceptance: delivery.attempts.iter().any(|attempt| accepted(attempt.outcome)),
        }
    }
}

/// One channel at the end.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    /// Whose it is, for people.
    pub(crate) name: &'a str,
    pub(crate) called: &'a BTreeSet<u64>,
    pub(crate) listed: &'a [Listed],
    /// By delivery id: how often its receiver accepted it.
    pub(crate) accepted: &'a HashMap<String, u32>,
    pub(crate) always_accepts: bool,
}

/// How many deliveries are in each state.
pub(crate) fn tally(listed: &[Listed]) -> BTreeMap<&'static str, usize> {
    let mut states = BTreeMap::new();
    for one in listed {
        *states.entry(one.state.as_str()).or_default() += 1;
    }
    states
}

pub(crate) fn judge(case: &Case<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut by_event: BTreeMap<u64, u32> = BTreeMap::new();
    for one in case.listed {
        *by_event.entry(one.seq).or_default() += 1;
        faults.extend(fault_of(case, one));
    }
    for seq in case.called.iter().filter(|seq| !by_event.contains_key(seq)) {
        faults.push(Fault::Lost { what: format!("{}: no delivery for event {seq}", case.name) });
    }
    for (seq, _) in by_event.iter().filter(|(_, count)| **count > 1) {
        faults.push(Fault::Repeated { what: format!("{}: deliveries for event {seq}", case.name) });
    }
    for seq in by_event.keys().filter(|seq| !case.called.contains(seq)) {
        let what = format!("{}: a delivery for event {seq}", case.name);
        faults.push(Fault::NeverSent { what });
    }
    faults
}

fn fault_of(case: &Case<'_>, one: &Listed) -> Option<Fault> {
    let what = || format!("{}: delivery {}", case.name, one.id);
    let broken = |text: &str| Some(Fault::Broken(format!("{} {text}", what())));
    match one.state {
        DeliveryState::Delivered if !case.accepted.contains_key(&one.id) => {
            Some(Fault::Lost { what: format!("{}: delivered, but never accepted", what()) })
        }
        DeliveryState::Delivered if !one.shows_acceptance => {
            broken("is delivered and shows no attempt that was accepted")
        }
        DeliveryState::Queued | DeliveryState::Retrying if !one.is_scheduled => {
            broken("has neither ended nor a next attempt")
        }
        DeliveryState::Discarded => broken("was discarded by nobody"),
        DeliveryState::Delivered | DeliveryState::Superseded => None,
        state if case.always_accepts => broken(&format!("is `{state}`, its receiver was there")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, seq: u64, state: DeliveryState) -> Listed {
        let is_open = matches!(state, DeliveryState::Queued | DeliveryState::Retrying);
        Listed {
            id: id.to_owned(),
            seq,
            state,
            is_scheduled: is_open,
            shows_acceptance: state == DeliveryState::Delivered,
        }
    }

    fn verdict(listed: &[Listed], always_accepts: bool) -> Vec<Fault> {
        let called = BTreeSet::from([1, 2]);
        let accepted = HashMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let case =
            Case { name: "fast", called: &called, listed, accepted: &accepted, always_accepts };
        judge(&case)
    }

    #[test]
    fn what_was_accepted_ended_or_waits_is_well() {
        let delivered =
            [one("a", 1, DeliveryState::Delivered), one("b", 2, DeliveryState::Delivered)];
        assert_eq!(verdict(&delivered, true), []);
        let others = [one("c", 1, DeliveryState::Dead), one("d", 2, DeliveryState::Retrying)];
        assert_eq!(verdict(&others, false), []);
    }

    #[test]
    fn a_lie_is_found_out() {
        let listed = [one("a", 1, DeliveryState::Delivered), one("x", 2, DeliveryState::Delivered)];
        let faults = verdict(&listed, false);
        assert!(matches!(&faults[..], [Fault::Lost { what }] if what.contains("delivery x")));
        let mut silent = one("b", 2, DeliveryState::Delivered);
        silent.shows_acceptance = false;
        let faults = verdict(&[one("a", 1, DeliveryState::Delivered), silent], false);
        assert!(matches!(&faults[..], [Fault::Broken(text)] if text.contains("shows no attempt")));
    }

    #[test]
    fn what_vanished_or_came_from_nowhere_is_found_out() {
        let faults = verdict(&[one("a", 1, DeliveryState::Delivered)], false);
        assert!(matches!(&faults[..], [Fault::Lost { what }] if what.contains("event 2")));
        let twice = [
            one("a", 1, DeliveryState::Delivered),
            one("b", 1, DeliveryState::Delivered),
            one("c", 2, DeliveryState::Dead),
            one("d", 3, DeliveryState::Dead),
        ];
        let faults = verdict(&twice, false);
        assert!(matches!(&faults[..], [Fault::Repeated { .. }, Fault::NeverSent { .. }]));
    }

    #[test]
    fn what_lies_about_is_found_out() {
        let mut stuck = one("c", 2, DeliveryState::Retrying);
        stuck.is_scheduled = false;
        let faults = verdict(&[one("a", 1, DeliveryState::Delivered), stuck], false);
        assert!(matches!(&faults[..], [Fault::Broken(text)] if text.contains("neither ended")));
    }

    #[test]
    fn a_receiver_that_takes_everything_gets_everything() {
        let listed = [one("a", 1, DeliveryState::Delivered), one("c", 2, DeliveryState::Dead)];
        assert_eq!(verdict(&listed, true).len(), 1);
        let newer = [one("a", 1, DeliveryState::Delivered), one("c", 2, DeliveryState::Superseded)];
        assert_eq!(verdict(&newer, true), []);
    }
}
