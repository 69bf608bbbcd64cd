//! Agents and segments.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{AgentRecord, PositionRecord, PresenceRecord, SegmentRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::ids::{AgentId, OrgId, SegmentId};
use pulse_protocol::status::AgentState;
use uuid::Uuid;

use super::{
    Record, from_json, hash, number, optional_instant, optional_ms, stored, to_json, word,
};
use crate::entity::{agent, position, presence, segment};
use crate::seal::Sealer;

impl Record for AgentRecord {
    type Row = agent::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<agent::Model, StoreError> {
        let facts = self.facts.as_ref().map(|facts| to_json(facts, "agent")).transpose()?;
        Ok(agent::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            name: self.name.clone(),
            enabled: self.enabled,
            key_hash: self.key_hash.to_vec(),
            key_prefix: self.key_prefix.clone(),
            previous_key_hash: self.previous_key.map(|(hash, _)| hash.to_vec()),
            previous_key_until: self.previous_key.map(|(_, until)| until.unix_ms()),
            facts,
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: agent::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "agent";
        let previous_key = match (row.previous_key_hash, row.previous_key_until) {
            (Some(key), Some(until)) => Some((hash(&key, WHAT)?, Timestamp::from_unix_ms(until))),
            _ => None,
        };
        Ok(Self {
            id: AgentId::from_uuid(row.id),
            name: row.name,
            enabled: row.enabled,
            key_hash: hash(&row.key_hash, WHAT)?,
            key_prefix: row.key_prefix,
            previous_key,
            facts: row.facts.map(|facts| from_json(&facts, WHAT)).transpose()?,
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

impl Record for PresenceRecord {
    type Row = presence::Model;

    fn key(&self) -> Uuid {
        self.agent_id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<presence::Model, StoreError> {
        Ok(presence::Model {
            org_id: org_id.uuid(),
            agent_id: self.agent_id.uuid(),
            state: self.state.as_str().to_owned(),
            since: self.since.unix_ms(),
            last_seen_at: optional_ms(self.last_seen_at),
            back_by: optional_ms(self.back_by),
        })
    }

    fn read(row: presence::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            agent_id: AgentId::from_uuid(row.agent_id),
            state: word(AgentState::from_word, &row.state, "presence")?,
            since: Timestamp::from_unix_ms(row.since),
            last_seen_at: optional_instant(row.last_seen_at),
            back_by: optional_instant(row.back_by),
        })
    }
}

impl Record for PositionRecord {
    type Row = position::Model;

    fn key(&self) -> Uuid {
        self.agent_id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<position::Model, StoreError> {
        Ok(position::Model {
            org_id: org_id.uuid(),
            agent_id: self.agent_id.uuid(),
            spool_id: self.spool_id.to_string(),
            acked_seq: stored(self.acked_seq, "position")?,
        })
    }

    fn read(row: position::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            agent_id: AgentId::from_uuid(row.agent_id),
            spool_id: row.spool_id.into(),
            acked_seq: number(row.acked_seq, "position")?,
        })
    }
}

impl Record for SegmentRecord {
    type Row = segment::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<segment::Model, StoreError> {
        Ok(segment::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            agent_id: self.agent_id.uuid(),
            name: self.name.clone(),
            cidr: self.cidr.clone(),
            interface: self.interface.clone(),
            scan_interval_s: self.scan_interval_s.into(),
            enabled: self.enabled,
            last_scan_at: optional_ms(self.last_scan_at),
        })
    }

    fn read(row: segment::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            id: SegmentId::from_uuid(row.id),
            agent_id: AgentId::from_uuid(row.agent_id),
            name: row.name,
            cidr: row.cidr,
            interface: row.interface,
            scan_interval_s: number(row.scan_interval_s, "segment")?,
            enabled: row.enabled,
            last_scan_at: optional_instant(row.last_scan_at),
        })
    }
}
