//! An org as its tables hold it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulse_protocol::Timestamp;
use pulse_protocol::ids::DeviceId;
use pulse_protocol::status::{AgentState, Cause};

use uuid::Uuid;

use super::{AgentEntry, DeviceEntry, Liveness, Org};
use crate::device::DeviceState;
use crate::notification::board::Board;
use crate::presence::{Command, Phase, Presence};
use crate::record::{AgentRecord, DeviceRecord, OrgImage, PresenceRecord};
use crate::sequence::Window;

impl Org {
    /// The org as loaded. Agents announced online get the grace, counted from `ready_at`, to be back unannounced.
    #[must_use]
    pub fn load(image: OrgImage, defaults: Liveness, ready_at: Timestamp) -> Self {
        let mut org = Self {
            record: image.org,
            defaults,
            seq: image.seq,
            agents: BTreeMap::new(),
            segments: image.segments.into_iter().map(|segment| (segment.id, segment)).collect(),
            devices: BTreeMap::new(),
            device_by_check: HashMap::new(),
            scans: image.scans.into_iter().map(|scan| (scan.id, scan)).collect(),
            commands: image.commands.into_iter().map(|command| (command.id, command)).collect(),
            channels: image.channels.into_iter().map(|channel| (channel.id, channel)).collect(),
            rules: image.rules.into_iter().map(|rule| (rule.id, rule)).collect(),
            board: Board::new(image.alerts),
            windows: image.windows.into_iter().map(|window| (window.id, window)).collect(),
        };
        for agent in image.agents {
            org.agents.insert(agent.id, AgentEntry::new(agent));
        }
        // What agents did that were removed since is history, and no longer shown.
        org.scans.retain(|_, scan| org.agents.contains_key(&scan.agent_id));
        org.commands.retain(|_, command| org.agents.contains_key(&command.agent_id));
        for presence in image.presences {
            org.restore_presence(presence, ready_at);
        }
        for position in image.positions {
            if let Some(agent) = org.agents.get_mut(&position.agent_id) {
                agent.window = Window { spool_id: position.spool_id, last: position.acked_seq };
            }
        }
        for device in image.devices {
            org.insert_device(device);
        }
        for state in image.device_states {
            if let Some(device) = org.devices.get_mut(&state.device_id) {
                device.state = DeviceState::from(state);
            }
        }
        org
    }

    fn restore_presence(&mut self, record: PresenceRecord, ready_at: Timestamp) {
        let grace = self.liveness().offline_grace;
        let Some(agent) = self.agents.get_mut(&record.agent_id) else { return };
        let phase = match record.state {
            AgentState::Online | AgentState::Lingering => {
                Phase::Lingering { until: ready_at, cause: Cause::ConnectionClosed }
            }
            AgentState::Offline | AgentState::Disabled => Phase::Offline,
            AgentState::NeverConnected => Phase::NeverConnected,
        };
        let mut presence = Presence { phase, since: record.since };
        let restore = Command::Restore { ready_at, back_by: record.back_by };
        for event in presence.decide(restore, ready_at, grace).events {
            presence = presence.apply(event, ready_at);
        }
        agent.presence = presence;
        agent.last_seen_at = record.last_seen_at;
        agent.back_by = record.back_by;
    }

    /// Adds or replaces a device's settings, and keeps the indexes true.
    pub(super) fn insert_device(&mut self, record: DeviceRecord) {
        let device_id = record.id;
        self.unindex_device(device_id);
        if let Some(agent) = self.agents.get_mut(&record.agent_id) {
            agent.devices.insert((record.address.as_str().into(), device_id));
        }
        for check in &record.checks {
            self.device_by_check.insert(check.id, device_id);
        }
        match self.devices.get_mut(&device_id) {
            Some(device) => device.record = record,
            None => {
                let state = DeviceState::new(record.created_at);
                self.devices.insert(device_id, DeviceEntry { record, state });
            }
        }
    }

    pub(super) fn unindex_device(&mut self, device_id: DeviceId) {
        let Some(device) = self.devices.get(&device_id) else { return };
        if let Some(agent) = self.agents.get_mut(&device.record.agent_id) {
            agent.devices.remove(&(device.record.address.as_str().into(), device_id));
        }
        for check in &device.record.checks {
            self.device_by_check.remove(&check.id);
        }
    }
}

impl AgentEntry {
    pub(super) fn new(record: AgentRecord) -> Self {
        let presence = Presence::new(record.created_at);
        Self {
            record,
            presence,
            back_by: None,
            last_seen_at: None,
            window: Window::default(),
            devices: BTreeSet::new(),
        }
    }

    /// The agent's devices at an address, oldest first.
    pub(super) fn devices_at(&self, address: &str) -> impl Iterator<Item = DeviceId> {
        let first = (Box::from(address), DeviceId::from_uuid(Uuid::nil()));
        let last = (Box::from(address), DeviceId::from_uuid(Uuid::max()));
        self.devices.range(first..=last).map(|(_, device_id)| *device_id)
    }
}
