//! Scans and commands.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{CommandRecord, ScanRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::CommandKind;
use pulse_protocol::api::{Command, CommandState, ScanState};
use pulse_protocol::ids::{AgentId, CommandId, OrgId, ScanId, SegmentId};
use uuid::Uuid;

use super::{Record, from_json, number, optional_instant, optional_ms, to_json, word};
use crate::entity::{command, scan};
use crate::seal::Sealer;

impl Record for ScanRecord {
    type Row = scan::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<scan::Model, StoreError> {
        let is_open = match self.state {
            ScanState::Running => true,
            ScanState::Completed | ScanState::Failed => false,
        };
        Ok(scan::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            agent_id: self.agent_id.uuid(),
            segment_id: self.segment_id.uuid(),
            segment_name: self.segment_name.clone(),
            state: self.state.as_str().to_owned(),
            started_at: self.started_at.unix_ms(),
            finished_at: optional_ms(self.finished_at),
            devices_found: self.devices_found.into(),
            devices_new: self.devices_new.into(),
            error: self.error.clone(),
            open_since: is_open.then_some(self.started_at.unix_ms()),
        })
    }

    fn read(row: scan::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "scan";
        Ok(Self {
            id: ScanId::from_uuid(row.id),
            agent_id: AgentId::from_uuid(row.agent_id),
            segment_id: SegmentId::from_uuid(row.segment_id),
            segment_name: row.segment_name,
            state: word(ScanState::from_word, &row.state, WHAT)?,
            started_at: Timestamp::from_unix_ms(row.started_at),
            finished_at: optional_instant(row.finished_at),
            devices_found: number(row.devices_found, WHAT)?,
            devices_new: number(row.devices_new, WHAT)?,
            error: row.error,
        })
    }
}

impl Record for CommandRecord {
    type Row = command::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<command::Model, StoreError> {
        let is_open = match self.state {
            CommandState::Issued | CommandState::Delivered | CommandState::Running => true,
            CommandState::Succeeded
            | CommandState::Failed
            | CommandState::Expired
            | CommandState::Cancelled => false,
        };
        let result = self.result.as_ref().map(|result| to_json(result, "command")).transpose()?;
        Ok(command::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            agent_id: self.agent_id.uuid(),
            kind: self.kind.as_str().to_owned(),
            payload: to_json(&self.payload, "command")?,
            state: self.state.as_str().to_owned(),
            issued_at: self.issued_at.unix_ms(),
            deadline: self.deadline.unix_ms(),
            result,
            error: self.error.clone(),
            open_since: is_open.then_some(self.issued_at.unix_ms()),
        })
    }

    fn read(row: command::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "command";
        Ok(Self {
            id: CommandId::from_uuid(row.id),
            agent_id: AgentId::from_uuid(row.agent_id),
            kind: word(CommandKind::from_word, &row.kind, WHAT)?,
            payload: from_json(&row.payload, WHAT)?,
            state: word(CommandState::from_word, &row.state, WHAT)?,
            issued_at: Timestamp::from_unix_ms(row.issued_at),
            deadline: Timestamp::from_unix_ms(row.deadline),
            result: row.result.map(|result| from_json(&result, WHAT)).transpose()?,
            error: row.error,
        })
    }
}

/// A command as it is shown.
pub(crate) fn command_view(record: CommandRecord) -> Command {
    Command {
        id: record.id,
        kind: record.kind,
        payload: record.payload,
        state: record.state,
        deadline: record.deadline,
        result: record.result,
        error: record.error,
    }
}
