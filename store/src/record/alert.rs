//! Alerts and maintenance windows.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{AlertRecord, WindowRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::ids::{AlertId, OrgId, RuleId, WindowId};
use uuid::Uuid;

use super::{Record, from_json, optional_instant, optional_ms, to_json};
use crate::entity::{alert, maintenance_window};
use crate::seal::Sealer;

impl Record for AlertRecord {
    type Row = alert::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<alert::Model, StoreError> {
        Ok(alert::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            rule_id: self.rule_id.uuid(),
            resource: self.resource.clone(),
            state: to_json(&self.state, "alert")?,
            due_at: optional_ms(self.due_at),
            updated_at: self.updated_at.unix_ms(),
        })
    }

    fn read(row: alert::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            id: AlertId::from_uuid(row.id),
            rule_id: RuleId::from_uuid(row.rule_id),
            resource: row.resource,
            state: from_json(&row.state, "alert")?,
            due_at: optional_instant(row.due_at),
            updated_at: Timestamp::from_unix_ms(row.updated_at),
        })
    }
}

impl Record for WindowRecord {
    type Row = maintenance_window::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<maintenance_window::Model, StoreError> {
        Ok(maintenance_window::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            settings: to_json(&self.settings, "maintenance window")?,
            next_change_at: optional_ms(self.next_change_at),
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: maintenance_window::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            id: WindowId::from_uuid(row.id),
            settings: from_json(&row.settings, "maintenance window")?,
            next_change_at: optional_instant(row.next_change_at),
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}
