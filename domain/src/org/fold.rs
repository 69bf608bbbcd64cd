//! Folds a journalled event into an org: the one place where what is shown changes.

use pulse_protocol::Timestamp;
use pulse_protocol::api::{Agent, Check};
use pulse_protocol::event::{
    AgentChanged, AgentStatus, ChannelChanged, ChannelHealthChanged, CommandChanged, DeviceChanged,
    DeviceStatusChanged, EventBody, OrgChanged, ScanChanged,
};
use pulse_protocol::ids::AgentId;
use pulse_protocol::status::{AgentState, Cause, DeviceStatus};

use super::{AgentEntry, Org, rules};
use crate::command;
use crate::device::{Event, StatusChange};
use crate::presence::Phase;
use crate::record::{
    AgentFacts, AgentRecord, Breaker, ChannelRecord, CheckKey, CheckSpec, CommandRecord,
    DeviceRecord, Hidden, ScanRecord, SegmentRecord,
};

impl Org {
    /// Makes one event true, which happened at `at`.
    ///
    /// Folding a journal from its first event gives everything that is shown. What is never shown (keys, secrets,
    /// positions, connections) is not in the journal and keeps its value.
    pub fn fold(&mut self, event: &EventBody, at: Timestamp) {
        match event {
            EventBody::AgentEnrolled(data) | EventBody::AgentUpdated(data) => {
                self.fold_agent(data, at);
            }
            EventBody::AgentOnline(data) | EventBody::AgentOffline(data) => {
                self.fold_presence(data);
            }
            EventBody::AgentRemoved(data) => self.fold_agent_removed(data.agent_id),
            EventBody::DeviceDiscovered(data) | EventBody::DeviceUpdated(data) => {
                self.fold_device(data, at);
            }
            EventBody::DeviceOnline(data)
            | EventBody::DeviceOffline(data)
            | EventBody::DeviceDegraded(data)
            | EventBody::DeviceUnknown(data) => self.fold_device_status(data),
            EventBody::DeviceRemoved(data) => {
                self.unindex_device(data.device_id);
                self.devices.remove(&data.device_id);
            }
            EventBody::ScanStarted(data)
            | EventBody::ScanCompleted(data)
            | EventBody::ScanFailed(data) => self.fold_scan(data),
            EventBody::CommandIssued(data)
            | EventBody::CommandDelivered(data)
            | EventBody::CommandSucceeded(data)
            | EventBody::CommandFailed(data)
            | EventBody::CommandExpired(data) => self.fold_command(data, at),
            EventBody::ChannelCreated(data) | EventBody::ChannelUpdated(data) => {
                self.fold_channel(data, at);
            }
            EventBody::ChannelHealthy(data)
            | EventBody::ChannelDegraded(data)
            | EventBody::ChannelDisabled(data) => self.fold_channel_health(data),
            EventBody::ChannelRemoved(data) => {
                self.channels.remove(&data.channel_id);
                for rule in self.rules.values_mut() {
                    rules::without_channel(rule, data.channel_id);
                }
            }
            EventBody::OrgUpdated(data)
            | EventBody::OrgSuspended(data)
            | EventBody::OrgCancelled(data)
            | EventBody::OrgReactivated(data) => self.fold_org(data),
            // Deliveries are history: the store holds them, the org does not.
            EventBody::DeliveryQueued(_)
            | EventBody::DeliveryDelivered(_)
            | EventBody::DeliveryRetrying(_)
            | EventBody::DeliveryDead(_)
            | EventBody::DeliverySuppressed(_)
            | EventBody::DeliverySuperseded(_)
            | EventBody::DeliveryDiscarded(_)
            // What they tell of is not shown with the org.
            | EventBody::AlertAcknowledged(_)
            | EventBody::MaintenanceStarted(_)
            | EventBody::MaintenanceEnded(_) => {}
        }
    }

    fn fold_agent(&mut self, data: &AgentChanged, at: Timestamp) {
        let agent = &data.agent;
        let entry = self
            .agents
            .entry(data.agent_id)
            .or_insert_with(|| AgentEntry::new(new_record(agent, at)));
        entry.record.name.clone_from(&agent.name);
        entry.record.enabled = agent.enabled;
        entry.record.key_prefix.clone_from(&agent.key_prefix);
        if let (Some(version), Some(hostname), Some(platform)) =
            (&agent.version, &agent.hostname, agent.platform)
        {
            let arch = entry.record.facts.take().map(|facts| facts.arch).unwrap_or_default();
            entry.record.facts = Some(AgentFacts {
                version: version.clone(),
                hostname: hostname.clone(),
                platform,
                arch,
            });
        }
        for segment in data.segments.iter().flatten() {
            let interface =
                self.segments.remove(&segment.id).map(|old| old.interface).unwrap_or_default();
            self.segments.insert(
                segment.id,
                SegmentRecord {
                    id: segment.id,
                    agent_id: segment.agent_id,
                    name: segment.name.clone(),
                    cidr: segment.cidr.clone(),
                    interface,
                    scan_interval_s: segment.scan_interval_s,
                    enabled: segment.enabled,
                    last_scan_at: segment.last_scan_at,
                },
            );
        }
    }

    fn fold_presence(&mut self, data: &AgentStatus) {
        let Some(agent) = self.agents.get_mut(&data.agent_id) else { return };
        agent.presence.since = data.since;
        // Which socket an agent holds is not in the journal: the one that holds it says so right after.
        agent.presence.phase = match data.current {
            AgentState::Online | AgentState::Lingering => {
                Phase::Lingering { until: data.since, cause: Cause::ConnectionClosed }
            }
            AgentState::Offline | AgentState::Disabled => Phase::Offline,
            AgentState::NeverConnected => Phase::NeverConnected,
        };
    }

    fn fold_agent_removed(&mut self, agent_id: AgentId) {
        self.agents.remove(&agent_id);
        self.segments.retain(|_, segment| segment.agent_id != agent_id);
        self.scans.retain(|_, scan| scan.agent_id != agent_id);
        self.commands.retain(|_, command| command.agent_id != agent_id);
        for device in self.devices.values().filter(|device| device.record.agent_id == agent_id) {
            for check in &device.record.checks {
                self.device_by_check.remove(&check.id);
            }
        }
        self.devices.retain(|_, device| device.record.agent_id != agent_id);
    }

    fn fold_device(&mut self, data: &DeviceChanged, at: Timestamp) {
        let device = &data.device;
        let (mac, created_at) = self
            .devices
            .get(&device.id)
            .map_or((None, at), |old| (old.record.mac.clone(), old.record.created_at));
        self.insert_device(DeviceRecord {
            id: device.id,
            agent_id: device.agent_id,
            segment_id: device.segment_id,
            category_id: device.category_id,
            name: device.name.clone(),
            address: device.address.clone(),
            mac,
            checks: device.checks.iter().map(check_spec).collect(),
            created_at,
        });
        let Some(entry) = self.devices.get_mut(&device.id) else { return };
        let kept = |key| match key {
            CheckKey::Configured(id) => device.checks.iter().any(|check| check.id == id),
            CheckKey::Implicit(kind) => device.checks.iter().all(|check| check.check != kind),
        };
        entry.state.retain_checks(kept);
        for check in &device.checks {
            let key = CheckKey::Configured(check.id);
            if check.status != entry.state.result(key) {
                let response_time_ms = entry.state.response_time_ms;
                entry.state.apply(&Event::Measured { key, status: check.status, response_time_ms });
            }
        }
        entry.state.response_time_ms = device.response_time_ms;
    }

    fn fold_device_status(&mut self, data: &DeviceStatusChanged) {
        let Some(device) = self.devices.get_mut(&data.device_id) else { return };
        let key = match (data.check_id, data.check) {
            (Some(id), _) => Some(CheckKey::Configured(id)),
            (None, kind) => kind.map(CheckKey::Implicit),
        };
        let decided_by = key.zip(data.check_status);
        if let Some((key, status)) = decided_by {
            let response_time_ms = data.response_time_ms;
            device.state.apply(&Event::Measured { key, status, response_time_ms });
        }
        device.state.apply(&Event::Changed(StatusChange {
            previous: data.previous,
            current: data.current,
            since: data.since,
            cause: data.cause,
            decided_by,
            alert: false,
        }));
        if data.current != DeviceStatus::Unknown {
            device.state.response_time_ms = data.response_time_ms;
        }
    }

    fn fold_scan(&mut self, data: &ScanChanged) {
        self.scans.insert(
            data.scan_id,
            ScanRecord {
                id: data.scan_id,
                agent_id: data.agent_id,
                segment_id: data.segment_id,
                segment_name: data.name.clone(),
                state: data.state,
                started_at: data.started_at,
                finished_at: data.finished_at,
                devices_found: data.devices_found,
                devices_new: data.devices_new,
                error: data.error.clone(),
            },
        );
        if let (Some(finished_at), Some(segment)) =
            (data.finished_at, self.segments.get_mut(&data.segment_id))
        {
            segment.last_scan_at = Some(finished_at);
        }
        self.forget_old_scans();
    }

    fn fold_command(&mut self, data: &CommandChanged, at: Timestamp) {
        if command::is_ended(data.state) {
            self.commands.remove(&data.command_id);
            return;
        }
        let record = self.commands.entry(data.command_id).or_insert_with(|| CommandRecord {
            id: data.command_id,
            agent_id: data.agent_id,
            kind: data.kind,
            payload: serde_json::Value::Null,
            state: data.state,
            issued_at: at,
            deadline: at,
            result: None,
            error: None,
        });
        record.state = data.state;
    }

    fn fold_channel(&mut self, data: &ChannelChanged, at: Timestamp) {
        let channel = &data.channel;
        let (hidden, mut breaker, created_at) = self
            .channels
            .remove(&channel.id)
            .map_or((Hidden::default(), Breaker::default(), at), |old| {
                (old.hidden, old.breaker, old.created_at)
            });
        breaker.failing_since = channel.failing_since;
        breaker.paused_until = channel.paused_until;
        self.channels.insert(
            channel.id,
            ChannelRecord {
                id: channel.id,
                name: channel.name.clone(),
                kind: channel.kind,
                config: channel.config.clone(),
                hidden,
                retry_schedule_s: channel.retry_schedule_s.clone().unwrap_or_default(),
                enabled: channel.enabled,
                health: channel.health,
                breaker,
                created_at,
            },
        );
    }

    fn fold_channel_health(&mut self, data: &ChannelHealthChanged) {
        use pulse_protocol::api::ChannelHealth;
        if let Some(channel) = self.channels.get_mut(&data.channel_id) {
            channel.health = data.current;
            channel.breaker.failing_since = data.failing_since;
            channel.breaker.paused_until = data.paused_until;
            channel.enabled = data.current != ChannelHealth::Disabled;
        }
    }

    fn fold_org(&mut self, data: &OrgChanged) {
        self.record.name.clone_from(&data.name);
        self.record.status = data.status;
        self.record.status_reason.clone_from(&data.reason);
    }
}

fn new_record(agent: &Agent, at: Timestamp) -> AgentRecord {
    AgentRecord {
        id: agent.id,
        name: agent.name.clone(),
        enabled: agent.enabled,
        key_hash: [0; 32],
        key_prefix: agent.key_prefix.clone(),
        previous_key: None,
        facts: None,
        created_at: at,
    }
}

fn check_spec(check: &Check) -> CheckSpec {
    CheckSpec {
        id: check.id,
        check: check.check,
        port: check.port,
        url: check.url.clone(),
        interval_s: check.interval_s,
        timeout_ms: check.timeout_ms,
        failure_threshold: check.failure_threshold,
        expect: check.expect.clone(),
    }
}
