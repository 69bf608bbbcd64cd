//! The tables of one org as plain maps, with the semantics that [`Write`] promises.

use std::collections::BTreeMap;

use pulse_domain::notification::mail::MailRequest;
use pulse_domain::record::{
    AgentRecord, AlertRecord, ChannelRecord, CommandRecord, DeliveryRecord, DeviceRecord,
    DeviceStateRecord, OrgImage, OrgRecord, PositionRecord, PresenceRecord, RuleRecord, ScanRecord,
    SegmentRecord, WindowRecord, Write,
};
use pulse_protocol::api::{Attempt, CommandState, ScanState};
use pulse_protocol::ids::{
    AgentId, AlertId, ChannelId, CommandId, DeliveryId, DeviceId, RuleId, ScanId, SegmentId,
    WindowId,
};

/// The rows of one org.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) org: OrgRecord,
    pub(crate) seq: u64,
    pub(crate) agents: BTreeMap<AgentId, AgentRecord>,
    presences: BTreeMap<AgentId, PresenceRecord>,
    positions: BTreeMap<AgentId, PositionRecord>,
    segments: BTreeMap<SegmentId, SegmentRecord>,
    devices: BTreeMap<DeviceId, DeviceRecord>,
    states: BTreeMap<DeviceId, DeviceStateRecord>,
    pub(crate) scans: BTreeMap<ScanId, ScanRecord>,
    pub(crate) commands: BTreeMap<CommandId, CommandRecord>,
    pub(crate) channels: BTreeMap<ChannelId, ChannelRecord>,
    pub(crate) rules: BTreeMap<RuleId, RuleRecord>,
    pub(crate) alerts: BTreeMap<AlertId, AlertRecord>,
    pub(crate) windows: BTreeMap<WindowId, WindowRecord>,
    pub(crate) deliveries: BTreeMap<DeliveryId, DeliveryRecord>,
    pub(crate) attempts: Vec<(DeliveryId, Attempt)>,
    pub(crate) mails: Vec<MailRequest>,
}

impl Tables {
    pub(crate) fn new(org: OrgRecord) -> Self {
        Self {
            org,
            seq: 0,
            agents: BTreeMap::new(),
            presences: BTreeMap::new(),
            positions: BTreeMap::new(),
            segments: BTreeMap::new(),
            devices: BTreeMap::new(),
            states: BTreeMap::new(),
            scans: BTreeMap::new(),
            commands: BTreeMap::new(),
            channels: BTreeMap::new(),
            rules: BTreeMap::new(),
            alerts: BTreeMap::new(),
            windows: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            attempts: Vec::new(),
            mails: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, write: Write) {
        match write {
            Write::Org(row) => self.org = row,
            Write::Agent(row) => drop(self.agents.insert(row.id, row)),
            Write::AgentRemoved(id) => self.remove_agent(id),
            Write::Presence(row) => drop(self.presences.insert(row.agent_id, row)),
            Write::Position(row) => drop(self.positions.insert(row.agent_id, row)),
            Write::Segment(row) => drop(self.segments.insert(row.id, row)),
            Write::Device(row) => drop(self.devices.insert(row.id, row)),
            Write::DeviceRemoved(id) => {
                self.devices.remove(&id);
                self.states.remove(&id);
            }
            Write::DeviceState(row) => drop(self.states.insert(row.device_id, row)),
            Write::Scan(row) => drop(self.scans.insert(row.id, row)),
            Write::Command(row) => drop(self.commands.insert(row.id, row)),
            Write::Channel(row) => drop(self.channels.insert(row.id, row)),
            Write::ChannelRemoved(id) => drop(self.channels.remove(&id)),
            Write::Rule(row) => drop(self.rules.insert(row.id, row)),
            Write::RuleRemoved(id) => drop(self.rules.remove(&id)),
            Write::Alert(row) => drop(self.alerts.insert(row.id, row)),
            Write::AlertRemoved(id) => drop(self.alerts.remove(&id)),
            Write::Window(row) => drop(self.windows.insert(row.id, row)),
            Write::WindowRemoved(id) => drop(self.windows.remove(&id)),
            Write::Delivery(row) => drop(self.deliveries.insert(row.id, row)),
            Write::Attempt(id, attempt) => self.attempts.push((id, attempt)),
            Write::Mail(request) => self.mails.push(*request),
        }
    }

    fn remove_agent(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.presences.remove(&id);
        self.positions.remove(&id);
        self.segments.retain(|_, segment| segment.agent_id != id);
        self.devices.retain(|_, device| device.agent_id != id);
        self.states.retain(|device_id, _| self.devices.contains_key(device_id));
    }

    /// What an org's home loads: running scans and the latest 50 that ended, commands that have not ended.
    pub(crate) fn image(&self) -> OrgImage {
        let (mut scans, mut ended): (Vec<_>, Vec<_>) =
            self.scans.values().cloned().partition(|scan| scan.state == ScanState::Running);
        ended.sort_by_key(|scan| std::cmp::Reverse((scan.finished_at, scan.id)));
        scans.extend(ended.into_iter().take(50));
        let open = |command: &&CommandRecord| {
            use CommandState::{Delivered, Issued, Running};
            matches!(command.state, Issued | Delivered | Running)
        };
        OrgImage {
            org: self.org.clone(),
            seq: self.seq,
            agents: self.agents.values().cloned().collect(),
            presences: self.presences.values().copied().collect(),
            positions: self.positions.values().cloned().collect(),
            segments: self.segments.values().cloned().collect(),
            devices: self.devices.values().cloned().collect(),
            device_states: self.states.values().cloned().collect(),
            scans,
            commands: self.commands.values().filter(open).cloned().collect(),
            channels: self.channels.values().cloned().collect(),
            rules: self.rules.values().cloned().collect(),
            alerts: self.alerts.values().cloned().collect(),
            windows: self.windows.values().cloned().collect(),
        }
    }

    /// Whether something waits for an agent that is gone.
    pub(crate) fn waits_for_nobody(&self) -> bool {
        let image = self.image();
        let gone = |agent_id| !self.agents.contains_key(&agent_id);
        image.commands.iter().any(|command| gone(command.agent_id))
            || image
                .scans
                .iter()
                .any(|scan| scan.state == ScanState::Running && gone(scan.agent_id))
    }
}
