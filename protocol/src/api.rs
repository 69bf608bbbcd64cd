//! Bodies of the REST interface, the same in a dashboard's `snapshot`.

mod mail;
mod notify;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use crate::agent::CommandKind;
use crate::ids::{
    AgentId, CategoryId, CheckId, CommandId, DeviceId, OrgId, ScanId, SegmentId, TokenId, UserId,
};
use crate::status::{AgentState, CheckKind, DeviceStatus, Platform, words};
use crate::time::Timestamp;

pub use mail::*;
pub use notify::*;

words! {
    /// What an org pays for.
    Plan {
        /// 14 days to try.
        Trial = "trial",
        /// The small plan.
        Starter = "starter",
        /// The large plan.
        Unlimited = "unlimited",
    }

    /// Where an org is in its life.
    OrgStatus {
        /// It tries.
        Trial = "trial",
        /// It pays.
        Active = "active",
        /// A payment failed.
        PastDue = "past_due",
        /// Nothing runs until it is reactivated.
        Suspended = "suspended",
        /// It left.
        Cancelled = "cancelled",
    }

    /// What a member may do.
    Role {
        /// Everything.
        Owner = "owner",
        /// Everything but billing.
        Admin = "admin",
        /// Change what is monitored.
        Editor = "editor",
        /// Look.
        Viewer = "viewer",
    }

    /// Where a command is in its life.
    CommandState {
        /// Committed; its agent has not got it yet.
        Issued = "issued",
        /// Sent to its agent.
        Delivered = "delivered",
        /// Begun.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Could not be done.
        Failed = "failed",
        /// The deadline passed first.
        Expired = "expired",
        /// A person took it back.
        Cancelled = "cancelled",
    }

    /// Where a scan is in its life.
    ScanState {
        /// It runs.
        Running = "running",
        /// It ended well.
        Completed = "completed",
        /// It failed, or its agent went away.
        Failed = "failed",
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Page<T> {
    /// The things, in the list's order.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// What the plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Limits {
    /// Agents.
    pub agents: u64,
    /// Devices.
    pub devices: u64,
    /// Members, invitations included.
    pub users: u64,
    /// REST calls a month.
    pub api_calls_month: u64,
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its name in links and keys.
    pub slug: String,
    /// What it pays for.
    pub plan: Plan,
    /// Where it is in its life.
    pub status: OrgStatus,
    /// What the plan allows.
    pub limits: Limits,
    /// Agents send a frame at least this often.
    pub heartbeat_interval_ms: u64,
    /// Silence of this length ends an agent's connection.
    pub heartbeat_timeout_ms: u64,
    /// An agent that is back within this is not announced offline.
    pub offline_grace_ms: u64,
}

/// A change to an org.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgPatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// 1,000 to 300,000.
    pub heartbeat_interval_ms: Option<u64>,
    /// 1,000 to 300,000, at least twice the interval.
    pub heartbeat_timeout_ms: Option<u64>,
    /// 1,000 to 300,000.
    pub offline_grace_ms: Option<u64>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Whether it may connect.
    pub enabled: bool,
    /// How it is.
    pub state: AgentState,
    /// Since when.
    pub since: Timestamp,
    /// When its last frame came.
    pub last_seen_at: Option<Timestamp>,
    /// Version of its software.
    pub version: Option<String>,
    /// Name of its machine.
    pub hostname: Option<String>,
    /// Its operating system.
    pub platform: Option<Platform>,
    /// The start of its key.
    pub key_prefix: String,
}

/// A new agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAgent {
    /// 1 to 100 characters.
    pub name: String,
}

/// The answer to a new agent, or to a rotated key. The key is never shown again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AgentCreated {
    /// The agent.
    pub agent: Agent,
    /// Its whole key.
    pub api_key: String,
}

/// A change to an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// Disabling closes its connection.
    pub enabled: Option<bool>,
}

/// A network segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Segment {
    /// Its id.
    pub id: SegmentId,
    /// The agent that sits on it.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: String,
    /// Seconds between two scans.
    pub scan_interval_s: u32,
    /// Whether it is scanned.
    pub enabled: bool,
    /// When a scan of it last ended.
    pub last_scan_at: Option<Timestamp>,
}

/// One check of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Check {
    /// Its id.
    pub id: CheckId,
    /// What it does.
    pub check: CheckKind,
    /// Port, where the kind has one.
    pub port: Option<u16>,
    /// URL of an `http` check.
    pub url: Option<String>,
    /// Seconds between two runs.
    pub interval_s: u32,
    /// Milliseconds until a run has failed.
    pub timeout_ms: u32,
    /// Failures in a row until it is believed.
    pub failure_threshold: u32,
    /// What the answer must be, by kind.
    pub expect: Option<Value>,
    /// How it is.
    pub status: DeviceStatus,
}

/// A new check, or one to keep when `id` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewCheck {
    /// An existing check of the device, to keep its history.
    #[serde(default)]
    pub id: Option<CheckId>,
    /// What to do.
    pub check: CheckKind,
    /// Port: required for `tcp`, 443 by default for `tls`.
    #[serde(default)]
    pub port: Option<u16>,
    /// URL: required for `http`.
    #[serde(default)]
    pub url: Option<String>,
    /// 1 to 86,400 seconds; 60 by default.
    #[serde(default)]
    pub interval_s: Option<u32>,
    /// 100 to 60,000 milliseconds; 5,000 by default.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
    /// 1 to 10; 1 by default.
    #[serde(default)]
    pub failure_threshold: Option<u32>,
    /// What the answer must be, by kind.
    #[serde(default)]
    pub expect: Option<Value>,
}

/// A monitored device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Device {
    /// Its id.
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
    /// As bad as its worst check.
    pub status: DeviceStatus,
    /// Since when.
    pub since: Timestamp,
    /// Of the last answer.
    pub response_time_ms: Option<f64>,
    /// What is checked.
    pub checks: Vec<Check>,
}

/// A new device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewDevice {
    /// The agent that is to watch it.
    pub agent_id: AgentId,
    /// One of that agent's segments.
    #[serde(default)]
    pub segment_id: Option<SegmentId>,
    /// Its category.
    #[serde(default)]
    pub category_id: Option<CategoryId>,
    /// 1 to 100 characters; the address by default.
    #[serde(default)]
    pub name: Option<String>,
    /// IP address or host name.
    pub address: String,
    /// What to check; one `ping` by default.
    #[serde(default)]
    pub checks: Option<Vec<NewCheck>>,
}

/// A change to a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DevicePatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// IP address or host name.
    pub address: Option<String>,
    /// Replaces all checks; those named by `id` are kept.
    pub checks: Option<Vec<NewCheck>>,
}

/// One scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Scan {
    /// Its id.
    pub id: ScanId,
    /// Who scans.
    pub agent_id: AgentId,
    /// What is scanned.
    pub segment_id: SegmentId,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// What to do.
    pub kind: CommandKind,
    /// How, by kind.
    pub payload: Value,
    /// Where it is in its life.
    pub state: CommandState,
    /// Not to be begun after this.
    pub deadline: Timestamp,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}

/// A new command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewCommand {
    /// What to do.
    pub kind: CommandKind,
    /// How, by kind.
    #[serde(default)]
    pub payload: Option<Value>,
    /// 1 to 86,400 seconds from now; 300 by default.
    #[serde(default)]
    pub deadline_s: Option<u32>,
}

/// A sign-in.
#[derive(Clone, Deserialize)]
pub struct Login {
    /// The account.
    pub email: String,
    /// Its password.
    pub password: String,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their mail address.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Me {
    /// The person.
    pub user: User,
    /// For the header `x-csrf-token`; null with an API token.
    pub csrf_token: Option<String>,
    /// Their orgs.
    pub orgs: Vec<Membership>,
}

/// An org of the signed-in person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Membership {
    /// The org.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// What the person may do there.
    pub role: Role,
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// What an org uses of what its plan allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Usage {
    /// What the plan allows.
    pub limits: Limits,
    /// Agents enrolled.
    pub agents: u64,
    /// Devices.
    pub devices: u64,
}
