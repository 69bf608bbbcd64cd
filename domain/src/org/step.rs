//! One step of an org: collects what becomes true while it is decided.

use std::sync::Arc;

use pulse_protocol::Timestamp;
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, DeviceId, EventId};

use super::{Effect, Ids, Org, Outcome};
use crate::notification::rule::Worth;
use crate::record::{
    Batch, DeviceStateRecord, JournalEvent, PositionRecord, PresenceRecord, Write,
};

/// Characters kept of a reason that an agent gives.
pub(super) const ERROR_CHARS: usize = 500;

/// What is kept of a text that an agent made: no control characters (PostgreSQL stores no NUL), no more than
/// `chars_max`.
pub(super) fn text(made: &str, chars_max: usize) -> String {
    made.trim().chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

pub(super) struct Step<'a> {
    pub(super) org: &'a mut Org,
    pub(super) now: Timestamp,
    pub(super) ids: &'a mut dyn Ids,
    after_seq: u64,
    events: Vec<JournalEvent>,
    writes: Vec<Write>,
    effects: Vec<Effect>,
}

impl<'a> Step<'a> {
    pub(super) fn new(org: &'a mut Org, now: Timestamp, ids: &'a mut dyn Ids) -> Self {
        let after_seq = org.seq;
        Self {
            org,
            now,
            ids,
            after_seq,
            events: Vec::new(),
            writes: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Outcome {
        let Self { org, after_seq, events, writes, effects, .. } = self;
        Outcome { batch: Batch { org_id: org.record.id, after_seq, events, writes }, effects }
    }

    /// Makes `body` true: folds it into the org, numbers it, and calls for the deliveries the rules want.
    pub(super) fn journal(&mut self, body: &EventBody, worth: Worth) {
        self.org.fold(body, self.now);
        self.org.seq += 1;
        let event = JournalEvent {
            seq: self.org.seq,
            id: EventId::from_uuid(self.ids.next()),
            name: Arc::from(body.name()),
            at: self.now,
            // Payloads are plain data with string keys, which always have a JSON form.
            data: body.data_json().unwrap_or_else(|_| "{}".to_owned()).into(),
        };
        self.events.push(event.clone());
        self.call_for_deliveries(&event, body, worth);
    }

    /// An instant of an agent's clock, which may be wrong: not later than now, not before the epoch.
    pub(super) fn past(&self, at: Timestamp) -> Timestamp {
        at.max(Timestamp::from_unix_ms(0)).min(self.now)
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    pub(super) fn tell(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn write_agent(&mut self, agent_id: AgentId) {
        if let Some(agent) = self.org.agents.get(&agent_id) {
            self.writes.push(Write::Agent(agent.record.clone()));
        }
    }

    pub(super) fn write_presence(&mut self, agent_id: AgentId) {
        if let Some(agent) = self.org.agents.get(&agent_id) {
            self.writes.push(Write::Presence(PresenceRecord {
                agent_id,
                state: agent.presence.announced(),
                since: agent.presence.since,
                last_seen_at: agent.last_seen_at,
                back_by: agent.back_by,
            }));
        }
    }

    pub(super) fn write_position(&mut self, agent_id: AgentId) {
        if let Some(agent) = self.org.agents.get(&agent_id) {
            self.writes.push(Write::Position(PositionRecord {
                agent_id,
                spool_id: Arc::clone(&agent.window.spool_id),
                acked_seq: agent.window.last,
            }));
        }
    }

    pub(super) fn write_device(&mut self, device_id: DeviceId) {
        if let Some(device) = self.org.devices.get(&device_id) {
            self.writes.push(Write::Device(device.record.clone()));
        }
    }

    pub(super) fn write_device_state(&mut self, device_id: DeviceId) {
        if let Some(device) = self.org.devices.get(&device_id) {
            let state = &device.state;
            self.writes.push(Write::DeviceState(DeviceStateRecord {
                device_id,
                status: state.status,
                known: state.known,
                since: state.since,
                response_time_ms: state.response_time_ms,
                checks: state.checks.clone(),
            }));
        }
    }
}
