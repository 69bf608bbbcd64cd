//! What a channel has to deliver, in lanes: one for each resource and recipient, in which what is said of how the
//! resource is keeps its order. What merely happened, and a digest, has a lane of its own: it waits for nothing, and
//! nothing waits for it.
//!
//! - **L1** Of one lane one delivery is under way at a time, the oldest first.
//! - **L2** One that failed is superseded as soon as a newer one waits in its lane; one that was never tried is tried.
//! - **L3** A lane that waits delays no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pulse_domain::record::DeliveryRecord;
use pulse_protocol::Timestamp;
use pulse_protocol::api::Reason;
use pulse_protocol::ids::DeliveryId;

use crate::ports::DueDelivery;

/// Where order is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// What one recipient is told of how one resource is.
    Of {
        /// The resource's id.
        resource: String,
        /// A mail address, where the channel has several.
        recipient: Option<String>,
    },
    /// A delivery that has no order among others.
    Alone(DeliveryId),
}

impl Lane {
    fn of(delivery: &DeliveryRecord) -> Self {
        if delivery.resource.is_empty() || !says_what_is(delivery) {
            return Self::Alone(delivery.id);
        }
        let (resource, recipient) = (delivery.resource.clone(), delivery.content.recipient.clone());
        Self::Of { resource, recipient }
    }
}

/// What is to be done with a lane next.
#[derive(Debug)]
pub(super) struct Work {
    /// The lane, which does nothing else until this is finished.
    pub(super) lane: Lane,
    /// Failed, oldest first; not to be tried any more if `next` may be tried.
    pub(super) superseded: Vec<DueDelivery>,
    /// What supersedes them, if there are any.
    pub(super) next: DueDelivery,
    /// Whether it is to be tried now; otherwise it only supersedes.
    pub(super) is_turn: bool,
}

/// Deliveries that are known, and those under way.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    waiting: BTreeMap<Lane, VecDeque<DueDelivery>>,
    busy: BTreeMap<Lane, Vec<DeliveryId>>,
}

fn order(due: &DueDelivery) -> (u64, DeliveryId) {
    (due.delivery.event_seq, due.delivery.id)
}

impl Lanes {
    /// How many are known and not under way.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// How many lanes can start now.
    pub(super) fn startable(&self, now: Timestamp) -> usize {
        self.idle().filter(|(_, waiting)| starts(waiting, now).is_some()).count()
    }

    /// Lanes with nothing under way.
    fn idle(&self) -> impl Iterator<Item = (&Lane, &VecDeque<DueDelivery>)> {
        self.waiting.iter().filter(move |(lane, _)| !self.busy.contains_key(*lane))
    }

    /// How many lanes have something under way.
    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }

    /// Whether it is under way.
    pub(super) fn is_under_way(&self, delivery_id: DeliveryId) -> bool {
        self.busy.values().flatten().any(|id| *id == delivery_id)
    }

    /// What is under way in a lane.
    pub(super) fn under_way_in(&self, lane: &Lane) -> Vec<DeliveryId> {
        self.busy.get(lane).cloned().unwrap_or_default()
    }

    /// Takes what was read. What is known already is newer than that, and stays as it is.
    pub(super) fn add(&mut self, due: DueDelivery) {
        if self.is_under_way(due.delivery.id) {
            return;
        }
        insert(self.waiting.entry(Lane::of(&due.delivery)).or_default(), due);
    }

    /// Forgets one that waits.
    pub(super) fn forget(&mut self, delivery_id: DeliveryId) {
        for lane in self.waiting.values_mut() {
            lane.retain(|due| due.delivery.id != delivery_id);
        }
        self.waiting.retain(|_, lane| !lane.is_empty());
    }

    /// Forgets all that wait; they are in the store.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Forgets lanes that can neither start now nor have something under way; they are in the store.
    pub(super) fn forget_blocked(&mut self, now: Timestamp) {
        let busy = &self.busy;
        self.waiting
            .retain(|lane, waiting| busy.contains_key(lane) || starts(waiting, now).is_some());
    }

    /// What is to be done next, the longest due first.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Work> {
        let first = self.idle().filter_map(|(lane, waiting)| Some((starts(waiting, now)?, lane)));
        let lane = first.min()?.1.clone();
        let waiting = self.waiting.get_mut(&lane)?;
        let count = superseded_in_front(waiting);
        let superseded: Vec<_> = waiting.drain(..count).collect();
        let next = waiting.pop_front()?;
        let is_turn = next.delivery.next_attempt_at.is_some_and(|at| at <= now);
        if waiting.is_empty() {
            self.waiting.remove(&lane);
        }
        let under_way = superseded.iter().chain([&next]).map(|due| due.delivery.id).collect();
        self.busy.insert(lane.clone(), under_way);
        Some(Work { lane, superseded, next, is_turn })
    }

    /// What was under way in a lane is finished. What is to be tried again comes back to its place if another of its
    /// lane waits; if none does, it is found in the store again when it is due.
    pub(super) fn finish(&mut self, lane: &Lane, again: Vec<DueDelivery>) {
        self.busy.remove(lane);
        if let Some(waiting) = self.waiting.get_mut(lane) {
            again.into_iter().for_each(|due| insert(waiting, due));
        }
    }
}

fn insert(lane: &mut VecDeque<DueDelivery>, due: DueDelivery) {
    if let Err(at) = lane.binary_search_by_key(&order(&due), order) {
        lane.insert(at, due);
    }
}

/// Since when a lane can start, and with what; none if it cannot yet.
fn starts(lane: &VecDeque<DueDelivery>, now: Timestamp) -> Option<(Timestamp, (u64, DeliveryId))> {
    let at = superseded_in_front(lane);
    let head = lane.get(at)?;
    let due_at = head.delivery.next_attempt_at?;
    (at > 0 || due_at <= now).then(|| (due_at, order(head)))
}

/// Whether it says how a resource is, so that a newer one of that sort says all that matters.
const fn says_what_is(delivery: &DeliveryRecord) -> bool {
    match delivery.content.reason {
        Reason::Alert | Reason::Recovery | Reason::Flapping | Reason::Escalation => true,
        Reason::Event | Reason::Digest => false,
    }
}

/// How many in front of a lane failed and are superseded by one behind them.
fn superseded_in_front(lane: &VecDeque<DueDelivery>) -> usize {
    let failed = lane.iter().take_while(|due| due.delivery.tries > 0).count();
    if failed < lane.len() { failed } else { failed.saturating_sub(1) }
}

/// Ids of deliveries whose rows changed while rows were being read.
pub(super) type Touched = BTreeSet<DeliveryId>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use pulse_domain::record::{Content, JournalEvent};
    use pulse_protocol::api::DeliveryState;
    use pulse_protocol::ids::{ChannelId, EventId, RuleId};
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000);

    fn due(seq: u64, resource: &str, tries: u32, at: i64) -> DueDelivery {
        let event = JournalEvent {
            seq,
            id: EventId::from_uuid(Uuid::from_u128(seq.into())),
            name: "device.offline".into(),
            at: NOW,
            data: "{}".into(),
        };
        let delivery = DeliveryRecord {
            id: DeliveryId::from_uuid(Uuid::from_u128(seq.into())),
            channel_id: ChannelId::from_uuid(Uuid::nil()),
            rule_id: RuleId::from_uuid(Uuid::nil()),
            event_id: event.id,
            event_seq: seq,
            event_name: event.name.to_string(),
            resource: resource.to_owned(),
            content: Content::about(Reason::Alert, resource),
            state: if tries == 0 { DeliveryState::Queued } else { DeliveryState::Retrying },
            tries,
            next_attempt_at: Some(Timestamp::from_unix_ms(at)),
            created_at: NOW,
        };
        DueDelivery { delivery, event }
    }

    /// One that says what happened, not what is.
    fn happened(seq: u64, resource: &str, tries: u32, at: i64) -> DueDelivery {
        let mut due = due(seq, resource, tries, at);
        due.delivery.content.reason = Reason::Event;
        due
    }

    fn lanes(all: impl IntoIterator<Item = DueDelivery>) -> Lanes {
        let mut lanes = Lanes::default();
        all.into_iter().for_each(|due| lanes.add(due));
        lanes
    }

    /// Numbers of what is superseded and tried next.
    fn next(lanes: &mut Lanes) -> Option<(Vec<u64>, Option<u64>)> {
        let work = lanes.next(NOW)?;
        let superseded = work.superseded.iter().map(|due| due.delivery.event_seq).collect();
        Some((superseded, work.is_turn.then_some(work.next.delivery.event_seq)))
    }

    #[test]
    fn the_oldest_of_a_lane_is_tried_first_and_alone() {
        let mut lanes = lanes([due(2, "a", 0, 0), due(1, "a", 0, 9), due(3, "b", 0, 10)]);
        assert_eq!(next(&mut lanes), Some((vec![], Some(1))));
        assert_eq!(next(&mut lanes), Some((vec![], Some(3))), "another lane does not wait");
        assert_eq!(next(&mut lanes), None);
    }

    #[test]
    fn one_that_failed_makes_way_for_a_newer_one() {
        let mut lanes = lanes([due(1, "a", 1, 900_000), due(2, "a", 3, 0), due(3, "a", 0, 0)]);
        assert_eq!(next(&mut lanes), Some((vec![1, 2], Some(3))));
    }

    #[test]
    fn the_last_one_that_failed_waits_until_it_is_due() {
        let mut early = lanes([due(1, "a", 2, 1_001)]);
        assert_eq!(next(&mut early), None);
        let mut lanes = lanes([due(1, "a", 1, 0), due(2, "a", 2, 1_001)]);
        assert_eq!(next(&mut lanes), Some((vec![1], None)));
    }

    #[test]
    fn what_comes_back_is_superseded_only_if_another_waits() {
        let mut lanes = lanes([due(1, "a", 0, 0), due(2, "a", 0, 0)]);
        let work = lanes.next(NOW).unwrap();
        lanes.finish(&work.lane, vec![due(1, "a", 1, 900_000)]);
        assert_eq!(next(&mut lanes), Some((vec![1], Some(2))));
        lanes.finish(&work.lane, vec![due(2, "a", 1, 900_000)]);
        assert_eq!((lanes.waiting(), lanes.busy()), (0, 0), "it is in the store");
    }

    #[test]
    fn what_is_read_again_changes_nothing() {
        let mut lanes = lanes([due(1, "a", 0, 0), due(2, "a", 0, 0)]);
        let work = lanes.next(NOW).unwrap();
        lanes.add(due(1, "a", 0, 0));
        lanes.add(due(2, "a", 0, 0));
        assert_eq!(lanes.waiting(), 1);
        lanes.finish(&work.lane, vec![]);
        assert_eq!(next(&mut lanes), Some((vec![], Some(2))));
    }

    #[test]
    fn deliveries_about_nothing_named_do_not_wait_for_each_other() {
        let mut lanes = lanes([due(1, "", 1, 0), due(2, "", 0, 0)]);
        assert_eq!(next(&mut lanes), Some((vec![], Some(1))));
        assert_eq!(next(&mut lanes), Some((vec![], Some(2))));
    }

    #[test]
    fn what_happened_waits_for_nothing_and_nothing_waits_for_it() {
        let mut lanes = lanes([
            happened(1, "a", 1, 900_000),
            due(2, "a", 0, 0),
            happened(3, "a", 0, 0),
            due(4, "a", 0, 0),
        ]);
        assert_eq!(next(&mut lanes), Some((vec![], Some(2))));
        assert_eq!(next(&mut lanes), Some((vec![], Some(3))));
        assert_eq!(next(&mut lanes), None, "the first is not due, the last waits for the second");
    }

    #[test]
    fn what_comes_back_stays_behind_an_older_one_that_was_replayed() {
        let mut lanes = lanes([due(2, "a", 0, 0)]);
        let work = lanes.next(NOW).unwrap();
        lanes.add(due(1, "a", 0, 0));
        lanes.finish(&work.lane, vec![due(2, "a", 1, 900_000)]);
        assert_eq!(next(&mut lanes), Some((vec![], Some(1))));
    }

    #[test]
    fn lanes_whose_retry_lies_ahead_take_no_room() {
        let mut lanes = lanes([due(1, "a", 1, 1_001), due(2, "b", 0, 0), due(3, "c", 1, 1_001)]);
        assert_eq!((lanes.waiting(), lanes.startable(NOW)), (3, 1));
        lanes.add(due(4, "c", 0, 1_001));
        assert_eq!(lanes.startable(NOW), 2, "a newer one waits");
        lanes.forget_blocked(NOW);
        assert_eq!((lanes.waiting(), lanes.startable(NOW)), (3, 2));
    }

    proptest! {
        /// L1 to L3: whatever waits and whatever fails, all are tried or superseded, each lane in order, and the last
        /// of each lane is never superseded.
        #[test]
        fn every_lane_is_worked_off_in_order(
            all in prop::collection::vec((0_u8..4, 0_u32..2), 1..40),
            fails in prop::collection::vec(prop::bool::ANY, 40),
        ) {
            let resources = ["a", "b", "c", "d"];
            let mut last: BTreeMap<&str, u64> = BTreeMap::new();
            let mut lanes = Lanes::default();
            for (seq, (lane, tries)) in (1..).zip(&all) {
                let resource = resources[usize::from(*lane)];
                last.insert(resource, seq);
                lanes.add(due(seq, resource, *tries, 0));
            }
            let mut done: BTreeMap<String, u64> = BTreeMap::new();
            let mut fails = fails.into_iter();
            let mut count = 0;
            while let Some(work) = lanes.next(NOW) {
                for due in &work.superseded {
                    let delivery = &due.delivery;
                    prop_assert!(done.insert(delivery.resource.clone(), delivery.event_seq) < Some(delivery.event_seq));
                    prop_assert_ne!(last[&*delivery.resource], delivery.event_seq);
                    count += 1;
                }
                if !work.is_turn {
                    lanes.finish(&work.lane, vec![work.next]);
                    continue;
                }
                let tried = work.next;
                let (resource, seq) = (tried.delivery.resource.clone(), tried.delivery.event_seq);
                if fails.next().unwrap_or(false) {
                    let mut again = tried;
                    again.delivery.tries += 1;
                    let comes_back = lanes.waiting.contains_key(&work.lane);
                    lanes.finish(&work.lane, vec![again]);
                    if comes_back {
                        continue;
                    }
                } else {
                    lanes.finish(&work.lane, vec![]);
                }
                prop_assert!(done.insert(resource, seq) < Some(seq));
                count += 1;
            }
            prop_assert_eq!(count, all.len());
            prop_assert_eq!((lanes.waiting(), lanes.busy()), (0, 0));
        }
    }
}
