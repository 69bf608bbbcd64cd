//! What a group writes, put in order: fences, heads, events, then rows by table, each row once.

use std::collections::HashMap;

use pulse_actors::cluster::Fence;
use pulse_actors::ports::Submission;
use pulse_domain::notification::mail::MailRequest;
use pulse_domain::record::{
    AgentRecord, AlertRecord, ChannelRecord, CommandRecord, DeliveryRecord, DeviceRecord,
    DeviceStateRecord, JournalEvent, OrgRecord, PositionRecord, PresenceRecord, RuleRecord,
    ScanRecord, SegmentRecord, WindowRecord, Write,
};
use pulse_protocol::api::Attempt;
use pulse_protocol::ids::{
    AgentId, AlertId, ChannelId, DeliveryId, DeviceId, OrgId, RuleId, WindowId,
};
use uuid::Uuid;

use crate::record::Record;

/// Where an org's journal must stand, and where it will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) org_id: OrgId,
    pub(super) after_seq: u64,
    pub(super) last_seq: u64,
}

/// The last record of each row.
pub(super) struct Latest<'a, R> {
    places: HashMap<(OrgId, Uuid), usize>,
    records: Vec<(OrgId, &'a R)>,
}

impl<R> Default for Latest<'_, R> {
    fn default() -> Self {
        Self { places: HashMap::new(), records: Vec::new() }
    }
}

impl<'a, R: Record> Latest<'a, R> {
    fn put(&mut self, org_id: OrgId, record: &'a R) {
        let place = *self.places.entry((org_id, record.key())).or_insert(self.records.len());
        match self.records.get_mut(place) {
            Some(earlier) => *earlier = (org_id, record),
            None => self.records.push((org_id, record)),
        }
    }

    /// In the order of the table's key: neighbours on a page are written together.
    pub(super) fn sort(&mut self) {
        self.places.clear();
        self.records.sort_unstable_by_key(|(org_id, record)| (*org_id, record.key()));
    }

    pub(super) fn records(&self) -> &[(OrgId, &'a R)] {
        &self.records
    }
}

/// Rows to write, in any order.
#[derive(Default)]
pub(super) struct Upserts<'a> {
    pub(super) orgs: Latest<'a, OrgRecord>,
    pub(super) agents: Latest<'a, AgentRecord>,
    pub(super) presences: Latest<'a, PresenceRecord>,
    pub(super) positions: Latest<'a, PositionRecord>,
    pub(super) segments: Latest<'a, SegmentRecord>,
    pub(super) devices: Latest<'a, DeviceRecord>,
    pub(super) device_states: Latest<'a, DeviceStateRecord>,
    pub(super) scans: Latest<'a, ScanRecord>,
    pub(super) commands: Latest<'a, CommandRecord>,
    pub(super) channels: Latest<'a, ChannelRecord>,
    pub(super) rules: Latest<'a, RuleRecord>,
    pub(super) deliveries: Latest<'a, DeliveryRecord>,
    pub(super) alerts: Latest<'a, AlertRecord>,
    pub(super) windows: Latest<'a, WindowRecord>,
    pub(super) attempts: Vec<(OrgId, DeliveryId, &'a Attempt)>,
}

impl Upserts<'_> {
    fn sort(&mut self) {
        self.orgs.sort();
        self.agents.sort();
        self.presences.sort();
        self.positions.sort();
        self.segments.sort();
        self.devices.sort();
        self.device_states.sort();
        self.scans.sort();
        self.commands.sort();
        self.channels.sort();
        self.rules.sort();
        self.deliveries.sort();
        self.alerts.sort();
        self.windows.sort();
    }

    fn rows(&self) -> usize {
        self.orgs.records.len()
            + self.agents.records.len()
            + self.presences.records.len()
            + self.positions.records.len()
            + self.segments.records.len()
            + self.devices.records.len()
            + self.device_states.records.len()
            + self.scans.records.len()
            + self.commands.records.len()
            + self.channels.records.len()
            + self.rules.records.len()
            + self.deliveries.records.len()
            + self.alerts.records.len()
            + self.windows.records.len()
            + self.attempts.len()
    }
}

/// A thing to delete with all that hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Agent(AgentId),
    Device(DeviceId),
    Channel(ChannelId),
    Rule(RuleId),
    Window(WindowId),
}

/// A part of the plan; the parts are done one after the other.
pub(super) enum Step<'a> {
    Upsert(Box<Upserts<'a>>),
    Remove(OrgId, Removal),
}

/// What a group writes.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// What must be current, each once and in order of the shard, with an org that writes under it.
    pub(super) fences: Vec<(Fence, OrgId)>,
    pub(super) heads: Vec<Head>,
    pub(super) events: Vec<(OrgId, &'a JournalEvent)>,
    pub(super) steps: Vec<Step<'a>>,
    /// Alerts to delete after all else. They go all the time, and one that went is never written again, so they need no
    /// steps of their own.
    pub(super) alerts_gone: Vec<(OrgId, AlertId)>,
    pub(super) mails: Vec<(OrgId, &'a MailRequest)>,
}

impl<'a> Plan<'a> {
    /// The plan of submissions whose batches follow on one another, org by org.
    pub(super) fn of(group: &'a [Submission]) -> Self {
        let mut plan = Self::default();
        let mut places: HashMap<OrgId, usize> = HashMap::new();
        for Submission { home, batch, .. } in group {
            let org_id = batch.org_id;
            plan.fences.extend(home.fence.map(|fence| (fence, org_id)));
            let last_seq = batch.last_seq();
            let place = *places.entry(org_id).or_insert(plan.heads.len());
            match plan.heads.get_mut(place) {
                Some(head) => head.last_seq = last_seq,
                None => plan.heads.push(Head { org_id, after_seq: batch.after_seq, last_seq }),
            }
            plan.events.extend(batch.events.iter().map(|event| (org_id, event)));
            batch.writes.iter().for_each(|write| plan.put(org_id, write));
        }
        plan.sort();
        plan
    }

    pub(super) fn homes(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    pub(super) fn rows(&self) -> usize {
        let steps = self.steps.iter().map(|step| match step {
            Step::Upsert(upserts) => upserts.rows(),
            Step::Remove(..) => 1,
        });
        let others = self.mails.len() + self.alerts_gone.len();
        self.events.len() + steps.sum::<usize>() + others
    }

    fn sort(&mut self) {
        self.fences.sort_unstable_by_key(|(fence, _)| *fence);
        self.fences.dedup_by_key(|(fence, _)| *fence);
        self.heads.sort_unstable_by_key(|head| head.org_id);
        self.events.sort_unstable_by_key(|(org_id, event)| (*org_id, event.seq));
        self.alerts_gone.sort_unstable();
        for step in &mut self.steps {
            if let Step::Upsert(upserts) = step {
                upserts.sort();
            }
        }
    }

    fn put(&mut self, org_id: OrgId, write: &'a Write) {
        match write {
            Write::Org(record) => self.upserts().orgs.put(org_id, record),
            Write::Agent(record) => self.upserts().agents.put(org_id, record),
            Write::AgentRemoved(id) => self.remove(org_id, Removal::Agent(*id)),
            Write::Presence(record) => self.upserts().presences.put(org_id, record),
            Write::Position(record) => self.upserts().positions.put(org_id, record),
            Write::Segment(record) => self.upserts().segments.put(org_id, record),
            Write::Device(record) => self.upserts().devices.put(org_id, record),
            Write::DeviceRemoved(id) => self.remove(org_id, Removal::Device(*id)),
            Write::DeviceState(record) => self.upserts().device_states.put(org_id, record),
            Write::Scan(record) => self.upserts().scans.put(org_id, record),
            Write::Command(record) => self.upserts().commands.put(org_id, record),
            Write::Channel(record) => self.upserts().channels.put(org_id, record),
            Write::ChannelRemoved(id) => self.remove(org_id, Removal::Channel(*id)),
            Write::Rule(record) => self.upserts().rules.put(org_id, record),
            Write::RuleRemoved(id) => self.remove(org_id, Removal::Rule(*id)),
            Write::Alert(record) => self.upserts().alerts.put(org_id, record),
            Write::AlertRemoved(id) => self.alerts_gone.push((org_id, *id)),
            Write::Window(record) => self.upserts().windows.put(org_id, record),
            Write::WindowRemoved(id) => self.remove(org_id, Removal::Window(*id)),
            Write::Delivery(record) => self.upserts().deliveries.put(org_id, record),
            Write::Attempt(delivery_id, attempt) => {
                self.upserts().attempts.push((org_id, *delivery_id, attempt));
            }
            Write::Mail(request) => self.mails.push((org_id, request)),
        }
    }

    /// Deletions are rare. What is written after one goes to a step of its own, so that the order holds.
    fn remove(&mut self, org_id: OrgId, removal: Removal) {
        self.steps.push(Step::Remove(org_id, removal));
    }

    fn upserts(&mut self) -> &mut Upserts<'a> {
        if !matches!(self.steps.last(), Some(Step::Upsert(_))) {
            self.steps.push(Step::Upsert(Box::default()));
        }
        match self.steps.last_mut() {
            Some(Step::Upsert(upserts)) => upserts,
            _ => unreachable!("a step of upserts was pushed if it was not the last one"),
        }
    }
}
