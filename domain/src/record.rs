//! What the tables hold: the shapes an org is loaded from and saved to.
//!
//! A change is decided on the machines in memory; the records it touched are written whole in the transaction
//! that holds its events. Each record is one row, or the part of a row that changes together.

use std::sync::Arc;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::CommandKind;
use pulse_protocol::api::{Attempt, CommandState, OrgStatus, Plan, ScanState};
use pulse_protocol::ids::{
    AgentId, AlertId, CategoryId, ChannelId, CheckId, CommandId, DeliveryId, DeviceId, EventId,
    OrgId, RuleId, ScanId, SegmentId, WindowId,
};
use pulse_protocol::status::{AgentState, CheckKind, DeviceStatus, Platform};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::notification::mail::MailRequest;

pub use crate::notification::board::AlertRecord;
pub use crate::notification::record::*;
pub use crate::notification::window::{WindowRecord, WindowSettings};

/// SHA-256 of a secret; the secret itself is never stored.
pub type SecretHash = [u8; 32];

/// An org's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgRecord {
    /// The org.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its name in links and keys; unique.
    pub slug: String,
    /// What it pays for.
    pub plan: Plan,
    /// Where it is in its life.
    pub status: OrgStatus,
    /// Why it has this status, where a person said.
    pub status_reason: Option<String>,
    /// Its own heartbeat interval in milliseconds; the hub's when absent.
    pub heartbeat_interval_ms: Option<u32>,
    /// Its own heartbeat timeout in milliseconds; the hub's when absent.
    pub heartbeat_timeout_ms: Option<u32>,
    /// Its own offline grace in milliseconds; the hub's when absent.
    pub offline_grace_ms: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What the hub's operators decide about an org: the columns of its row that its home never writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the org pays for.
    pub plan: Plan,
    /// Where it is in its life.
    pub status: OrgStatus,
    /// Why it has this status, where a person said.
    pub status_reason: Option<String>,
}

impl OrgRecord {
    /// What the hub's operators decided about it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { plan: self.plan, status: self.status, status_reason: self.status_reason.clone() }
    }

    /// Takes over what they decided.
    pub(crate) fn stand(&mut self, standing: Standing) {
        let Standing { plan, status, status_reason } = standing;
        (self.plan, self.status, self.status_reason) = (plan, status, status_reason);
    }
}

/// An agent's settings and facts; all but its presence and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// The agent.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Whether it may connect.
    pub enabled: bool,
    /// Hash of its key.
    pub key_hash: SecretHash,
    /// The part of the key that may be shown.
    pub key_prefix: String,
    /// The key before the last rotation, and until when it is honoured.
    pub previous_key: Option<(SecretHash, Timestamp)>,
    /// What it said of itself in its last `hello`.
    pub facts: Option<AgentFacts>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Version of its software.
    pub version: String,
    /// Name of its machine.
    pub hostname: String,
    /// Operating system.
    pub platform: Platform,
    /// Processor architecture.
    pub arch: String,
}

/// How an agent was last announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceRecord {
    /// The agent.
    pub agent_id: AgentId,
    /// `never_connected`, `online` or `offline`; the other states are not stored.
    pub state: AgentState,
    /// Since when.
    pub since: Timestamp,
    /// When its last frame came, as known when this was written.
    pub last_seen_at: Option<Timestamp>,
    /// After a `bye` with `expect_back_ms`: until when its absence is planned.
    pub back_by: Option<Timestamp>,
}

/// How far an agent's spool is durable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRecord {
    /// The agent.
    pub agent_id: AgentId,
    /// The spool that the number belongs to.
    pub spool_id: Arc<str>,
    /// The last number that is durable; 0 for none.
    pub acked_seq: u64,
}

/// A network segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// The segment.
    pub id: SegmentId,
    /// The agent that sits on it.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// Its addresses, in canonical form.
    pub cidr: String,
    /// The agent's interface.
    pub interface: String,
    /// Seconds between two scans.
    pub scan_interval_s: u32,
    /// Whether it is scanned.
    pub enabled: bool,
    /// When a scan of it last ended.
    pub last_scan_at: Option<Timestamp>,
}

/// What a check does. Stored with its device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// The check.
    pub id: CheckId,
    /// What it does.
    pub check: CheckKind,
    /// Port, where the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// URL of an `http` check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Seconds between two runs.
    pub interval_s: u32,
    /// Milliseconds until a run has failed.
    pub timeout_ms: u32,
    /// Failures in a row until it is believed.
    pub failure_threshold: u32,
    /// What the answer must be, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
}

/// A device's settings; all but its status.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRecord {
    /// The device.
    pub id: DeviceId,
    /// The agent that watches it.
    pub agent_id: AgentId,
    /// The segment it is in.
    pub segment_id: Option<SegmentId>,
    /// Its category.
    pub category_id: Option<CategoryId>,
    /// Its name.
    pub name: String,
    /// IP address or host name.
    pub address: String,
    /// Its hardware address, where a scan saw it.
    pub mac: Option<String>,
    /// What is checked.
    pub checks: Vec<CheckSpec>,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Which check of a device a result belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CheckKey {
    /// A configured check.
    Configured(CheckId),
    /// Results of this kind that no configured check asked for.
    Implicit(CheckKind),
}

/// How one check of a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    /// Which check.
    pub key: CheckKey,
    /// How it is.
    pub status: DeviceStatus,
    /// Failures in a row that are not yet believed.
    #[serde(default)]
    pub failures: u32,
}

/// How a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceStateRecord {
    /// The device.
    pub device_id: DeviceId,
    /// As bad as its worst check.
    pub status: DeviceStatus,
    /// The last status other than `unknown`: what an alert compares with.
    pub known: Option<DeviceStatus>,
    /// Since when it has this status.
    pub since: Timestamp,
    /// Of the last answer, in milliseconds.
    pub response_time_ms: Option<f64>,
    /// Its checks.
    pub checks: Vec<CheckState>,
}

/// One scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRecord {
    /// The scan.
    pub id: ScanId,
    /// Who scans.
    pub agent_id: AgentId,
    /// What is scanned.
    pub segment_id: SegmentId,
    /// The segment's name when the scan began.
    pub segment_name: String,
    /// Where it is in its life.
    pub state: ScanState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Devices seen.
    pub devices_found: u32,
    /// Devices seen for the first time.
    pub devices_new: u32,
    /// Why it failed.
    pub error: Option<String>,
}

/// A command to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandRecord {
    /// The command.
    pub id: CommandId,
    /// Who is to carry it out.
    pub agent_id: AgentId,
    /// What to do.
    pub kind: CommandKind,
    /// How, by kind.
    pub payload: Value,
    /// Where it is in its life.
    pub state: CommandState,
    /// When it was given.
    pub issued_at: Timestamp,
    /// Not to be begun after this.
    pub deadline: Timestamp,
    /// What it gave.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// One event of a journal, its payload encoded once for the table, the dashboards and the receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEvent {
    /// Its number in the org.
    pub seq: u64,
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub name: Arc<str>,
    /// When it became true.
    pub at: Timestamp,
    /// The payload as JSON text.
    pub data: Arc<str>,
}

/// One row to write. Upserts replace the whole record.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Upsert.
    Org(OrgRecord),
    /// Upsert; a new agent also needs its presence.
    Agent(AgentRecord),
    /// Deletes the agent, its presence, position, segments, devices and their states; its scans and commands stay
    /// as history, ended.
    AgentRemoved(AgentId),
    /// Upsert.
    Presence(PresenceRecord),
    /// Upsert.
    Position(PositionRecord),
    /// Upsert.
    Segment(SegmentRecord),
    /// Upsert.
    Device(DeviceRecord),
    /// Deletes the device and its state.
    DeviceRemoved(DeviceId),
    /// Upsert.
    DeviceState(DeviceStateRecord),
    /// Upsert.
    Scan(ScanRecord),
    /// Upsert.
    Command(CommandRecord),
    /// Upsert.
    Channel(ChannelRecord),
    /// Deletes the channel; its deliveries stay as history.
    ChannelRemoved(ChannelId),
    /// Upsert.
    Rule(RuleRecord),
    /// Deletes the rule.
    RuleRemoved(RuleId),
    /// Upsert.
    Alert(AlertRecord),
    /// Deletes the alert.
    AlertRemoved(AlertId),
    /// Upsert.
    Window(WindowRecord),
    /// Deletes the maintenance window.
    WindowRemoved(WindowId),
    /// Upsert.
    Delivery(DeliveryRecord),
    /// Insert.
    Attempt(DeliveryId, Attempt),
    /// Insert one row for each recipient, unless there is one of this key for it.
    Mail(Box<MailRequest>),
}

/// What one decision must make durable: all of it in one transaction, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The org; every row belongs to it.
    pub org_id: OrgId,
    /// The org's last number before this batch. The journal refuses the batch if the table says otherwise.
    pub after_seq: u64,
    /// Events numbered `after_seq + 1`, `after_seq + 2`, …; may be empty.
    pub events: Vec<JournalEvent>,
    /// Rows, in the order they were decided: of several writes of one row the last one counts.
    pub writes: Vec<Write>,
}

impl Batch {
    /// The org's last number after this batch.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.after_seq + self.events.len() as u64
    }
}

/// A whole org, as loaded when its home starts.
#[derive(Clone, Debug, PartialEq)]
pub struct OrgImage {
    /// Its settings.
    pub org: OrgRecord,
    /// The number of its last event; 0 for none.
    pub seq: u64,
    /// Its agents.
    pub agents: Vec<AgentRecord>,
    /// How each agent was last announced.
    pub presences: Vec<PresenceRecord>,
    /// How far each agent's spool is durable.
    pub positions: Vec<PositionRecord>,
    /// Its segments.
    pub segments: Vec<SegmentRecord>,
    /// Its devices.
    pub devices: Vec<DeviceRecord>,
    /// How each device is.
    pub device_states: Vec<DeviceStateRecord>,
    /// Running scans, and the latest 50 that ended.
    pub scans: Vec<ScanRecord>,
    /// Commands that have not ended.
    pub commands: Vec<CommandRecord>,
    /// Its channels.
    pub channels: Vec<ChannelRecord>,
    /// Its rules.
    pub rules: Vec<RuleRecord>,
    /// What its rules remember.
    pub alerts: Vec<AlertRecord>,
    /// Its maintenance windows.
    pub windows: Vec<WindowRecord>,
}
