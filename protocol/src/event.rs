//! The names and payloads of an org's journal.
//!
//! Every durable change in an org is one event, numbered 1, 2, 3, … without gaps. An event's `data` names its
//! resource by the resource's own key beside `name`, and holds enough to rebuild what the tables hold.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use ts_rs::TS;

use crate::agent::CommandKind;
use crate::api::{
    Agent, Alert, Channel, ChannelHealth, CommandState, DeliveryState, Device, OrgStatus, Reason,
    ScanState, Segment, Suppression,
};
use crate::ids::{
    AgentId, AlertId, ChannelId, CheckId, CommandId, DeliveryId, DeviceId, EventId, OrgId, RuleId,
    ScanId, SegmentId, WindowId,
};
use crate::status::{AgentState, Cause, CheckKind, DeviceStatus};
use crate::time::Timestamp;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal;)*) => {
        /// One thing that became true, with its payload.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
        #[serde(tag = "event", content = "data")]
        pub enum EventBody {
            $($(#[$doc])* #[serde(rename = $name)] $variant($payload),)*
        }

        impl EventBody {
            /// Every event name this hub journals.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The event's name.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The payload as JSON text.
            ///
            /// # Errors
            ///
            /// Returns the serializer's error; payloads have string keys only, so none is known.
            pub fn data_json(&self) -> Result<String, serde_json::Error> {
                match self { $(Self::$variant(data) => serde_json::to_string(data),)* }
            }

            /// Rebuilds an event from the two columns of the journal.
            ///
            /// # Errors
            ///
            /// Returns an error for a name this version does not know, or a payload of another shape.
            pub fn from_columns(name: &str, data: &str) -> Result<Self, serde_json::Error> {
                match name {
                    $($name => serde_json::from_str(data).map(Self::$variant),)*
                    other => Err(serde::de::Error::custom(format_args!("unknown event `{other}`"))),
                }
            }
        }
    };
}

events! {
    /// An agent was made; its key exists.
    AgentEnrolled(AgentChanged) = "agent.enrolled";
    /// An agent connected, the first time or after an announced absence.
    AgentOnline(AgentStatus) = "agent.online";
    /// An agent stayed away for the whole grace.
    AgentOffline(AgentStatus) = "agent.offline";
    /// An agent's settings, facts or segments changed.
    AgentUpdated(AgentChanged) = "agent.updated";
    /// An agent was removed, and its devices with it.
    AgentRemoved(AgentRemovedData) = "agent.removed";
    /// A device was added, by a person or a scan.
    DeviceDiscovered(DeviceChanged) = "device.discovered";
    /// A device answers.
    DeviceOnline(DeviceStatusChanged) = "device.online";
    /// A device does not answer.
    DeviceOffline(DeviceStatusChanged) = "device.offline";
    /// A device answers badly.
    DeviceDegraded(DeviceStatusChanged) = "device.degraded";
    /// Nobody can tell how a device is.
    DeviceUnknown(DeviceStatusChanged) = "device.unknown";
    /// A device's settings changed.
    DeviceUpdated(DeviceChanged) = "device.updated";
    /// A device was removed.
    DeviceRemoved(DeviceRemovedData) = "device.removed";
    /// A scan began.
    ScanStarted(ScanChanged) = "scan.started";
    /// A scan ended well.
    ScanCompleted(ScanChanged) = "scan.completed";
    /// A scan failed, or its agent went away.
    ScanFailed(ScanChanged) = "scan.failed";
    /// A command was given.
    CommandIssued(CommandChanged) = "command.issued";
    /// A command reached its agent.
    CommandDelivered(CommandChanged) = "command.delivered";
    /// A command was carried out.
    CommandSucceeded(CommandChanged) = "command.succeeded";
    /// A command could not be carried out.
    CommandFailed(CommandChanged) = "command.failed";
    /// A command's deadline passed first.
    CommandExpired(CommandChanged) = "command.expired";
    /// A delivery was called for.
    DeliveryQueued(DeliveryChanged) = "delivery.queued";
    /// A delivery was accepted.
    DeliveryDelivered(DeliveryChanged) = "delivery.delivered";
    /// An attempt failed; there will be another.
    DeliveryRetrying(DeliveryChanged) = "delivery.retrying";
    /// A delivery was given up.
    DeliveryDead(DeliveryChanged) = "delivery.dead";
    /// A delivery was held back by its rule.
    DeliverySuppressed(DeliveryChanged) = "delivery.suppressed";
    /// A newer delivery made one pointless.
    DeliverySuperseded(DeliveryChanged) = "delivery.superseded";
    /// A delivery was discarded by a person.
    DeliveryDiscarded(DeliveryChanged) = "delivery.discarded";
    /// Somebody looks after an alert.
    AlertAcknowledged(AlertChanged) = "alert.acknowledged";
    /// A maintenance window opened.
    MaintenanceStarted(MaintenanceChanged) = "maintenance.started";
    /// A maintenance window closed.
    MaintenanceEnded(MaintenanceChanged) = "maintenance.ended";
    /// A channel was made or changed.
    ChannelCreated(ChannelChanged) = "channel.created";
    /// A channel's settings changed.
    ChannelUpdated(ChannelChanged) = "channel.updated";
    /// A channel delivers again.
    ChannelHealthy(ChannelHealthChanged) = "channel.healthy";
    /// A channel's attempts fail.
    ChannelDegraded(ChannelHealthChanged) = "channel.degraded";
    /// A channel was switched off.
    ChannelDisabled(ChannelHealthChanged) = "channel.disabled";
    /// A channel was removed.
    ChannelRemoved(ChannelRemovedData) = "channel.removed";
    /// An org's settings, or its rules, changed.
    OrgUpdated(OrgChanged) = "org.updated";
    /// An org was suspended.
    OrgSuspended(OrgChanged) = "org.suspended";
    /// An org was cancelled.
    OrgCancelled(OrgChanged) = "org.cancelled";
    /// An org may work again.
    OrgReactivated(OrgChanged) = "org.reactivated";
}

/// An agent came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AgentStatus {
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// How it was.
    pub previous: AgentState,
    /// How it is.
    pub current: AgentState,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Devices nobody can tell of while it is offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub devices_unknown: Option<u32>,
}

/// An agent's settings or facts changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AgentChanged {
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// The whole agent.
    pub agent: Agent,
    /// Its segments, where those changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub segments: Option<Vec<Segment>>,
}

/// An agent was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AgentRemovedData {
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
}

/// A device's status changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct DeviceStatusChanged {
    /// The device.
    pub device_id: DeviceId,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The agent that watches it.
    pub agent_id: AgentId,
    /// The segment it is in.
    pub segment_id: Option<SegmentId>,
    /// How it was.
    pub previous: DeviceStatus,
    /// How it is.
    pub current: DeviceStatus,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Of the last answer.
    pub response_time_ms: Option<f64>,
    /// The configured check that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub check_id: Option<CheckId>,
    /// The kind of check that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub check: Option<CheckKind>,
    /// How that check is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub check_status: Option<DeviceStatus>,
    /// What the agent said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}

/// A device was added or its settings changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct DeviceChanged {
    /// The device.
    pub device_id: DeviceId,
    /// Its name.
    pub name: String,
    /// The whole device.
    pub device: Device,
    /// The scan that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub scan_id: Option<ScanId>,
}

/// A device was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DeviceRemovedData {
    /// The device.
    pub device_id: DeviceId,
    /// Its name.
    pub name: String,
    /// The agent that watched it.
    pub agent_id: AgentId,
}

/// A scan began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ScanChanged {
    /// The scan.
    pub scan_id: ScanId,
    /// The segment's name.
    pub name: String,
    /// Who scans.
    pub agent_id: AgentId,
    /// What is scanned.
    pub segment_id: SegmentId,
    /// Where the scan is in its life.
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

/// A command moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct CommandChanged {
    /// The command.
    pub command_id: CommandId,
    /// The kind, for people.
    pub name: String,
    /// Who is to carry it out.
    pub agent_id: AgentId,
    /// What to do.
    pub kind: CommandKind,
    /// Where it is in its life.
    pub state: CommandState,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}

/// A delivery moved on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DeliveryChanged {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The channel's name.
    pub name: String,
    /// Where it goes.
    pub channel_id: ChannelId,
    /// The rule that called for it.
    pub rule_id: RuleId,
    /// The event that called for it.
    pub event_id: EventId,
    /// That event's name.
    pub event_type: String,
    /// Name of what it is about.
    pub resource_name: String,
    /// Why it is sent.
    pub reason: Reason,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub suppressed_by: Option<Suppression>,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub next_attempt_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}

/// An alert was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AlertChanged {
    /// The alert.
    pub alert_id: AlertId,
    /// Name of its resource.
    pub name: String,
    /// The whole alert.
    pub alert: Alert,
}

/// A maintenance window opened or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct MaintenanceChanged {
    /// The window.
    pub window_id: WindowId,
    /// Its name.
    pub name: String,
    /// When it closes; none for one that closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub ends_at: Option<Timestamp>,
}

/// A channel was made or changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ChannelChanged {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name.
    pub name: String,
    /// The whole channel, without secrets.
    pub channel: Channel,
}

/// A channel's health changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChannelHealthChanged {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name.
    pub name: String,
    /// How it was.
    pub previous: ChannelHealth,
    /// How it is.
    pub current: ChannelHealth,
    /// Why.
    pub reason: Option<String>,
    /// Since when every attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub failing_since: Option<Timestamp>,
    /// Nothing is sent before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub paused_until: Option<Timestamp>,
}

/// A channel was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChannelRemovedData {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name.
    pub name: String,
}

/// An org, or something of it without events of its own, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct OrgChanged {
    /// The org.
    pub org_id: OrgId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub status: OrgStatus,
    /// What changed, such as `settings` or `rule`.
    pub changed: String,
    /// Its id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub id: Option<String>,
    /// Why, where a person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub reason: Option<String>,
}

/// One event as the journal page and the dashboards show it.
#[derive(Debug, Serialize, Deserialize, TS)]
pub struct Event {
    /// Its number in the org.
    pub seq: u64,
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub event: String,
    /// When it became true.
    pub at: Timestamp,
    /// The payload, by name.
    #[ts(type = "Record<string, unknown>")]
    pub data: Box<RawValue>,
}

impl Clone for Event {
    fn clone(&self) -> Self {
        Self {
            seq: self.seq,
            id: self.id,
            event: self.event.clone(),
            at: self.at,
            data: self.data.clone(),
        }
    }
}

/// The body of an outgoing webhook (Standard Webhooks).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookBody {
    /// The event's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it became true.
    pub timestamp: Timestamp,
    /// The event's payload with `org_id`, `event_id` and `seq`.
    pub data: Map<String, Value>,
}
