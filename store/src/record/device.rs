//! Devices and how they are.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{DeviceRecord, DeviceStateRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::ids::{AgentId, CategoryId, DeviceId, OrgId, SegmentId};
use pulse_protocol::status::DeviceStatus;
use uuid::Uuid;

use super::{Record, from_json, to_json, word};
use crate::entity::{device, device_state};
use crate::seal::Sealer;

impl Record for DeviceRecord {
    type Row = device::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<device::Model, StoreError> {
        Ok(device::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            agent_id: self.agent_id.uuid(),
            segment_id: self.segment_id.map(SegmentId::uuid),
            category_id: self.category_id.map(CategoryId::uuid),
            name: self.name.clone(),
            address: self.address.clone(),
            mac: self.mac.clone(),
            checks: to_json(&self.checks, "device")?,
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: device::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            id: DeviceId::from_uuid(row.id),
            agent_id: AgentId::from_uuid(row.agent_id),
            segment_id: row.segment_id.map(SegmentId::from_uuid),
            category_id: row.category_id.map(CategoryId::from_uuid),
            name: row.name,
            address: row.address,
            mac: row.mac,
            checks: from_json(&row.checks, "device")?,
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

impl Record for DeviceStateRecord {
    type Row = device_state::Model;

    fn key(&self) -> Uuid {
        self.device_id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<device_state::Model, StoreError> {
        Ok(device_state::Model {
            org_id: org_id.uuid(),
            device_id: self.device_id.uuid(),
            status: self.status.as_str().to_owned(),
            known: self.known.map(|known| known.as_str().to_owned()),
            since: self.since.unix_ms(),
            response_time_ms: self.response_time_ms,
            checks: to_json(&self.checks, "device state")?,
        })
    }

    fn read(row: device_state::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "device state";
        let status = |stored: &str| word(DeviceStatus::from_word, stored, WHAT);
        Ok(Self {
            device_id: DeviceId::from_uuid(row.device_id),
            status: status(&row.status)?,
            known: row.known.as_deref().map(status).transpose()?,
            since: Timestamp::from_unix_ms(row.since),
            response_time_ms: row.response_time_ms,
            checks: from_json(&row.checks, WHAT)?,
        })
    }
}
