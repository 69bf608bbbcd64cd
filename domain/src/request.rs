//! What people and programs ask of an org, and how it answers.

use std::borrow::Cow;

use pulse_protocol::api::{
    Agent, AgentPatch, Channel, ChannelPatch, Command, Device, DevicePatch, NewChannel, NewCommand,
    NewDevice, NewRule, Org, OrgPatch, Rule, RulePatch, Scan, Segment, Usage,
};
use pulse_protocol::ids::{
    AgentId, ChannelId, CommandId, DeliveryId, DeviceId, RuleId, ScanId, SegmentId,
};
use pulse_protocol::problem::FieldError;
use serde::{Deserialize, Serialize};

use crate::record::{Hidden, SecretHash};

/// A change that somebody asks for. New ids and secrets are drawn by the asker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Enrols an agent under a key.
    AddAgent {
        /// Its new id.
        agent_id: AgentId,
        /// Its name.
        name: String,
        /// Hash of its key.
        key_hash: SecretHash,
        /// The part of the key that may be shown.
        key_prefix: String,
    },
    /// Changes an agent.
    PatchAgent(AgentId, AgentPatch),
    /// Gives an agent a new key; the old one is honoured for 24 h.
    ReplaceKey {
        /// The agent.
        agent_id: AgentId,
        /// Hash of its new key.
        key_hash: SecretHash,
        /// The part of the key that may be shown.
        key_prefix: String,
    },
    /// Removes an agent with its segments and devices.
    RemoveAgent(AgentId),
    /// Adds a device; the id of each check is drawn from the device's time.
    AddDevice(DeviceId, NewDevice),
    /// Changes a device.
    PatchDevice(DeviceId, DevicePatch),
    /// Removes a device.
    RemoveDevice(DeviceId),
    /// Adds a channel whose `config` was validated for its kind, and what is secret in it masked.
    AddChannel {
        /// Its new id.
        channel_id: ChannelId,
        /// What it is to be.
        new: NewChannel,
        /// What is not shown.
        hidden: Hidden,
    },
    /// Changes a channel; a new `config` was validated for its kind, and what is secret in it masked.
    PatchChannel {
        /// The channel.
        channel_id: ChannelId,
        /// What is to be different.
        patch: ChannelPatch,
        /// The whole new configuration with its secrets, if there is a new one.
        hidden_config: Option<serde_json::Value>,
    },
    /// Switches a channel on again.
    EnableChannel(ChannelId),
    /// Gives a channel a new signing secret; the old one signs beside it.
    ReplaceSecret(ChannelId, String),
    /// Removes a channel.
    RemoveChannel(ChannelId),
    /// Adds a rule.
    AddRule(RuleId, NewRule),
    /// Changes a rule.
    PatchRule(RuleId, RulePatch),
    /// Removes a rule.
    RemoveRule(RuleId),
    /// Changes the org's settings.
    PatchOrg(OrgPatch),
    /// Gives an agent a command.
    IssueCommand {
        /// Who is to carry it out.
        agent_id: AgentId,
        /// Its new id.
        command_id: CommandId,
        /// What to do.
        new: NewCommand,
    },
    /// Tries an ended delivery again. Decided by its channel, which alone changes it.
    ReplayDelivery {
        /// The delivery.
        delivery_id: DeliveryId,
        /// Where it goes.
        channel_id: ChannelId,
    },
    /// Gives a delivery up. Decided by its channel, which alone changes it.
    DiscardDelivery {
        /// The delivery.
        delivery_id: DeliveryId,
        /// Where it goes.
        channel_id: ChannelId,
    },
}

/// What a person may do with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryChange {
    /// Try it again, under its old id.
    Replay,
    /// Give it up.
    Discard,
}

/// A question. Lists are in the order of their ids, after `after`, at most `limit` long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The org's settings.
    Org,
    /// What it uses of what its plan allows.
    Usage,
    /// One agent.
    Agent(AgentId),
    /// Agents.
    Agents {
        /// The last of the page before.
        after: Option<AgentId>,
        /// Longest answer.
        limit: usize,
    },
    /// Segments.
    Segments {
        /// The last of the page before.
        after: Option<SegmentId>,
        /// Longest answer.
        limit: usize,
    },
    /// One device.
    Device(DeviceId),
    /// Devices.
    Devices {
        /// The last of the page before.
        after: Option<DeviceId>,
        /// Longest answer.
        limit: usize,
    },
    /// Scans.
    Scans {
        /// The last of the page before.
        after: Option<ScanId>,
        /// Longest answer.
        limit: usize,
    },
    /// One channel.
    Channel(ChannelId),
    /// Channels.
    Channels {
        /// The last of the page before.
        after: Option<ChannelId>,
        /// Longest answer.
        limit: usize,
    },
    /// One rule.
    Rule(RuleId),
    /// Rules.
    Rules {
        /// The last of the page before.
        after: Option<RuleId>,
        /// Longest answer.
        limit: usize,
    },
}

/// The answer, once everything it tells is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The org.
    Org(Box<Org>),
    /// What it uses.
    Usage(Usage),
    /// One agent.
    Agent(Box<Agent>),
    /// Agents.
    Agents(Vec<Agent>),
    /// Segments.
    Segments(Vec<Segment>),
    /// One device.
    Device(Box<Device>),
    /// Devices.
    Devices(Vec<Device>),
    /// Scans.
    Scans(Vec<Scan>),
    /// One channel.
    Channel(Box<Channel>),
    /// Channels.
    Channels(Vec<Channel>),
    /// One rule.
    Rule(Box<Rule>),
    /// Rules.
    Rules(Vec<Rule>),
    /// One command.
    Command(Box<Command>),
    /// A delivery was changed; read it from the store.
    Delivery(DeliveryId),
    /// It is gone.
    Removed,
}

/// Why the org does not do what was asked. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing in this org.
    #[error("there is no such {what} in this organisation")]
    NotFound {
        /// `agent`, `device`, `channel`, …
        what: Cow<'static, str>,
    },
    /// The content is not good; every fault is listed.
    #[error("{} field(s) are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// It contradicts what is there.
    #[error("{message}")]
    Conflict {
        /// What contradicts it, and what to do.
        message: String,
    },
    /// The plan's limit is reached.
    #[error("the plan allows {limit} {what}, and {current} are in use")]
    LimitReached {
        /// `agents`, `devices`.
        what: Cow<'static, str>,
        /// What the plan allows.
        limit: u64,
        /// What is used.
        current: u64,
    },
    /// The org is suspended.
    #[error("the organisation is suspended")]
    OrgSuspended,
    /// The org is cancelled.
    #[error("the organisation is cancelled")]
    OrgCancelled,
}
