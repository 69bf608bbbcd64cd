//! Networks, scans and what they find.

use std::net::IpAddr;

use pulse_protocol::agent::{DiscoveredDevice, ScanCompleted, ScanOutcome, ScanStarted, Segments};
use pulse_protocol::api::ScanState;
use pulse_protocol::event::{AgentChanged, EventBody, ScanChanged};
use pulse_protocol::ids::{AgentId, DeviceId, ScanId, SegmentId};

use super::devices::default_ping;
use super::step::{ERROR_CHARS, Step, text};
use super::view;
use crate::notification::rule::Worth;
use crate::record::{DeviceRecord, ScanRecord, SegmentRecord, Write};
use crate::scan::{self, Command};

/// Seconds between two scans of a new segment.
const SCAN_INTERVAL_S: u32 = 300;
/// Networks one agent may sit on; more are a fault of the agent.
const SEGMENTS_MAX: usize = 64;
/// Characters kept of a name that an agent gives.
const NAME_CHARS: usize = 100;

impl Step<'_> {
    /// Takes the networks an agent sits on; those that are gone stay, a person may still want them.
    pub(super) fn segments(&mut self, agent_id: AgentId, frame: Segments) -> Result<(), String> {
        let mut changed = Vec::new();
        for network in frame.networks {
            let cidr: ipnet::IpNet = network.cidr.parse().map_err(|_| {
                format!("`{:.64}` is no network such as 192.168.1.0/24", network.cidr)
            })?;
            let cidr = cidr.trunc().to_string();
            let mine = |segment: &&SegmentRecord| segment.agent_id == agent_id;
            let known = self.org.segments.values().filter(mine).any(|segment| segment.cidr == cidr)
                || changed.iter().any(|segment: &SegmentRecord| segment.cidr == cidr);
            let count = self.org.segments.values().filter(mine).count() + changed.len();
            if known {
                continue;
            }
            if count >= SEGMENTS_MAX {
                return Err(format!("an agent sits on at most {SEGMENTS_MAX} networks"));
            }
            changed.push(SegmentRecord {
                id: SegmentId::from_uuid(self.ids.next()),
                agent_id,
                name: text(&network.name, NAME_CHARS),
                cidr,
                interface: text(&network.interface, NAME_CHARS),
                scan_interval_s: SCAN_INTERVAL_S,
                enabled: true,
                last_scan_at: None,
            });
        }
        if changed.is_empty() {
            return Ok(());
        }
        let Some(agent) = self.org.agents.get(&agent_id) else { return Ok(()) };
        let data = AgentChanged {
            agent_id,
            name: agent.record.name.clone(),
            agent: agent.view(),
            segments: Some(changed.iter().map(view::segment).collect()),
        };
        self.journal(&EventBody::AgentUpdated(data), Worth::Quiet);
        for segment in changed {
            self.org.segments.insert(segment.id, segment.clone());
            self.write(Write::Segment(segment));
        }
        self.send_config(agent_id);
        Ok(())
    }

    pub(super) fn scan_started(
        &mut self,
        agent_id: AgentId,
        frame: &ScanStarted,
    ) -> Result<(), String> {
        let segment_name = self.own_segment(agent_id, frame.segment_id)?;
        let known = self.own_scan(agent_id, frame.scan_id)?;
        if let Some(state) = scan::decide(known.map(|scan| scan.state), Command::Start) {
            self.scan_changed(ScanRecord {
                id: frame.scan_id,
                agent_id,
                segment_id: frame.segment_id,
                segment_name,
                state,
                started_at: self.past(frame.started_at),
                finished_at: None,
                devices_found: 0,
                devices_new: 0,
                error: None,
            });
        }
        Ok(())
    }

    /// Takes the end of a scan with the devices in the agent's networks; says what is wrong with the others.
    pub(super) fn scan_completed(
        &mut self,
        agent_id: AgentId,
        frame: &ScanCompleted,
    ) -> Result<(), String> {
        let segment_name = self.own_segment(agent_id, frame.segment_id)?;
        let known = self.own_scan(agent_id, frame.scan_id)?;
        let state =
            scan::decide(known.as_ref().map(|scan| scan.state), Command::End(frame.outcome));
        let Some(state) = state else { return Ok(()) };
        let mut addresses = discovered_addresses(&frame.devices)?;
        let outside = self.drop_outside(agent_id, &mut addresses);
        let finished_at = self.past(frame.finished_at);
        let mut devices_new = 0;
        if state == ScanState::Completed {
            for (ip, device) in &addresses {
                devices_new += u32::from(self.discovered(agent_id, frame, *ip, device));
            }
        }
        self.scan_changed(ScanRecord {
            id: frame.scan_id,
            agent_id,
            segment_id: frame.segment_id,
            segment_name,
            state,
            started_at: known.map_or(finished_at, |scan| scan.started_at),
            finished_at: Some(finished_at),
            devices_found: u32::try_from(addresses.len()).unwrap_or(u32::MAX),
            devices_new,
            error: match frame.outcome {
                ScanOutcome::Completed => None,
                ScanOutcome::Failed => Some(text(
                    frame.error.as_deref().unwrap_or("the agent gave no reason"),
                    ERROR_CHARS,
                )),
            },
        });
        if devices_new > 0 {
            self.send_config(agent_id);
        }
        match outside.first() {
            None => Ok(()),
            Some(ip) => Err(format!(
                "{} devices are in no segment of this agent; the first: {ip}",
                outside.len()
            )),
        }
    }

    /// Takes away, and returns, what is neither in a segment nor a device of the agent.
    fn drop_outside(
        &self,
        agent_id: AgentId,
        addresses: &mut Vec<(IpAddr, &DiscoveredDevice)>,
    ) -> Vec<IpAddr> {
        let mine = self.org.segments.values().filter(|segment| segment.agent_id == agent_id);
        let nets: Vec<ipnet::IpNet> =
            mine.filter_map(|segment| segment.cidr.parse().ok()).collect();
        let agent = self.org.agents.get(&agent_id);
        let mut outside = Vec::new();
        addresses.retain(|(ip, _)| {
            let kept = nets.iter().any(|net| net.contains(ip))
                || agent.is_some_and(|agent| agent.devices_at(&ip.to_string()).next().is_some());
            if !kept {
                outside.push(*ip);
            }
            kept
        });
        outside
    }

    fn own_segment(&self, agent_id: AgentId, segment_id: SegmentId) -> Result<String, String> {
        self.org
            .segments
            .get(&segment_id)
            .filter(|segment| segment.agent_id == agent_id)
            .map(|segment| segment.name.clone())
            .ok_or_else(|| format!("{segment_id} is no segment of this agent"))
    }

    fn own_scan(&self, agent_id: AgentId, scan_id: ScanId) -> Result<Option<ScanRecord>, String> {
        match self.org.scans.get(&scan_id) {
            Some(scan) if scan.agent_id != agent_id => {
                Err(format!("{scan_id} is a scan of another agent"))
            }
            known => Ok(known.cloned()),
        }
    }

    /// Adds a device that a scan saw for the first time, while the plan has room; says whether it did.
    fn discovered(
        &mut self,
        agent_id: AgentId,
        frame: &ScanCompleted,
        ip: IpAddr,
        found: &DiscoveredDevice,
    ) -> bool {
        let address = ip.to_string();
        let known = self
            .org
            .agents
            .get(&agent_id)
            .is_some_and(|agent| agent.devices_at(&address).next().is_some());
        if known || self.room_for_device().is_err() {
            return false;
        }
        let hostname = found.hostname.as_deref().map(|name| text(name, NAME_CHARS));
        let record = DeviceRecord {
            id: DeviceId::from_uuid(self.ids.next()),
            agent_id,
            segment_id: Some(frame.segment_id),
            category_id: None,
            name: hostname.filter(|name| !name.is_empty()).unwrap_or_else(|| address.clone()),
            address,
            mac: found.mac.as_deref().map(|mac| text(mac, 32)),
            checks: vec![default_ping(self.ids)],
            created_at: self.now,
        };
        self.device_discovered(record, Some(frame.scan_id));
        true
    }

    /// A scan began or ended.
    pub(super) fn scan_changed(&mut self, record: ScanRecord) {
        let data = ScanChanged {
            scan_id: record.id,
            name: record.segment_name.clone(),
            agent_id: record.agent_id,
            segment_id: record.segment_id,
            state: record.state,
            started_at: record.started_at,
            finished_at: record.finished_at,
            devices_found: record.devices_found,
            devices_new: record.devices_new,
            error: record.error.clone(),
        };
        let body = match record.state {
            ScanState::Running => EventBody::ScanStarted(data),
            ScanState::Completed => EventBody::ScanCompleted(data),
            ScanState::Failed => EventBody::ScanFailed(data),
        };
        self.journal(&body, Worth::Alert);
        if let Some(segment) =
            self.org.segments.get(&record.segment_id).filter(|_| record.finished_at.is_some())
        {
            let write = Write::Segment(segment.clone());
            self.write(write);
        }
        self.write(Write::Scan(record));
    }
}

/// The addresses a scan found, each once; a device without a readable one makes the whole frame bad.
fn discovered_addresses(
    devices: &[DiscoveredDevice],
) -> Result<Vec<(IpAddr, &DiscoveredDevice)>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::with_capacity(devices.len());
    for device in devices {
        let ip: IpAddr = device
            .address
            .parse()
            .map_err(|_| format!("`{:.64}` is no IP address", device.address))?;
        if seen.insert(ip) {
            found.push((ip, device));
        }
    }
    Ok(found)
}
