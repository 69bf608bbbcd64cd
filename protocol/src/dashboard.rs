//! The dashboard session: one snapshot, then numbered events.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use ts_rs::TS;

use crate::api::{Agent, Channel, Device, Org, Scan, Segment};
use crate::ids::{AgentId, EventId};
use crate::status::words;
use crate::time::Timestamp;

/// The websocket subprotocol of a dashboard session.
pub const DASHBOARD_SUBPROTOCOL: &str = "pulse.dashboard.v1";

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Counts {
    /// Agents in all.
    pub agents: u32,
    /// Agents that are online or lingering.
    pub agents_online: u32,
    /// Devices in all.
    pub devices: u32,
    /// Devices that are online.
    pub devices_online: u32,
    /// Devices that are degraded.
    pub devices_degraded: u32,
    /// Devices that are offline.
    pub devices_offline: u32,
    /// Devices nobody can tell about.
    pub devices_unknown: u32,
}

/// The whole state of an org as of `seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Snapshot {
    /// The number of the last event in it.
    pub seq: u64,
    /// The org.
    pub org: Org,
    /// Its agents.
    pub agents: Vec<Agent>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Its running and latest scans.
    pub scans: Vec<Scan>,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// How many there are of what.
    pub counts: Counts,
}

words! {
    /// Why a viewer starts anew from a snapshot.
    ResyncReason {
        /// It read too slowly; its queue was dropped.
        SlowConsumer = "slow_consumer",
        /// What it missed is too much, or gone.
        TooFarBehind = "too_far_behind",
        /// The org moved to another home.
        HomeMoved = "home_moved",
    }

    /// Names of what is pushed without a number.
    EphemeralName {
        /// How far a scan is.
        ScanProgress = "scan.progress",
        /// An agent lives, and how it is.
        AgentHeartbeat = "agent.heartbeat",
        /// A delivery is tried.
        DeliveryAttempt = "delivery.attempt",
    }
}

/// A frame from the hub to a dashboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DashboardFrame {
    /// The whole state.
    Snapshot(Box<Snapshot>),
    /// The next change.
    Event {
        /// Its number in the org.
        seq: u64,
        /// Its id.
        id: EventId,
        /// Its name.
        event: String,
        /// When it became true.
        at: Timestamp,
        /// The payload, by name.
        #[ts(type = "Record<string, unknown>")]
        data: Value,
        /// With a filter: everything up to this number was sent or skipped on purpose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        seq_through: Option<u64>,
    },
    /// News without a number; may be dropped or merged under load.
    Ephemeral {
        /// Its name.
        event: EphemeralName,
        /// When.
        at: Timestamp,
        /// The payload, by name.
        data: Value,
    },
    /// What was queued is dropped; a snapshot follows.
    Resync {
        /// Why.
        reason: ResyncReason,
    },
    /// After a resume that missed nothing.
    Ready {
        /// The number of the last event.
        seq: u64,
    },
    /// Echoes a ping.
    Pong {
        /// As it was sent.
        nonce: Value,
        /// With a filter: everything up to this number was sent or skipped on purpose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        seq_through: Option<u64>,
    },
    /// Something was wrong with what the dashboard sent.
    Error {
        /// `unknown_frame` or `malformed_frame`.
        code: String,
        /// What to do about it.
        message: String,
    },
}

/// [`DashboardFrame::Event`] around a payload that is JSON text already, so that an event is encoded once, from
/// the journal to every viewer.
#[derive(Debug, Serialize)]
pub struct EncodedEvent<'a> {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its number in the org.
    pub seq: u64,
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub event: &'a str,
    /// When it became true.
    pub at: Timestamp,
    /// The payload, by name.
    pub data: &'a RawValue,
    /// With a filter: everything up to this number was sent or skipped on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_through: Option<u64>,
}

/// A frame from a dashboard to the hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ViewerFrame {
    /// Asks for a pong.
    Ping {
        /// Comes back as it is.
        nonce: Value,
    },
    /// Narrows what is pushed. An absent or empty list narrows nothing.
    Filter {
        /// Only events of these agents.
        #[serde(default)]
        agents: Vec<AgentId>,
        /// Only events of these names.
        #[serde(default)]
        events: Vec<String>,
    },
}
