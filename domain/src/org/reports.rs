//! Results of checks.

use std::net::IpAddr;

use pulse_protocol::agent::{CheckResult, Report};
use pulse_protocol::event::{DeviceChanged, DeviceStatusChanged, EventBody};
use pulse_protocol::ids::{AgentId, DeviceId, SegmentId};
use pulse_protocol::status::{CheckKind, DeviceStatus};

use super::step::{ERROR_CHARS, Step, text};
use crate::device::{CheckReport, Event, StatusChange};
use crate::notification::rule::Worth;
use crate::record::{CheckKey, DeviceRecord};

impl Step<'_> {
    /// Takes the results that name something of this agent's; says what is wrong with the others.
    pub(super) fn report(&mut self, agent_id: AgentId, report: Report) -> Result<(), String> {
        let mut faults = Vec::new();
        for result in report.reports {
            match self.locate(agent_id, &result) {
                Ok((device_id, key)) => self.result(device_id, key, &result),
                Err(fault) => faults.push(fault),
            }
        }
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.swap_remove(0)),
            count => {
                Err(format!("{count} results were not taken; the first: {}", faults.swap_remove(0)))
            }
        }
    }

    /// The device and check that a result is about. An address inside one of the agent's segments that is no
    /// device yet becomes one.
    fn locate(
        &mut self,
        agent_id: AgentId,
        result: &CheckResult,
    ) -> Result<(DeviceId, CheckKey), String> {
        if let Some(check_id) = result.check_id {
            return self
                .org
                .device_by_check
                .get(&check_id)
                .filter(|device_id| self.watches(agent_id, **device_id))
                .map(|device_id| (*device_id, CheckKey::Configured(check_id)))
                .ok_or_else(|| format!("{check_id} is no check of this agent"));
        }
        let kind = result.check.unwrap_or(CheckKind::Ping);
        let device_id = match (result.device_id, &result.address) {
            (Some(device_id), _) if self.watches(agent_id, device_id) => device_id,
            (Some(device_id), _) => return Err(format!("{device_id} is no device of this agent")),
            (None, Some(address)) => self.locate_address(agent_id, address, kind)?,
            (None, None) => {
                return Err("a result names a `check_id`, a `device_id` or an `address`".to_owned());
            }
        };
        Ok((device_id, self.key_for(device_id, kind)))
    }

    fn watches(&self, agent_id: AgentId, device_id: DeviceId) -> bool {
        self.org.devices.get(&device_id).is_some_and(|device| device.record.agent_id == agent_id)
    }

    /// Of several devices at an address the one with a check of this kind, else the oldest.
    fn locate_address(
        &mut self,
        agent_id: AgentId,
        address: &str,
        kind: CheckKind,
    ) -> Result<DeviceId, String> {
        let ip = address.parse::<IpAddr>();
        // As people's devices are written: see `Faults::address`.
        let canonical =
            ip.as_ref().map_or_else(|_| address.trim().to_ascii_lowercase(), IpAddr::to_string);
        let agent = self.org.agents.get(&agent_id);
        let at_address: Vec<DeviceId> =
            agent.into_iter().flat_map(|agent| agent.devices_at(&canonical)).collect();
        let checked = |id: &&DeviceId| matches!(self.key_for(**id, kind), CheckKey::Configured(_));
        if let Some(device_id) = at_address.iter().find(checked).or_else(|| at_address.first()) {
            return Ok(*device_id);
        }
        let outside =
            || format!("{address:.64} is no device of this agent, and in none of its segments");
        let ip = ip.map_err(|_| outside())?;
        let segment_id = self.segment_of(agent_id, ip).ok_or_else(outside)?;
        self.add_found_device(agent_id, segment_id, ip)
    }

    /// The agent's narrowest segment around an address.
    pub(super) fn segment_of(&self, agent_id: AgentId, ip: IpAddr) -> Option<SegmentId> {
        self.org
            .segments
            .values()
            .filter(|segment| segment.agent_id == agent_id)
            .filter_map(|segment| Some((segment.cidr.parse::<ipnet::IpNet>().ok()?, segment.id)))
            .filter(|(net, _)| net.contains(&ip))
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, id)| id)
    }

    fn add_found_device(
        &mut self,
        agent_id: AgentId,
        segment_id: SegmentId,
        ip: IpAddr,
    ) -> Result<DeviceId, String> {
        self.room_for_device().map_err(|refusal| refusal.to_string())?;
        let device_id = DeviceId::from_uuid(self.ids.next());
        let address = ip.to_string();
        self.device_discovered(
            DeviceRecord {
                id: device_id,
                agent_id,
                segment_id: Some(segment_id),
                category_id: None,
                name: address.clone(),
                address,
                mac: None,
                checks: Vec::new(),
                created_at: self.now,
            },
            None,
        );
        Ok(device_id)
    }

    fn key_for(&self, device_id: DeviceId, kind: CheckKind) -> CheckKey {
        self.org
            .devices
            .get(&device_id)
            .and_then(|device| device.record.checks.iter().find(|check| check.check == kind))
            .map_or(CheckKey::Implicit(kind), |check| CheckKey::Configured(check.id))
    }

    fn result(&mut self, device_id: DeviceId, key: CheckKey, result: &CheckResult) {
        let at = self.past(result.checked_at);
        let Some(device) = self.org.devices.get_mut(&device_id) else { return };
        let threshold = match key {
            CheckKey::Configured(id) => {
                let spec = device.record.checks.iter().find(|check| check.id == id);
                spec.map_or(1, |check| check.failure_threshold)
            }
            CheckKey::Implicit(_) => 1,
        };
        let report = CheckReport {
            key,
            threshold,
            status: result.status,
            response_time_ms: result.response_time_ms.filter(|ms| ms.is_finite() && *ms >= 0.0),
            at,
        };
        let (before, result_before) = (device.state.check(key).copied(), device.state.result(key));
        let events = device.state.decide_report(&report);
        let mut changed = None;
        for event in &events {
            match event {
                Event::Changed(change) => changed = Some(*change),
                Event::Counted { .. } | Event::Measured { .. } => device.state.apply(event),
            }
        }
        let counted = device.state.check(key).copied() != before;
        let measured = device.state.result(key) != result_before;
        let error = result.error.as_deref();
        match changed {
            Some(change) => self.status_changed(device_id, &change, report.response_time_ms, error),
            None if measured => self.check_changed(device_id),
            // A count that starts again is as much a change as one that grows.
            None if counted => self.write_device_state(device_id),
            None => {}
        }
    }

    /// A check changed, and its device is as bad as before: shown, but no alert.
    fn check_changed(&mut self, device_id: DeviceId) {
        let Some(device) = self.org.devices.get(&device_id) else { return };
        let data = DeviceChanged {
            device_id,
            name: device.record.name.clone(),
            device: device.view(),
            scan_id: None,
        };
        self.journal(&EventBody::DeviceUpdated(data), Worth::Quiet);
        self.write_device_state(device_id);
    }

    /// A device's status changed.
    pub(super) fn status_changed(
        &mut self,
        device_id: DeviceId,
        change: &StatusChange,
        response_time_ms: Option<f64>,
        error: Option<&str>,
    ) {
        let Some(device) = self.org.devices.get(&device_id) else { return };
        let (check_id, check) = match change.decided_by {
            Some((CheckKey::Configured(id), _)) => (
                Some(id),
                device.record.checks.iter().find(|check| check.id == id).map(|check| check.check),
            ),
            Some((CheckKey::Implicit(kind), _)) => (None, Some(kind)),
            None => (None, None),
        };
        let data = DeviceStatusChanged {
            device_id,
            name: device.record.name.clone(),
            address: device.record.address.clone(),
            agent_id: device.record.agent_id,
            segment_id: device.record.segment_id,
            previous: change.previous,
            current: change.current,
            since: change.since,
            cause: change.cause,
            response_time_ms,
            check_id,
            check,
            check_status: change.decided_by.map(|(_, status)| status),
            error: error.map(|error| text(error, ERROR_CHARS)),
        };
        // That nobody can tell how it is, is news when a result says so, and none when its checks were taken away.
        let is_lost = change.current == DeviceStatus::Unknown && change.decided_by.is_some();
        let body = match change.current {
            DeviceStatus::Online => EventBody::DeviceOnline(data),
            DeviceStatus::Degraded => EventBody::DeviceDegraded(data),
            DeviceStatus::Offline => EventBody::DeviceOffline(data),
            DeviceStatus::Unknown => EventBody::DeviceUnknown(data),
        };
        let worth = if change.alert || is_lost { Worth::Alert } else { Worth::Quiet };
        self.journal(&body, worth);
        self.write_device_state(device_id);
    }
}
