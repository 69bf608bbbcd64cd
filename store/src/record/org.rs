//! Orgs and their events.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{JournalEvent, OrgRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{OrgStatus, Plan};
use pulse_protocol::ids::{EventId, OrgId};
use uuid::Uuid;

use super::{Record, number, optional_number, word};
use crate::entity::{event, org};
use crate::seal::Sealer;

impl Record for OrgRecord {
    type Row = org::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, _: OrgId, _: &Sealer) -> Result<org::Model, StoreError> {
        Ok(org::Model {
            id: self.id.uuid(),
            name: self.name.clone(),
            slug: self.slug.clone(),
            plan: self.plan.as_str().to_owned(),
            status: self.status.as_str().to_owned(),
            status_reason: self.status_reason.clone(),
            heartbeat_interval_ms: self.heartbeat_interval_ms.map(i64::from),
            heartbeat_timeout_ms: self.heartbeat_timeout_ms.map(i64::from),
            offline_grace_ms: self.offline_grace_ms.map(i64::from),
            created_at: self.created_at.unix_ms(),
            changed_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: org::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "org";
        Ok(Self {
            id: OrgId::from_uuid(row.id),
            name: row.name,
            slug: row.slug,
            plan: word(Plan::from_word, &row.plan, WHAT)?,
            status: org_status(&row.status)?,
            status_reason: row.status_reason,
            heartbeat_interval_ms: optional_number(row.heartbeat_interval_ms, WHAT)?,
            heartbeat_timeout_ms: optional_number(row.heartbeat_timeout_ms, WHAT)?,
            offline_grace_ms: optional_number(row.offline_grace_ms, WHAT)?,
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

pub(crate) fn org_status(stored: &str) -> Result<OrgStatus, StoreError> {
    word(OrgStatus::from_word, stored, "org")
}

/// Reads one event.
pub(crate) fn read_event(row: event::Model) -> Result<JournalEvent, StoreError> {
    Ok(JournalEvent {
        seq: number(row.seq, "event")?,
        id: EventId::from_uuid(row.id),
        name: row.name.into(),
        at: Timestamp::from_unix_ms(row.at),
        data: row.data.into(),
    })
}
