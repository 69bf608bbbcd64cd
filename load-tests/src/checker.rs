//! What must hold at the end of a run: nothing lost, nothing repeated, nothing out of order.
//!
//! - **C1** The numbers of an org's journal, and those a dashboard received, go up by one.
//! - **C2** Every change that was acked is in the journal, once, in the order its agent sent it.
//! - **C3** Every event that a rule calls for has its delivery; every delivery is `delivered`; its receiver got it.
//! - **C4** No agent is announced offline that was back within the grace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulse_protocol::api::DeliveryState;

use crate::wire::Mark;

/// Something that must not happen, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A number, or an acked change, that never came.
    #[error("lost: {what}")]
    Lost { what: String },
    /// A number, or a change, that came twice.
    #[error("repeated: {what}")]
    Repeated { what: String },
    /// A number, or a change, that came after a later one.
    #[error("out of order: {what}")]
    OutOfOrder { what: String },
    /// Something that nobody sent.
    #[error("never sent: {what}")]
    NeverSent { what: String },
    /// Anything else that breaks the run.
    #[error("{0}")]
    Broken(String),
}

/// At most this many missing items are remembered one by one; more only happens when all is lost anyway.
const MISSING_MAX: u64 = 100_000;

/// Follows one sequence that must go up by one (C1).
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    name: String,
    next: u64,
    missing: BTreeSet<u64>,
    faults: Vec<Fault>,
}

impl Sequence {
    /// The sequence that goes on after `last`.
    pub(crate) fn after(name: impl Into<String>, last: u64) -> Self {
        Self { name: name.into(), next: last + 1, missing: BTreeSet::new(), faults: Vec::new() }
    }

    /// The last number that came, or the one it began after.
    pub(crate) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Takes the next number.
    pub(crate) fn see(&mut self, seq: u64) {
        if seq == self.next {
            self.next += 1;
        } else if seq > self.next {
            self.missing.extend((self.next..seq).take(MISSING_MAX as usize));
            self.next = seq + 1;
        } else {
            let what = format!("{} number {seq}", self.name);
            let was_missing = self.missing.remove(&seq);
            self.faults.push(if was_missing {
                Fault::OutOfOrder { what }
            } else {
                Fault::Repeated { what }
            });
        }
    }

    /// Takes a snapshot as of `seq`, which stands for all that was skipped. It must not lead back.
    pub(crate) fn jump_to(&mut self, seq: u64) {
        if seq < self.last() {
            let what = format!("{}: a snapshot led back from {} to {seq}", self.name, self.last());
            self.faults.push(Fault::Lost { what });
        }
        self.next = seq + 1;
    }

    /// Whether no number is missing before `last`.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        for (from, to) in ranges(&self.missing) {
            let what = format!("{} numbers {from} to {to}", self.name);
            self.faults.push(Fault::Lost { what });
        }
        self.faults
    }
}

fn ranges(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == number => *to = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

/// A change as its agent sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Position of the device in its agent.
    pub(crate) device: u16,
    pub(crate) online: bool,
    pub(crate) mark: Mark,
}

/// A change as the journal shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) device: u16,
    pub(crate) online: bool,
    /// Only an online event brings its mark back.
    pub(crate) mark: Option<Mark>,
}

impl Seen {
    fn shows(&self, change: &Change) -> bool {
        self.device == change.device
            && self.online == change.online
            && self.mark.is_none_or(|mark| mark == change.mark)
    }
}

/// How far around the expected place a change is looked for: the agent's window of 256 frames, with room for
/// several reports in each.
const LOOK_AROUND: usize = 4_096;

/// Compares what one agent sent, of which the first `acked` were acked, with the journal (C2).
pub(crate) fn changes(agent: &str, sent: &[Change], acked: usize, seen: &[Seen]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut missing: BTreeMap<usize, &Change> = BTreeMap::new();
    let mut next = 0;
    for one in seen {
        if sent.get(next).is_some_and(|change| one.shows(change)) {
            next += 1;
            continue;
        }
        let what = |at: usize| format!("agent {agent} change {at} (device {})", one.device);
        if let Some(at) = missing.iter().find_map(|(at, change)| one.shows(change).then_some(*at)) {
            missing.remove(&at);
            faults.push(Fault::OutOfOrder { what: what(at) });
            continue;
        }
        let ahead = (next + 1..sent.len().min(next + LOOK_AROUND)).find(|at| one.shows(&sent[*at]));
        let behind = (next.saturating_sub(LOOK_AROUND)..next.min(sent.len()))
            .rev()
            .find(|at| one.shows(&sent[*at]));
        match (ahead, behind) {
            // The nearer explanation is the better one.
            (Some(ahead), behind) if behind.is_none_or(|behind| ahead - next <= next - behind) => {
                missing.extend((next..ahead).map(|at| (at, &sent[at])));
                next = ahead + 1;
            }
            (_, Some(behind)) => faults.push(Fault::Repeated { what: what(behind) }),
            _ => faults.push(Fault::NeverSent { what: what(next) }),
        }
    }
    let unseen = missing.keys().copied().chain(next..sent.len());
    let lost: BTreeSet<u64> = unseen.filter(|at| *at < acked).map(|at| at as u64).collect();
    for (from, to) in ranges(&lost) {
        faults.push(Fault::Lost { what: format!("agent {agent} acked changes {from} to {to}") });
    }
    faults
}

/// One delivery as the hub lists it.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) id: String,
    /// Number of the event that called for it.
    pub(crate) seq: u64,
    pub(crate) state: DeliveryState,
}

/// Compares the events that called for a delivery, by their numbers, the hub's list and what the receiver got,
/// by delivery id (C3). A receiver may get a delivery twice; the hub may not make it twice.
pub(crate) fn deliveries(
    org: &str,
    called: &BTreeSet<u64>,
    listed: &[Delivered],
    received: &HashMap<String, u32>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut by_event: BTreeMap<u64, u32> = BTreeMap::new();
    for one in listed {
        *by_event.entry(one.seq).or_default() += 1;
        if one.state != DeliveryState::Delivered {
            let text = format!("org {org} delivery {} ended as `{}`", one.id, one.state);
            faults.push(Fault::Broken(text));
        } else if !received.contains_key(&one.id) {
            let what = format!("org {org} delivery {}: delivered, but not received", one.id);
            faults.push(Fault::Lost { what });
        }
    }
    for seq in called.iter().filter(|seq| !by_event.contains_key(seq)) {
        faults.push(Fault::Lost { what: format!("org {org}: no delivery for event {seq}") });
    }
    for (seq, _) in by_event.iter().filter(|(_, count)| **count > 1) {
        faults.push(Fault::Repeated { what: format!("org {org}: deliveries for event {seq}") });
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::wire::Clock;

    fn run_through(numbers: &[u64]) -> Vec<Fault> {
        let mut sequence = Sequence::after("org a", 0);
        for &number in numbers {
            sequence.see(number);
        }
        sequence.finish()
    }

    fn lost(what: &str) -> Fault {
        Fault::Lost { what: what.to_owned() }
    }

    #[test]
    fn a_whole_sequence_has_no_fault() {
        assert_eq!(run_through(&[1, 2, 3, 4]), []);
    }

    #[test]
    fn a_lost_a_repeated_and_a_swapped_number_are_told_apart() {
        assert_eq!(run_through(&[1, 2, 5]), [lost("org a numbers 3 to 4")]);
        assert_eq!(run_through(&[1, 2, 2, 3]), [Fault::Repeated { what: "org a number 2".into() }]);
        assert_eq!(
            run_through(&[1, 3, 2, 4]),
            [Fault::OutOfOrder { what: "org a number 2".into() }]
        );
    }

    #[test]
    fn a_snapshot_stands_for_what_was_skipped_but_never_leads_back() {
        let mut sequence = Sequence::after("viewer", 3);
        sequence.jump_to(10);
        sequence.see(11);
        assert_eq!(sequence.last(), 11);
        assert_eq!(sequence.clone().finish(), []);
        sequence.jump_to(9);
        assert_eq!(sequence.finish().len(), 1);
    }

    /// `count` changes of an agent that toggles its `devices` in turn, a millisecond apart.
    fn script(devices: u16, count: u64) -> Vec<Change> {
        let clock = Clock::start();
        let epoch = Instant::now();
        (0..count)
            .map(|at| Change {
                device: u16::try_from(at % u64::from(devices)).unwrap(),
                online: (at / u64::from(devices)).is_multiple_of(2),
                mark: clock.mark(epoch + Duration::from_millis(at)),
            })
            .collect()
    }

    fn journal(sent: &[Change]) -> Vec<Seen> {
        sent.iter()
            .map(|c| Seen { device: c.device, online: c.online, mark: c.online.then_some(c.mark) })
            .collect()
    }

    #[test]
    fn a_faithful_journal_has_no_fault() {
        let sent = script(4, 40);
        assert_eq!(changes("a", &sent, 40, &journal(&sent)), []);
    }

    #[test]
    fn an_unacked_tail_may_be_missing_but_an_acked_one_may_not() {
        let sent = script(4, 40);
        let short = journal(&sent[..35]);
        assert_eq!(changes("a", &sent, 35, &short), []);
        assert_eq!(changes("a", &sent, 37, &short), [lost("agent a acked changes 35 to 36")]);
    }

    #[test]
    fn every_single_lost_change_is_found() {
        let sent = script(4, 40);
        for at in 0..sent.len() {
            let mut seen = journal(&sent);
            seen.remove(at);
            let wanted = lost(&format!("agent a acked changes {at} to {at}"));
            assert_eq!(changes("a", &sent, 40, &seen), [wanted], "at {at}");
        }
    }

    #[test]
    fn every_single_repeated_change_is_found() {
        let sent = script(4, 40);
        for at in 0..sent.len() {
            let mut seen = journal(&sent);
            seen.insert(at, seen[at]);
            let faults = changes("a", &sent, 40, &seen);
            assert!(matches!(faults[..], [Fault::Repeated { .. }]), "at {at}: {faults:?}");
        }
    }

    #[test]
    fn every_single_swap_is_found() {
        let sent = script(4, 40);
        for at in 0..sent.len() - 1 {
            let mut seen = journal(&sent);
            seen.swap(at, at + 1);
            let faults = changes("a", &sent, 40, &seen);
            assert!(matches!(faults[..], [Fault::OutOfOrder { .. }]), "at {at}: {faults:?}");
        }
    }

    #[test]
    fn a_change_that_nobody_sent_is_found() {
        let sent = script(4, 40);
        let mut seen = journal(&sent);
        seen[6].device = 9;
        let faults = changes("a", &sent, 40, &seen);
        assert!(matches!(faults[..], [Fault::NeverSent { .. }, Fault::Lost { .. }]), "{faults:?}");
    }

    #[test]
    fn one_device_alone_is_followed_by_its_marks() {
        let sent = script(1, 20);
        assert_eq!(changes("a", &sent, 20, &journal(&sent)), []);
        let mut seen = journal(&sent);
        seen.drain(4..6);
        assert_eq!(changes("a", &sent, 20, &seen), [lost("agent a acked changes 4 to 5")]);
    }

    fn delivered(id: &str, seq: u64) -> Delivered {
        Delivered { id: id.to_owned(), seq, state: DeliveryState::Delivered }
    }

    #[test]
    fn deliveries_must_exist_once_end_well_and_arrive() {
        let called = BTreeSet::from([5, 7]);
        let received = HashMap::from([("dlv_5".to_owned(), 1), ("dlv_7".to_owned(), 2)]);
        let good = [delivered("dlv_5", 5), delivered("dlv_7", 7)];
        assert_eq!(deliveries("o", &called, &good, &received), []);

        let faults = deliveries("o", &called, &good[..1], &received);
        assert_eq!(faults, [lost("org o: no delivery for event 7")]);

        let faults = deliveries("o", &called, &good, &HashMap::from([("dlv_5".to_owned(), 1)]));
        assert_eq!(faults, [lost("org o delivery dlv_7: delivered, but not received")]);

        let mut stuck = good.clone();
        stuck[0].state = DeliveryState::Retrying;
        assert_eq!(deliveries("o", &called, &stuck, &received).len(), 1);

        let twice = [good[0].clone(), good[1].clone(), delivered("dlv_5", 7)];
        let faults = deliveries("o", &called, &twice, &received);
        assert!(matches!(faults[..], [Fault::Repeated { .. }]), "{faults:?}");
    }
}
