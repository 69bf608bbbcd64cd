//! What people and programs may ask of an org.

use std::ops::RangeInclusive;
use std::time::Duration;

use pulse_protocol::agent::CloseCode;
use pulse_protocol::api::{
    AgentPatch, CommandState, NewCommand, NewRule, OrgPatch, OrgStatus, RulePatch, ScanState,
};
use pulse_protocol::event::{AgentChanged, AgentRemovedData, EventBody, OrgChanged};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, RuleId};
use pulse_protocol::problem::FieldError;

use super::agents::agent_command;
use super::step::Step;
use super::{AgentEntry, Effect, view};
use crate::notification::rule::Worth;
use crate::plan;
use crate::record::{
    AgentRecord, CommandRecord, RuleRecord, RuleSettings, ScanRecord, SecretHash, Write,
};
use crate::request::{Refusal, Reply, Request};

/// How long the key before the last rotation is honoured.
const KEY_OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// Channels and rules one org may have of each.
pub(super) const CHANNELS_MAX: usize = 200;

pub(super) fn not_found(what: &'static str) -> impl Fn() -> Refusal {
    move || Refusal::NotFound { what: what.into() }
}

impl Step<'_> {
    /// Nothing is changed in an org that is closed.
    pub(super) fn open(&self) -> Result<(), Refusal> {
        match self.org.record.status {
            OrgStatus::Suspended => Err(Refusal::OrgSuspended),
            OrgStatus::Cancelled => Err(Refusal::OrgCancelled),
            OrgStatus::Trial | OrgStatus::Active | OrgStatus::PastDue => Ok(()),
        }
    }

    pub(super) fn request(&mut self, request: Request) -> Result<Reply, Refusal> {
        self.open()?;
        match request {
            Request::AddAgent { agent_id, name, key_hash, key_prefix } => {
                self.add_agent(agent_id, &name, key_hash, key_prefix)
            }
            Request::PatchAgent(agent_id, patch) => self.patch_agent(agent_id, patch),
            Request::ReplaceKey { agent_id, key_hash, key_prefix } => {
                self.replace_key(agent_id, key_hash, key_prefix)
            }
            Request::RemoveAgent(agent_id) => self.remove_agent(agent_id),
            Request::AddDevice(device_id, new) => self.add_device(device_id, new),
            Request::PatchDevice(device_id, patch) => self.patch_device(device_id, patch),
            Request::RemoveDevice(device_id) => self.remove_device(device_id),
            Request::AddChannel { channel_id, new, hidden } => {
                self.add_channel(channel_id, new, hidden)
            }
            Request::PatchChannel { channel_id, patch, hidden_config } => {
                self.patch_channel(channel_id, patch, hidden_config)
            }
            Request::EnableChannel(channel_id) => self.enable_channel(channel_id),
            Request::ReplaceSecret(channel_id, secret) => self.replace_secret(channel_id, secret),
            Request::RemoveChannel(channel_id) => self.remove_channel(channel_id),
            Request::AddRule(rule_id, new) => self.add_rule(rule_id, new),
            Request::PatchRule(rule_id, patch) => self.patch_rule(rule_id, patch),
            Request::RemoveRule(rule_id) => self.remove_rule(rule_id),
            Request::PatchOrg(patch) => self.patch_org(patch),
            Request::IssueCommand { agent_id, command_id, new } => {
                self.issue_command(agent_id, command_id, new)
            }
            // The org holds no deliveries: the channel asks with the row, see `Org::change_delivery`.
            Request::ReplayDelivery { .. } | Request::DiscardDelivery { .. } => {
                Err(not_found("delivery")())
            }
        }
    }

    fn add_agent(
        &mut self,
        agent_id: AgentId,
        name: &str,
        key_hash: SecretHash,
        key_prefix: String,
    ) -> Result<Reply, Refusal> {
        let mut faults = Faults::default();
        let name = faults.name("name", name);
        faults.finish()?;
        let limit = plan::limits(self.org.record.plan).agents;
        let current = self.org.agents.len() as u64;
        if current >= limit {
            return Err(Refusal::LimitReached { what: "agents".into(), limit, current });
        }
        let record = AgentRecord {
            id: agent_id,
            name: name.clone(),
            enabled: true,
            key_hash,
            key_prefix,
            previous_key: None,
            facts: None,
            created_at: self.now,
        };
        let agent = AgentEntry::new(record.clone()).view();
        let data = AgentChanged { agent_id, name, agent, segments: None };
        self.journal(&EventBody::AgentEnrolled(data), Worth::Alert);
        if let Some(agent) = self.org.agents.get_mut(&agent_id) {
            agent.record = record;
        }
        self.write_agent(agent_id);
        self.write_presence(agent_id);
        self.agent_reply(agent_id)
    }

    fn agent_reply(&self, agent_id: AgentId) -> Result<Reply, Refusal> {
        let agent = self.org.agents.get(&agent_id).ok_or_else(not_found("agent"))?;
        Ok(Reply::Agent(Box::new(agent.view())))
    }

    fn agent_updated(&mut self, record: AgentRecord) {
        let agent_id = record.id;
        let Some(agent) = self.org.agents.get_mut(&agent_id) else { return };
        agent.record = record;
        let data = AgentChanged {
            agent_id,
            name: agent.record.name.clone(),
            agent: agent.view(),
            segments: None,
        };
        self.journal(&EventBody::AgentUpdated(data), Worth::Quiet);
        self.write_agent(agent_id);
    }

    fn patch_agent(&mut self, agent_id: AgentId, patch: AgentPatch) -> Result<Reply, Refusal> {
        let agent = self.org.agents.get(&agent_id).ok_or_else(not_found("agent"))?;
        let mut record = agent.record.clone();
        let mut faults = Faults::default();
        if let Some(name) = patch.name {
            record.name = faults.name("name", &name);
        }
        faults.finish()?;
        let was_enabled = record.enabled;
        record.enabled = patch.enabled.unwrap_or(was_enabled);
        let switched_off = was_enabled && !record.enabled;
        self.agent_updated(record);
        if switched_off {
            self.switch_off(agent_id, CloseCode::KeyRevoked);
        }
        self.agent_reply(agent_id)
    }

    fn replace_key(
        &mut self,
        agent_id: AgentId,
        key_hash: SecretHash,
        key_prefix: String,
    ) -> Result<Reply, Refusal> {
        let agent = self.org.agents.get(&agent_id).ok_or_else(not_found("agent"))?;
        let mut record = agent.record.clone();
        record.previous_key = Some((record.key_hash, self.now + KEY_OVERLAP));
        record.key_hash = key_hash;
        record.key_prefix = key_prefix;
        self.agent_updated(record);
        self.agent_reply(agent_id)
    }

    fn remove_agent(&mut self, agent_id: AgentId) -> Result<Reply, Refusal> {
        let agent = self.org.agents.get(&agent_id).ok_or_else(not_found("agent"))?;
        let held = agent.presence.connection();
        let data = AgentRemovedData { agent_id, name: agent.record.name.clone() };
        self.write_ends_of(agent_id);
        self.journal(&EventBody::AgentRemoved(data), Worth::Alert);
        self.write(Write::AgentRemoved(agent_id));
        if let Some(connection) = held {
            self.tell(Effect::Close(connection, CloseCode::KeyRevoked));
        }
        Ok(Reply::Removed)
    }

    /// Ends what an agent that is removed has not ended. Nobody is shown it any more, but its rows stay, and must
    /// not be waited for.
    fn write_ends_of(&mut self, agent_id: AgentId) {
        const REASON: &str = "its agent was removed";
        let running =
            |scan: &&ScanRecord| scan.agent_id == agent_id && scan.state == ScanState::Running;
        let scans: Vec<ScanRecord> = self.org.scans.values().filter(running).cloned().collect();
        for mut record in scans {
            record.state = ScanState::Failed;
            record.finished_at = Some(self.now);
            record.error = Some(REASON.to_owned());
            self.write(Write::Scan(record));
        }
        let open = |command: &&CommandRecord| command.agent_id == agent_id;
        let commands: Vec<CommandRecord> =
            self.org.commands.values().filter(open).cloned().collect();
        for mut record in commands {
            record.state = CommandState::Cancelled;
            record.error = Some(REASON.to_owned());
            self.write(Write::Command(record));
        }
    }

    fn add_rule(&mut self, rule_id: RuleId, new: NewRule) -> Result<Reply, Refusal> {
        let mut faults = Faults::default();
        let record = RuleRecord {
            id: rule_id,
            name: faults.name("name", &new.name),
            event_types: faults.event_types(new.event_types),
            channel_ids: self.rule_channels(new.channel_ids, &mut faults),
            settings: RuleSettings::default(),
            enabled: new.enabled.unwrap_or(true),
            created_at: self.now,
        };
        faults.finish()?;
        let current = self.org.rules.len();
        if current >= CHANNELS_MAX {
            let (limit, current) = (CHANNELS_MAX as u64, current as u64);
            return Err(Refusal::LimitReached { what: "rules".into(), limit, current });
        }
        Ok(self.rule_changed(record, "rule_created"))
    }

    fn patch_rule(&mut self, rule_id: RuleId, patch: RulePatch) -> Result<Reply, Refusal> {
        let mut record = self.org.rules.get(&rule_id).cloned().ok_or_else(not_found("rule"))?;
        let mut faults = Faults::default();
        if let Some(name) = patch.name {
            record.name = faults.name("name", &name);
        }
        if let Some(event_types) = patch.event_types {
            record.event_types = faults.event_types(event_types);
        }
        if let Some(channel_ids) = patch.channel_ids {
            record.channel_ids = self.rule_channels(channel_ids, &mut faults);
        }
        faults.finish()?;
        record.enabled = patch.enabled.unwrap_or(record.enabled);
        Ok(self.rule_changed(record, "rule_updated"))
    }

    fn rule_channels(&self, channel_ids: Vec<ChannelId>, faults: &mut Faults) -> Vec<ChannelId> {
        if channel_ids.is_empty() {
            faults.push(FieldError::new("channel_ids", "required", "name at least one channel"));
        }
        let mut distinct = Vec::with_capacity(channel_ids.len());
        for (index, id) in channel_ids.into_iter().enumerate() {
            if !self.org.channels.contains_key(&id) {
                let message = "name a channel of this organisation";
                faults.push(FieldError::new(format!("channel_ids[{index}]"), "not_found", message));
            }
            if !distinct.contains(&id) {
                distinct.push(id);
            }
        }
        distinct
    }

    fn rule_changed(&mut self, record: RuleRecord, changed: &str) -> Reply {
        let reply = Reply::Rule(Box::new(view::rule(&record)));
        self.org.rules.insert(record.id, record.clone());
        self.org_changed(changed, Some(record.id.to_string()));
        self.write(Write::Rule(record));
        reply
    }

    fn remove_rule(&mut self, rule_id: RuleId) -> Result<Reply, Refusal> {
        self.org.rules.remove(&rule_id).ok_or_else(not_found("rule"))?;
        self.org_changed("rule_removed", Some(rule_id.to_string()));
        self.write(Write::RuleRemoved(rule_id));
        Ok(Reply::Removed)
    }

    /// Something of the org changed that has no event of its own.
    fn org_changed(&mut self, changed: &str, id: Option<String>) {
        let record = &self.org.record;
        let data = OrgChanged {
            org_id: record.id,
            name: record.name.clone(),
            status: record.status,
            changed: changed.to_owned(),
            id,
            reason: record.status_reason.clone(),
        };
        self.journal(&EventBody::OrgUpdated(data), Worth::Quiet);
    }

    fn patch_org(&mut self, patch: OrgPatch) -> Result<Reply, Refusal> {
        let mut faults = Faults::default();
        let mut record = self.org.record.clone();
        if let Some(name) = &patch.name {
            record.name = faults.name("name", name);
        }
        record.heartbeat_interval_ms = faults
            .liveness("heartbeat_interval_ms", patch.heartbeat_interval_ms)
            .or(record.heartbeat_interval_ms);
        record.heartbeat_timeout_ms = faults
            .liveness("heartbeat_timeout_ms", patch.heartbeat_timeout_ms)
            .or(record.heartbeat_timeout_ms);
        record.offline_grace_ms =
            faults.liveness("offline_grace_ms", patch.offline_grace_ms).or(record.offline_grace_ms);
        let before = std::mem::replace(&mut self.org.record, record);
        let liveness = self.org.liveness();
        if liveness.heartbeat_timeout < liveness.heartbeat_interval * 2 {
            let message = "at least twice heartbeat_interval_ms";
            faults.push(FieldError::new("heartbeat_timeout_ms", "out_of_range", message));
        }
        if let Err(refusal) = faults.finish() {
            self.org.record = before;
            return Err(refusal);
        }
        self.org_changed("settings", None);
        let write = Write::Org(self.org.record.clone());
        self.write(write);
        Ok(Reply::Org(Box::new(self.org.view())))
    }

    fn issue_command(
        &mut self,
        agent_id: AgentId,
        command_id: CommandId,
        new: NewCommand,
    ) -> Result<Reply, Refusal> {
        let agent = self.org.agents.get(&agent_id).ok_or_else(not_found("agent"))?;
        let held = agent.presence.connection();
        let mut faults = Faults::default();
        faults.range("deadline_s", new.deadline_s, 1..=86_400);
        let payload = new.payload.unwrap_or_else(|| serde_json::json!({}));
        if !payload.is_object() || payload.to_string().len() > 16_384 {
            let message = "a JSON object of at most 16 KiB";
            faults.push(FieldError::new("payload", "invalid", message));
        }
        faults.finish()?;
        let record = CommandRecord {
            id: command_id,
            agent_id,
            kind: new.kind,
            payload,
            state: CommandState::Issued,
            issued_at: self.now,
            deadline: self.now + Duration::from_secs(new.deadline_s.unwrap_or(300).into()),
            result: None,
            error: None,
        };
        let reply = Reply::Command(Box::new(view::command(&record)));
        let told = Box::new(agent_command(&record));
        self.command_changed(record);
        if let Some(connection) = held {
            self.tell(Effect::Command(connection, told));
        }
        Ok(reply)
    }
}

/// Collects every fault of a body, so that all are told at once.
#[derive(Default)]
pub(super) struct Faults(Vec<FieldError>);

impl Faults {
    pub(super) fn push(&mut self, fault: FieldError) {
        self.0.push(fault);
    }

    pub(super) fn finish(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Invalid(self.0)) }
    }

    /// A name for people: 1 to 100 characters, none of them a control character.
    pub(super) fn name(&mut self, field: &str, name: &str) -> String {
        let name = name.trim();
        if name.is_empty() {
            self.push(FieldError::new(field, "required", "1 to 100 characters"));
        } else if name.chars().count() > 100 {
            self.push(FieldError::new(field, "too_long", "1 to 100 characters"));
        } else if name.chars().any(char::is_control) {
            self.push(FieldError::new(field, "invalid", "no control characters"));
        }
        name.to_owned()
    }

    /// An IP address in canonical form, or a host name in lower case (RFC 1123).
    pub(super) fn address(&mut self, field: &str, address: &str) -> String {
        let address = address.trim();
        if let Ok(ip) = address.parse::<std::net::IpAddr>() {
            return ip.to_string();
        }
        let host = address.strip_suffix('.').unwrap_or(address);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if address.is_empty() || address.len() > 253 || !host.split('.').all(label) {
            self.push(FieldError::new(field, "invalid", "an IP address or a host name"));
        }
        address.to_ascii_lowercase()
    }

    pub(super) fn range(&mut self, field: &str, value: Option<u32>, range: RangeInclusive<u32>) {
        if value.is_some_and(|value| !range.contains(&value)) {
            let message = format!("{} to {}", range.start(), range.end());
            self.push(FieldError::new(field, "out_of_range", message));
        }
    }

    /// Up to 20 waits of up to a day each; an empty one stands for the hub's own.
    pub(super) fn retry_schedule(&mut self, schedule: &[u32]) {
        if schedule.len() > 20 || schedule.iter().any(|wait| *wait > 86_400) {
            let message = "up to 20 waits of 0 to 86,400 seconds each";
            self.push(FieldError::new("retry_schedule_s", "out_of_range", message));
        }
    }

    fn liveness(&mut self, field: &str, ms: Option<u64>) -> Option<u32> {
        let ms = ms?;
        let own = u32::try_from(ms).ok().filter(|ms| (1_000..=300_000).contains(ms));
        if own.is_none() {
            self.push(FieldError::new(field, "out_of_range", "1,000 to 300,000"));
        }
        own
    }

    fn event_types(&mut self, names: Vec<String>) -> Vec<String> {
        if names.is_empty() {
            self.push(FieldError::new("event_types", "required", "name at least one event"));
        }
        for (index, name) in names.iter().enumerate() {
            if !EventBody::NAMES.contains(&name.as_str()) {
                let message = "no event of this hub has this name";
                self.push(FieldError::new(format!("event_types[{index}]"), "invalid", message));
            }
        }
        names
    }
}
