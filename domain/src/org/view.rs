//! What an org shows: the bodies of REST and of a dashboard's snapshot.

use std::ops::Bound;

use pulse_protocol::agent::{AgentConfig, CheckConfig, SegmentConfig};
use pulse_protocol::api::{
    Agent, Channel, Check, Command, Device, OrgStatus, Rule, Scan, ScanState, Segment, Usage,
};
use pulse_protocol::dashboard::{Counts, Snapshot};
use pulse_protocol::ids::AgentId;
use pulse_protocol::status::{AgentState, DeviceStatus};

use super::{AgentEntry, DeviceEntry, Org};
use crate::record::{
    ChannelRecord, CheckKey, CheckSpec, CommandRecord, RuleRecord, ScanRecord, SegmentRecord,
};
use crate::request::{Query, Refusal, Reply};

impl AgentEntry {
    pub(super) fn view(&self) -> Agent {
        let facts = self.record.facts.as_ref();
        Agent {
            id: self.record.id,
            name: self.record.name.clone(),
            enabled: self.record.enabled,
            state: if self.record.enabled { self.presence.state() } else { AgentState::Disabled },
            since: self.presence.since,
            last_seen_at: self.last_seen_at,
            version: facts.map(|facts| facts.version.clone()),
            hostname: facts.map(|facts| facts.hostname.clone()),
            platform: facts.map(|facts| facts.platform),
            key_prefix: self.record.key_prefix.clone(),
        }
    }
}

impl DeviceEntry {
    pub(super) fn view(&self) -> Device {
        let record = &self.record;
        Device {
            id: record.id,
            agent_id: record.agent_id,
            segment_id: record.segment_id,
            category_id: record.category_id,
            name: record.name.clone(),
            address: record.address.clone(),
            status: self.state.status,
            since: self.state.since,
            response_time_ms: self.state.response_time_ms,
            checks: record.checks.iter().map(|check| self.check_view(check)).collect(),
        }
    }

    fn check_view(&self, check: &CheckSpec) -> Check {
        Check {
            id: check.id,
            check: check.check,
            port: check.port,
            url: check.url.clone(),
            interval_s: check.interval_s,
            timeout_ms: check.timeout_ms,
            failure_threshold: check.failure_threshold,
            expect: check.expect.clone(),
            status: self.state.check_status(CheckKey::Configured(check.id)),
        }
    }
}

pub(super) fn segment(record: &SegmentRecord) -> Segment {
    Segment {
        id: record.id,
        agent_id: record.agent_id,
        name: record.name.clone(),
        cidr: record.cidr.clone(),
        scan_interval_s: record.scan_interval_s,
        enabled: record.enabled,
        last_scan_at: record.last_scan_at,
    }
}

fn scan(record: &ScanRecord) -> Scan {
    Scan {
        id: record.id,
        agent_id: record.agent_id,
        segment_id: record.segment_id,
        state: record.state,
        started_at: record.started_at,
        finished_at: record.finished_at,
        devices_found: record.devices_found,
        devices_new: record.devices_new,
        error: record.error.clone(),
    }
}

pub(super) fn channel(record: &ChannelRecord) -> Channel {
    Channel {
        id: record.id,
        name: record.name.clone(),
        kind: record.kind,
        config: record.config.clone(),
        enabled: record.enabled,
        health: record.health,
        retry_schedule_s: Some(&record.retry_schedule_s).filter(|all| !all.is_empty()).cloned(),
        failing_since: record.breaker.failing_since,
        paused_until: record.breaker.paused_until,
    }
}

pub(super) fn rule(record: &RuleRecord) -> Rule {
    let settings = &record.settings;
    Rule {
        id: record.id,
        name: record.name.clone(),
        event_types: record.event_types.clone(),
        channel_ids: record.channel_ids.clone(),
        description: settings.description.clone(),
        filters: settings.filters.clone(),
        cooldown_s: settings.cooldown_s,
        min_duration_s: settings.min_duration_s,
        grouping: settings.grouping,
        flap_detection: settings.flap_detection,
        quiet_hours: settings.quiet_hours.clone(),
        escalation: settings.escalation.clone(),
        enabled: record.enabled,
    }
}

/// A command as it is shown.
#[must_use]
pub(super) fn command(record: &CommandRecord) -> Command {
    Command {
        id: record.id,
        kind: record.kind,
        payload: record.payload.clone(),
        state: record.state,
        deadline: record.deadline,
        result: record.result.clone(),
        error: record.error.clone(),
    }
}

impl Org {
    /// Whether agents and members may work.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.record.status, OrgStatus::Suspended | OrgStatus::Cancelled)
    }

    /// The org's settings as they are shown.
    #[must_use]
    pub fn view(&self) -> pulse_protocol::api::Org {
        let liveness = self.liveness();
        // Bounded by the configuration to 300,000 ms.
        let ms =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        pulse_protocol::api::Org {
            id: self.record.id,
            name: self.record.name.clone(),
            slug: self.record.slug.clone(),
            plan: self.record.plan,
            status: self.record.status,
            limits: crate::plan::limits(self.record.plan),
            heartbeat_interval_ms: ms(liveness.heartbeat_interval),
            heartbeat_timeout_ms: ms(liveness.heartbeat_timeout),
            offline_grace_ms: ms(liveness.offline_grace),
        }
    }

    /// The whole state as of [`Org::seq`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let agents: Vec<Agent> = self.agents.values().map(AgentEntry::view).collect();
        let devices: Vec<Device> = self.devices.values().map(DeviceEntry::view).collect();
        let counts = count(&agents, &devices);
        Snapshot {
            seq: self.seq,
            org: self.view(),
            agents,
            devices,
            segments: self.segments.values().map(segment).collect(),
            scans: self.scans.values().map(scan).collect(),
            channels: self.channels.values().map(channel).collect(),
            counts,
        }
    }

    /// How an agent is now.
    #[must_use]
    pub fn agent_state(&self, agent_id: AgentId) -> Option<AgentState> {
        self.agents.get(&agent_id).map(|agent| agent.presence.state())
    }

    /// What an agent is to watch; its version grows with every change in the org.
    #[must_use]
    pub fn agent_config(&self, agent_id: AgentId) -> AgentConfig {
        let segments = self
            .segments
            .values()
            .filter(|segment| segment.agent_id == agent_id)
            .map(|segment| SegmentConfig {
                segment_id: segment.id,
                name: segment.name.clone(),
                cidr: segment.cidr.clone(),
                scan_interval_s: segment.scan_interval_s,
                enabled: segment.enabled,
            })
            .collect();
        let mut checks: Vec<CheckConfig> = self
            .agents
            .get(&agent_id)
            .into_iter()
            .flat_map(|agent| &agent.devices)
            .filter_map(|(_, device_id)| self.devices.get(device_id))
            .flat_map(|device| device.record.checks.iter().map(|check| check_config(device, check)))
            .collect();
        checks.sort_unstable_by_key(|check| check.check_id);
        AgentConfig { version: self.seq, segments, checks }
    }

    /// Answers a question from memory.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::NotFound`] when the thing asked for is not in this org.
    pub fn answer(&self, query: Query) -> Result<Reply, Refusal> {
        let missing = |what: &'static str| Refusal::NotFound { what: what.into() };
        Ok(match query {
            Query::Org => Reply::Org(Box::new(self.view())),
            Query::Usage => Reply::Usage(self.usage()),
            Query::Agent(id) => {
                Reply::Agent(Box::new(self.agents.get(&id).ok_or_else(|| missing("agent"))?.view()))
            }
            Query::Agents { after, limit } => {
                Reply::Agents(page(&self.agents, after, limit, AgentEntry::view))
            }
            Query::Segments { after, limit } => {
                Reply::Segments(page(&self.segments, after, limit, segment))
            }
            Query::Device(id) => Reply::Device(Box::new(
                self.devices.get(&id).ok_or_else(|| missing("device"))?.view(),
            )),
            Query::Devices { after, limit } => {
                Reply::Devices(page(&self.devices, after, limit, DeviceEntry::view))
            }
            Query::Scans { after, limit } => Reply::Scans(page(&self.scans, after, limit, scan)),
            Query::Channel(id) => Reply::Channel(Box::new(channel(
                self.channels.get(&id).ok_or_else(|| missing("channel"))?,
            ))),
            Query::Channels { after, limit } => {
                Reply::Channels(page(&self.channels, after, limit, channel))
            }
            Query::Rule(id) => {
                Reply::Rule(Box::new(rule(self.rules.get(&id).ok_or_else(|| missing("rule"))?)))
            }
            Query::Rules { after, limit } => Reply::Rules(page(&self.rules, after, limit, rule)),
            Query::Alert(id) => {
                Reply::Alert(Box::new(self.alert(id).ok_or_else(|| missing("alert"))?))
            }
            Query::Alerts { state, after, limit } => {
                Reply::Alerts(self.alerts(state, after, limit))
            }
            Query::Window(id, at) => Reply::Window(Box::new(
                self.windows.get(&id).ok_or_else(|| missing("maintenance window"))?.view(at),
            )),
            Query::Windows { at, after, limit } => {
                Reply::Windows(page(&self.windows, after, limit, |window| window.view(at)))
            }
        })
    }

    fn usage(&self) -> Usage {
        Usage {
            limits: crate::plan::limits(self.record.plan),
            agents: self.agents.len() as u64,
            devices: self.devices.len() as u64,
        }
    }

    /// Forgets those scans beyond [`super::ENDED_SCANS_KEPT`] that ended first. Their ids are made by agents, and
    /// say nothing of their order.
    pub(super) fn forget_old_scans(&mut self) {
        let ended = self.scans.values().filter(|scan| scan.state != ScanState::Running);
        let mut ended: Vec<_> = ended.map(|scan| (scan.finished_at, scan.id)).collect();
        ended.sort_unstable();
        let count = ended.len().saturating_sub(super::ENDED_SCANS_KEPT);
        for (_, id) in ended.into_iter().take(count) {
            self.scans.remove(&id);
        }
    }
}

fn check_config(device: &DeviceEntry, check: &CheckSpec) -> CheckConfig {
    CheckConfig {
        check_id: check.id,
        device_id: device.record.id,
        address: device.record.address.clone(),
        check: check.check,
        port: check.port,
        url: check.url.clone(),
        interval_s: check.interval_s,
        timeout_ms: check.timeout_ms,
        failure_threshold: check.failure_threshold,
        expect: check.expect.clone(),
    }
}

fn page<K: Ord + Copy, V, T>(
    map: &std::collections::BTreeMap<K, V>,
    after: Option<K>,
    limit: usize,
    view: impl Fn(&V) -> T,
) -> Vec<T> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    map.range((from, Bound::Unbounded)).take(limit).map(|(_, value)| view(value)).collect()
}

fn count(agents: &[Agent], devices: &[Device]) -> Counts {
    let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let with = |status| length(devices.iter().filter(|device| device.status == status).count());
    let online = |agent: &&Agent| matches!(agent.state, AgentState::Online | AgentState::Lingering);
    Counts {
        agents: length(agents.len()),
        agents_online: length(agents.iter().filter(online).count()),
        devices: length(devices.len()),
        devices_online: with(DeviceStatus::Online),
        devices_degraded: with(DeviceStatus::Degraded),
        devices_offline: with(DeviceStatus::Offline),
        devices_unknown: with(DeviceStatus::Unknown),
    }
}
