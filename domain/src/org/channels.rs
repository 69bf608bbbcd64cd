//! Channels of an org: their settings, and how well they deliver.

use pulse_protocol::api::{ChannelHealth, ChannelPatch, NewChannel};
use pulse_protocol::event::{ChannelChanged, ChannelHealthChanged, ChannelRemovedData, EventBody};
use pulse_protocol::ids::{ChannelId, RuleId};
use serde_json::Value;

use super::requests::{CHANNELS_MAX, Faults, not_found};
use super::rules::tells;
use super::step::Step;
use super::{Effect, view};
use crate::notification::channel::Condition;
use crate::notification::rule::Worth;
use crate::record::{Breaker, ChannelRecord, Hidden, Write};
use crate::request::{Refusal, Reply};

impl Step<'_> {
    pub(super) fn add_channel(
        &mut self,
        channel_id: ChannelId,
        new: NewChannel,
        hidden: Hidden,
    ) -> Result<Reply, Refusal> {
        let mut faults = Faults::default();
        let name = faults.name("name", &new.name);
        let retry_schedule_s = new.retry_schedule_s.unwrap_or_default();
        faults.retry_schedule(&retry_schedule_s);
        faults.finish()?;
        let current = self.org.channels.len();
        if current >= CHANNELS_MAX {
            let (limit, current) = (CHANNELS_MAX as u64, current as u64);
            return Err(Refusal::LimitReached { what: "channels".into(), limit, current });
        }
        let enabled = new.enabled.unwrap_or(true);
        let record = ChannelRecord {
            id: channel_id,
            name,
            kind: new.kind,
            config: new.config,
            hidden,
            retry_schedule_s,
            enabled,
            health: if enabled { ChannelHealth::Healthy } else { ChannelHealth::Disabled },
            breaker: Breaker::default(),
            created_at: self.now,
        };
        self.channel_changed(record, EventBody::ChannelCreated);
        self.channel_reply(channel_id)
    }

    fn channel_changed(
        &mut self,
        record: ChannelRecord,
        body: impl Fn(ChannelChanged) -> EventBody,
    ) {
        let channel_id = record.id;
        self.org.channels.insert(channel_id, record.clone());
        let data = ChannelChanged {
            channel_id,
            name: record.name.clone(),
            channel: view::channel(&record),
        };
        self.journal(&body(data), Worth::Quiet);
        self.write(Write::Channel(record));
        self.tell(Effect::WakeChannel(channel_id));
    }

    fn channel_reply(&self, channel_id: ChannelId) -> Result<Reply, Refusal> {
        let record = self.org.channels.get(&channel_id).ok_or_else(not_found("channel"))?;
        Ok(Reply::Channel(Box::new(view::channel(record))))
    }

    fn channel(&self, channel_id: ChannelId) -> Result<ChannelRecord, Refusal> {
        self.org.channels.get(&channel_id).cloned().ok_or_else(not_found("channel"))
    }

    pub(super) fn patch_channel(
        &mut self,
        channel_id: ChannelId,
        patch: ChannelPatch,
        hidden_config: Option<Value>,
    ) -> Result<Reply, Refusal> {
        let mut record = self.channel(channel_id)?;
        let mut faults = Faults::default();
        if let Some(name) = patch.name {
            record.name = faults.name("name", &name);
        }
        if let Some(schedule) = patch.retry_schedule_s {
            faults.retry_schedule(&schedule);
            record.retry_schedule_s = schedule;
        }
        faults.finish()?;
        if let (Some(config), Some(hidden)) = (patch.config, hidden_config) {
            record.config = config;
            record.hidden.config = hidden;
            // What the receiver at the old place did says nothing of the new one.
            record.breaker = Breaker::default();
        }
        let switched = patch.enabled.filter(|enabled| *enabled != record.enabled);
        if let Some(enabled) = switched {
            record.enabled = enabled;
            record.health = if enabled { ChannelHealth::Healthy } else { ChannelHealth::Disabled };
            record.breaker = Breaker::default();
        }
        self.channel_changed(record, EventBody::ChannelUpdated);
        if switched == Some(true) {
            self.revise_alerts_of(channel_id);
        }
        self.channel_reply(channel_id)
    }

    pub(super) fn enable_channel(&mut self, channel_id: ChannelId) -> Result<Reply, Refusal> {
        let record = self.channel(channel_id)?;
        let why = Some("enabled by a member".to_owned());
        self.channel_condition(record, Condition::fresh(), why);
        self.revise_alerts_of(channel_id);
        self.channel_reply(channel_id)
    }

    /// A channel is now like this. What is shown of it is journalled if that changed; rules may tell of its health.
    pub(super) fn channel_condition(
        &mut self,
        mut record: ChannelRecord,
        now: Condition,
        reason: Option<String>,
    ) {
        let before = Condition::of(&record);
        if before == now {
            return;
        }
        let channel_id = record.id;
        record.breaker = now.breaker;
        // A person who switches a channel off changes its settings; this is the hub's doing.
        if now.health == ChannelHealth::Disabled && before.health != now.health {
            self.tell_of_disabled_channel(&record, reason.as_deref());
        }
        self.org.channels.insert(channel_id, record.clone());
        if before.shown() != now.shown() {
            record.health = now.health;
            record.enabled = now.health != ChannelHealth::Disabled;
            let data = ChannelHealthChanged {
                channel_id,
                name: record.name.clone(),
                previous: before.health,
                current: now.health,
                reason,
                failing_since: now.breaker.failing_since,
                paused_until: now.breaker.paused_until,
            };
            let body = match now.health {
                ChannelHealth::Healthy => EventBody::ChannelHealthy(data),
                ChannelHealth::Degraded | ChannelHealth::NeedsAttention => {
                    EventBody::ChannelDegraded(data)
                }
                ChannelHealth::Disabled => EventBody::ChannelDisabled(data),
            };
            // A longer pause of a channel that is known to fail is no news for people.
            let worth = if before.health == now.health { Worth::Quiet } else { Worth::Alert };
            self.journal(&body, worth);
            self.tell(Effect::WakeChannel(channel_id));
        }
        self.write(Write::Channel(record));
    }

    pub(super) fn replace_secret(
        &mut self,
        channel_id: ChannelId,
        secret: String,
    ) -> Result<Reply, Refusal> {
        let mut record = self.channel(channel_id)?;
        record.hidden.signing.insert(0, secret);
        record.hidden.signing.truncate(2);
        self.channel_changed(record, EventBody::ChannelUpdated);
        self.channel_reply(channel_id)
    }

    pub(super) fn remove_channel(&mut self, channel_id: ChannelId) -> Result<Reply, Refusal> {
        let record = self.channel(channel_id)?;
        let told: Vec<RuleId> = self
            .org
            .rules
            .values()
            .filter(|rule| tells(rule, channel_id))
            .map(|rule| rule.id)
            .collect();
        let data = ChannelRemovedData { channel_id, name: record.name };
        self.journal(&EventBody::ChannelRemoved(data), Worth::Quiet);
        for rule in told.iter().filter_map(|id| self.org.rules.get(id)).cloned().collect::<Vec<_>>()
        {
            self.write(Write::Rule(rule));
        }
        self.write(Write::ChannelRemoved(channel_id));
        self.tell(Effect::WakeChannel(channel_id));
        Ok(Reply::Removed)
    }
}
