//! Devices as people set them up.

use pulse_protocol::api::{DevicePatch, NewCheck, NewDevice};
use pulse_protocol::event::{DeviceChanged, DeviceRemovedData, EventBody};
use pulse_protocol::ids::{CheckId, DeviceId, ScanId};
use pulse_protocol::problem::FieldError;
use pulse_protocol::status::CheckKind;

use super::requests::{Faults, not_found};
use super::{Ids, step::Step};
use crate::device::Event;
use crate::notification::rule::Worth;
use crate::plan;
use crate::record::{CheckKey, CheckSpec, DeviceRecord, Write};
use crate::request::{Refusal, Reply};

/// Checks one device may have.
const CHECKS_MAX: usize = 20;
const INTERVAL_S: u32 = 60;
const TIMEOUT_MS: u32 = 5_000;
const FAILURE_THRESHOLD: u32 = 1;

/// The check of a device that nobody set up.
pub(super) fn default_ping(ids: &mut dyn Ids) -> CheckSpec {
    CheckSpec {
        id: CheckId::from_uuid(ids.next()),
        check: CheckKind::Ping,
        port: None,
        url: None,
        interval_s: INTERVAL_S,
        timeout_ms: TIMEOUT_MS,
        failure_threshold: FAILURE_THRESHOLD,
        expect: None,
    }
}

impl Step<'_> {
    /// Whether the plan allows one more device.
    pub(super) fn room_for_device(&self) -> Result<(), Refusal> {
        let limit = plan::limits(self.org.record.plan).devices;
        let current = self.org.devices.len() as u64;
        if current < limit {
            Ok(())
        } else {
            Err(Refusal::LimitReached { what: "devices".into(), limit, current })
        }
    }

    pub(super) fn device_discovered(&mut self, record: DeviceRecord, scan_id: Option<ScanId>) {
        let device_id = record.id;
        let mac = record.mac.clone();
        self.org.insert_device(record);
        let Some(device) = self.org.devices.get(&device_id) else { return };
        let data = DeviceChanged {
            device_id,
            name: device.record.name.clone(),
            device: device.view(),
            scan_id,
        };
        self.journal(&EventBody::DeviceDiscovered(data), Worth::Alert);
        if let Some(device) = self.org.devices.get_mut(&device_id) {
            device.record.mac = mac;
        }
        self.write_device(device_id);
        self.write_device_state(device_id);
    }

    pub(super) fn add_device(
        &mut self,
        device_id: DeviceId,
        new: NewDevice,
    ) -> Result<Reply, Refusal> {
        let mut faults = Faults::default();
        let address = faults.address("address", &new.address);
        let name = faults.name("name", new.name.as_deref().unwrap_or(&address));
        if !self.org.agents.contains_key(&new.agent_id) {
            faults.push(FieldError::new(
                "agent_id",
                "not_found",
                "name an agent of this organisation",
            ));
        }
        let segment = new.segment_id.map(|id| self.org.segments.get(&id));
        if segment
            .is_some_and(|segment| segment.is_none_or(|segment| segment.agent_id != new.agent_id))
        {
            faults.push(FieldError::new(
                "segment_id",
                "not_found",
                "name a segment of the device's agent",
            ));
        }
        let checks = match new.checks {
            Some(checks) => self.check_specs(checks, &[], &mut faults),
            None => vec![default_ping(self.ids)],
        };
        faults.finish()?;
        self.room_for_device()?;
        let record = DeviceRecord {
            id: device_id,
            agent_id: new.agent_id,
            segment_id: new.segment_id,
            category_id: new.category_id,
            name,
            address,
            mac: None,
            checks,
            created_at: self.now,
        };
        self.device_discovered(record, None);
        self.send_config(new.agent_id);
        self.device_reply(device_id)
    }

    fn device_reply(&self, device_id: DeviceId) -> Result<Reply, Refusal> {
        let device = self.org.devices.get(&device_id).ok_or_else(not_found("device"))?;
        Ok(Reply::Device(Box::new(device.view())))
    }

    pub(super) fn patch_device(
        &mut self,
        device_id: DeviceId,
        patch: DevicePatch,
    ) -> Result<Reply, Refusal> {
        let device = self.org.devices.get(&device_id).ok_or_else(not_found("device"))?;
        let mut record = device.record.clone();
        let mut faults = Faults::default();
        if let Some(name) = patch.name {
            record.name = faults.name("name", &name);
        }
        if let Some(address) = patch.address {
            record.address = faults.address("address", &address);
        }
        if let Some(checks) = patch.checks {
            record.checks = self.check_specs(checks, &record.checks, &mut faults);
        }
        faults.finish()?;
        self.device_updated(record);
        self.device_reply(device_id)
    }

    fn device_updated(&mut self, record: DeviceRecord) {
        let (device_id, agent_id) = (record.id, record.agent_id);
        let configured: Vec<(CheckId, CheckKind)> =
            record.checks.iter().map(|check| (check.id, check.check)).collect();
        let keep = |key| match key {
            CheckKey::Configured(id) => configured.iter().any(|(kept, _)| *kept == id),
            CheckKey::Implicit(kind) => configured.iter().all(|(_, other)| *other != kind),
        };
        let Some(device) = self.org.devices.get(&device_id) else { return };
        let change = device.state.decide_checks_kept(keep, self.now);
        self.org.insert_device(record);
        let Some(device) = self.org.devices.get_mut(&device_id) else { return };
        device.state.retain_checks(keep);
        let data = DeviceChanged {
            device_id,
            name: device.record.name.clone(),
            device: device.view(),
            scan_id: None,
        };
        self.journal(&EventBody::DeviceUpdated(data), Worth::Quiet);
        self.write_device(device_id);
        self.write_device_state(device_id);
        if let Some(Event::Changed(change)) = change {
            self.status_changed(device_id, &change, None, None);
        }
        self.send_config(agent_id);
    }

    pub(super) fn remove_device(&mut self, device_id: DeviceId) -> Result<Reply, Refusal> {
        let device = self.org.devices.get(&device_id).ok_or_else(not_found("device"))?;
        let agent_id = device.record.agent_id;
        let data = DeviceRemovedData { device_id, name: device.record.name.clone(), agent_id };
        self.journal(&EventBody::DeviceRemoved(data), Worth::Alert);
        self.write(Write::DeviceRemoved(device_id));
        self.send_config(agent_id);
        Ok(Reply::Removed)
    }

    /// What `checks` ask for; those named by the id of one of `existing` keep it.
    fn check_specs(
        &mut self,
        checks: Vec<NewCheck>,
        existing: &[CheckSpec],
        faults: &mut Faults,
    ) -> Vec<CheckSpec> {
        if checks.len() > CHECKS_MAX {
            let message = format!("a device has at most {CHECKS_MAX} checks");
            faults.push(FieldError::new("checks", "too_long", message));
        }
        let mut specs: Vec<CheckSpec> = Vec::with_capacity(checks.len().min(CHECKS_MAX));
        for (index, check) in checks.into_iter().take(CHECKS_MAX).enumerate() {
            let path = format!("checks[{index}]");
            let known = check.id.is_none_or(|id| {
                existing.iter().any(|old| old.id == id) && specs.iter().all(|spec| spec.id != id)
            });
            if !known {
                let message = "name a check of this device once, or leave it out for a new one";
                faults.push(FieldError::new(format!("{path}.id"), "not_found", message));
            }
            check_fields(&path, &check, faults);
            specs.push(CheckSpec {
                id: check.id.unwrap_or_else(|| CheckId::from_uuid(self.ids.next())),
                check: check.check,
                port: check.port.or((check.check == CheckKind::Tls).then_some(443)),
                url: check.url,
                interval_s: check.interval_s.unwrap_or(INTERVAL_S),
                timeout_ms: check.timeout_ms.unwrap_or(TIMEOUT_MS),
                failure_threshold: check.failure_threshold.unwrap_or(FAILURE_THRESHOLD),
                expect: check.expect,
            });
        }
        specs
    }
}

fn check_fields(path: &str, check: &NewCheck, faults: &mut Faults) {
    let field = |name: &str| format!("{path}.{name}");
    if check.check == CheckKind::Tcp && check.port.is_none() {
        faults.push(FieldError::new(
            field("port"),
            "required",
            "a tcp check needs a port, 1 to 65535",
        ));
    }
    if check.port == Some(0) {
        faults.push(FieldError::new(field("port"), "out_of_range", "1 to 65535"));
    }
    match (check.check, &check.url) {
        (CheckKind::Http, None) => {
            faults.push(FieldError::new(field("url"), "required", "an http check needs a url"));
        }
        (CheckKind::Http, Some(url)) if !is_http_url(url) => {
            let message =
                "write a URL such as https://example.com/health, at most 2,048 characters";
            faults.push(FieldError::new(field("url"), "invalid", message));
        }
        _ => {}
    }
    faults.range(&field("interval_s"), check.interval_s, 1..=86_400);
    faults.range(&field("timeout_ms"), check.timeout_ms, 100..=60_000);
    faults.range(&field("failure_threshold"), check.failure_threshold, 1..=10);
}

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    url.len() <= 2_048
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}
