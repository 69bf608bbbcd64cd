//! What a rule would have told: the same machines, run over the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pulse_protocol::Timestamp;
use pulse_protocol::api::{Preview, PreviewItem};
use pulse_protocol::event::{DeviceStatusChanged, EventBody};
use pulse_protocol::ids::{AgentId, DeviceId, WindowId};
use pulse_protocol::status::{AgentState, Cause, DeviceStatus};
use uuid::Uuid;

use super::alert::Resource;
use super::board::{Board, Call, Out};
use super::filter::Subject;
use super::happening::{Happening, Nature};
use super::rule::Worth;
use super::scene::Scene;
use super::window::WindowRecord;
use crate::record::RuleRecord;

/// Messages shown in a preview.
const ITEMS_MAX: usize = 200;

/// Names of events that say more of an alert than a rule names: what ends it, and what it is told with.
const OF_ALERTS: [&str; 6] = [
    "agent.online",
    "agent.offline",
    "device.online",
    "device.offline",
    "device.degraded",
    "device.unknown",
];

/// The events a preview of a rule must read.
#[must_use]
pub fn names(event_types: &[String]) -> Vec<String> {
    let own = event_types.iter().map(String::as_str);
    let is_told = |name: &&str| EventBody::NAMES.contains(name) && !name.starts_with("delivery.");
    let all: BTreeSet<&str> = own.filter(is_told).chain(OF_ALERTS).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// One rule, living through a journal again.
pub struct Rehearsal<'a> {
    rule: &'a RuleRecord,
    windows: &'a BTreeMap<WindowId, WindowRecord>,
    board: Board,
    beliefs: Beliefs,
    seen: BTreeMap<Resource, (Subject, Vec<Subject>)>,
    ids: u128,
    preview: Preview,
    items: VecDeque<PreviewItem>,
}

impl<'a> Rehearsal<'a> {
    /// A rule that nothing was told to yet, from `from` on.
    #[must_use]
    pub fn new(
        rule: &'a RuleRecord,
        windows: &'a BTreeMap<WindowId, WindowRecord>,
        from: Timestamp,
    ) -> Self {
        let preview = Preview {
            from,
            to: from,
            events: 0,
            truncated: false,
            sent: 0,
            suppressed: 0,
            items: Vec::new(),
        };
        Self {
            rule,
            windows,
            board: Board::default(),
            beliefs: Beliefs::default(),
            seen: BTreeMap::new(),
            ids: 0,
            preview,
            items: VecDeque::new(),
        }
    }

    /// The next event of the journal.
    pub fn live(&mut self, body: &EventBody, happening: &Happening) {
        let at = happening.event.at;
        self.pass_until(at);
        self.preview.events += 1;
        let worth = self.beliefs.worth(body);
        if let Nature::Problem { resource, .. } = happening.nature {
            self.seen.insert(resource, (happening.subject.clone(), happening.companions.clone()));
        }
        self.on_board(at, |board, scene, new_id, out| {
            board.take(scene, happening, worth, new_id, out);
        });
    }

    /// What it told until `to`.
    #[must_use]
    pub fn end(mut self, to: Timestamp, truncated: bool) -> Preview {
        self.pass_until(to);
        Preview { to, truncated, items: self.items.into_iter().rev().collect(), ..self.preview }
    }

    fn pass_until(&mut self, end: Timestamp) {
        while let Some(at) = self.board.next_due_at().filter(|at| *at <= end) {
            for id in self.board.due(at) {
                self.on_board(at, |board, scene, new_id, out| board.wake(scene, id, new_id, out));
            }
        }
    }

    fn on_board(
        &mut self,
        now: Timestamp,
        work: impl FnOnce(&mut Board, &Scene<'_>, &mut dyn FnMut() -> Uuid, &mut Vec<Out>),
    ) {
        let (seen, ids) = (&self.seen, &mut self.ids);
        let find = |resource| seen.get(&resource).cloned();
        let (rule, windows) = (self.rule, self.windows);
        let scene = Scene { now, rule, windows, delivers: &|_| true, find: &find };
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let mut out = Vec::new();
        work(&mut self.board, &scene, &mut new_id, &mut out);
        for out in out {
            if let Out::Call(call) = out {
                self.note(now, &call);
            }
        }
    }

    fn note(&mut self, at: Timestamp, call: &Call) {
        match call.say.suppressed_by {
            None => self.preview.sent += 1,
            Some(_) => self.preview.suppressed += 1,
        }
        if self.items.len() == ITEMS_MAX {
            self.items.pop_front();
        }
        self.items.push_back(PreviewItem {
            at,
            event: call.say.event.name.clone(),
            seq: call.say.event.seq,
            resource_name: call.resource_name.clone(),
            reason: call.say.reason,
            suppressed: call.say.suppressed_by,
        });
    }
}

/// What the journal does not say: whether an event was worth telling. Decided as it was then, as far as the events
/// that were read tell.
#[derive(Default)]
struct Beliefs {
    known: BTreeMap<DeviceId, DeviceStatus>,
    switched_off: BTreeSet<AgentId>,
}

impl Beliefs {
    fn worth(&mut self, body: &EventBody) -> Worth {
        let is_worthy = match body {
            EventBody::AgentOnline(data) => {
                self.switched_off.remove(&data.agent_id);
                data.previous != AgentState::NeverConnected
            }
            EventBody::AgentOffline(data) => {
                let is_known = data.cause == Cause::Disabled;
                if is_known {
                    self.switched_off.insert(data.agent_id);
                }
                !is_known
            }
            EventBody::DeviceOnline(data)
            | EventBody::DeviceOffline(data)
            | EventBody::DeviceDegraded(data)
            | EventBody::DeviceUnknown(data) => self.device(data),
            EventBody::AgentUpdated(_)
            | EventBody::DeviceUpdated(_)
            | EventBody::ChannelCreated(_)
            | EventBody::ChannelUpdated(_)
            | EventBody::ChannelRemoved(_)
            | EventBody::OrgUpdated(_) => false,
            _ => true,
        };
        if is_worthy { Worth::Alert } else { Worth::Quiet }
    }

    fn device(&mut self, data: &DeviceStatusChanged) -> bool {
        if data.previous != DeviceStatus::Unknown {
            self.known.insert(data.device_id, data.previous);
        }
        match (data.current, data.cause) {
            (DeviceStatus::Unknown, Cause::AgentOffline) => {
                !self.switched_off.contains(&data.agent_id)
            }
            (DeviceStatus::Unknown, _) => data.check_status.is_some(),
            (current, _) => {
                let known = self.known.insert(data.device_id, current);
                known.is_some_and(|known| known != current)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_the_rule_names_and_what_its_alerts_need() {
        let named = ["scan.completed", "delivery.dead", "made.up", "agent.offline"];
        let read = names(&named.map(str::to_owned));
        assert!(read.contains(&"scan.completed".to_owned()));
        assert!(read.contains(&"device.online".to_owned()));
        assert_eq!(read.len(), OF_ALERTS.len() + 1);
    }
}
