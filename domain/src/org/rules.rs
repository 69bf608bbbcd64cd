//! Rules as people set them up.

use std::collections::BTreeMap;
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{Escalation, Filters, NewRule, Preview, QuietHours, RulePatch};
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AlertId, ChannelId, RuleId};
use pulse_protocol::problem::FieldError;

use super::requests::{CHANNELS_MAX, Faults, not_found};
use super::step::Step;
use super::{Effect, Liveness, Org, view};
use crate::notification::alert::EventRef;
use crate::notification::happening::{Happening, nature};
use crate::notification::preview::Rehearsal;
use crate::notification::quiet::time_of_day;
use crate::notification::rule;
use crate::notification::wall::zone;
use crate::record::{JournalEvent, OrgImage, RuleRecord, RuleSettings, Write};
use crate::request::{Refusal, Reply};

/// A day: the longest cooldown, minimum duration and time to an escalation.
const DAY_S: u32 = 86_400;
const DESCRIPTION_CHARS: usize = 500;
/// Ids one list of a filter may have.
const FILTER_IDS_MAX: usize = 500;

/// Whether a rule tells through a channel, at once or by escalation.
pub(super) fn tells(rule: &RuleRecord, channel_id: ChannelId) -> bool {
    let escalates = |escalation: &Escalation| escalation.channel_ids.contains(&channel_id);
    rule.channel_ids.contains(&channel_id)
        || rule.settings.escalation.as_ref().is_some_and(escalates)
}

/// Takes a channel that is gone out of a rule; an escalation to nobody is none.
pub(super) fn without_channel(rule: &mut RuleRecord, channel_id: ChannelId) {
    rule.channel_ids.retain(|id| *id != channel_id);
    if let Some(escalation) = &mut rule.settings.escalation {
        escalation.channel_ids.retain(|id| *id != channel_id);
    }
    if rule.settings.escalation.as_ref().is_some_and(|it| it.channel_ids.is_empty()) {
        rule.settings.escalation = None;
    }
}

impl Step<'_> {
    pub(super) fn add_rule(&mut self, rule_id: RuleId, new: NewRule) -> Result<Reply, Refusal> {
        let record = self.org.new_rule(rule_id, new, self.now)?;
        let current = self.org.rules.len();
        if current >= CHANNELS_MAX {
            let (limit, current) = (CHANNELS_MAX as u64, current as u64);
            return Err(Refusal::LimitReached { what: "rules".into(), limit, current });
        }
        Ok(self.rule_changed(record, "rule_created"))
    }

    pub(super) fn patch_rule(
        &mut self,
        rule_id: RuleId,
        patch: RulePatch,
    ) -> Result<Reply, Refusal> {
        let before = self.org.rules.get(&rule_id).cloned().ok_or_else(not_found("rule"))?;
        let record = self.org.patched_rule(before.clone(), patch)?;
        let is_switched_off = before.enabled && !record.enabled;
        let reply = self.rule_changed(record, "rule_updated");
        if is_switched_off {
            self.stop_rule(&before);
        } else {
            let of_rule: Vec<AlertId> = self.alerts_of(rule_id);
            self.revise(&of_rule);
        }
        Ok(reply)
    }

    fn alerts_of(&self, rule_id: RuleId) -> Vec<AlertId> {
        let rows = self.org.board.rows().values();
        rows.filter(|row| row.rule_id == rule_id).map(|row| row.id).collect()
    }

    fn rule_changed(&mut self, record: RuleRecord, changed: &str) -> Reply {
        let reply = Reply::Rule(Box::new(view::rule(&record)));
        self.org.rules.insert(record.id, record.clone());
        self.write(Write::Rule(record.clone()));
        self.org_changed(changed, Some(record.id.to_string()));
        reply
    }

    pub(super) fn remove_rule(&mut self, rule_id: RuleId) -> Result<Reply, Refusal> {
        let record = self.org.rules.remove(&rule_id).ok_or_else(not_found("rule"))?;
        self.org_changed("rule_removed", Some(rule_id.to_string()));
        self.write(Write::RuleRemoved(rule_id));
        self.stop_rule(&record);
        Ok(Reply::Removed)
    }

    /// A rule tells nothing any more. What it called for is still queued: its channels are woken, to look at the rule
    /// before they send.
    fn stop_rule(&mut self, rule: &RuleRecord) {
        self.forget_alerts(|row| row.rule_id == rule.id);
        let escalation = rule.settings.escalation.iter().flat_map(|it| &it.channel_ids);
        for channel_id in rule.channel_ids.iter().chain(escalation) {
            self.tell(Effect::WakeChannel(*channel_id));
        }
    }
}

impl Org {
    /// The rule that a body asks for.
    pub(super) fn new_rule(
        &self,
        rule_id: RuleId,
        new: NewRule,
        now: Timestamp,
    ) -> Result<RuleRecord, Refusal> {
        let defaults = RuleSettings::default();
        let mut faults = Faults::default();
        faults.range("cooldown_s", new.cooldown_s, 0..=DAY_S);
        faults.range("min_duration_s", new.min_duration_s, 0..=DAY_S);
        let record = RuleRecord {
            id: rule_id,
            name: faults.name("name", &new.name),
            event_types: event_types(new.event_types, &mut faults),
            channel_ids: self.channels_named("channel_ids", new.channel_ids, &mut faults),
            settings: RuleSettings {
                description: description(new.description, &mut faults),
                filters: self.filters(new.filters.unwrap_or_default(), &mut faults),
                cooldown_s: new.cooldown_s.unwrap_or(defaults.cooldown_s),
                min_duration_s: new.min_duration_s.unwrap_or(defaults.min_duration_s),
                grouping: new.grouping.unwrap_or(defaults.grouping),
                flap_detection: new.flap_detection.unwrap_or(defaults.flap_detection),
                quiet_hours: new.quiet_hours.map(|hours| quiet_hours(hours, &mut faults)),
                escalation: new.escalation.map(|it| self.escalation(it, &mut faults)),
            },
            enabled: new.enabled.unwrap_or(true),
            created_at: now,
        };
        faults.finish().map(|()| record)
    }

    fn patched_rule(
        &self,
        mut record: RuleRecord,
        patch: RulePatch,
    ) -> Result<RuleRecord, Refusal> {
        let mut faults = Faults::default();
        faults.range("cooldown_s", patch.cooldown_s, 0..=DAY_S);
        faults.range("min_duration_s", patch.min_duration_s, 0..=DAY_S);
        if let Some(name) = patch.name {
            record.name = faults.name("name", &name);
        }
        if let Some(names) = patch.event_types {
            record.event_types = event_types(names, &mut faults);
        }
        if let Some(ids) = patch.channel_ids {
            record.channel_ids = self.channels_named("channel_ids", ids, &mut faults);
        }
        let settings = &mut record.settings;
        if let Some(text) = patch.description {
            settings.description = description(text, &mut faults);
        }
        if let Some(filters) = patch.filters {
            settings.filters = self.filters(filters.unwrap_or_default(), &mut faults);
        }
        if let Some(hours) = patch.quiet_hours {
            settings.quiet_hours = hours.map(|hours| quiet_hours(hours, &mut faults));
        }
        if let Some(escalation) = patch.escalation {
            settings.escalation = escalation.map(|it| self.escalation(it, &mut faults));
        }
        settings.cooldown_s = patch.cooldown_s.unwrap_or(settings.cooldown_s);
        settings.min_duration_s = patch.min_duration_s.unwrap_or(settings.min_duration_s);
        settings.grouping = patch.grouping.unwrap_or(settings.grouping);
        settings.flap_detection = patch.flap_detection.unwrap_or(settings.flap_detection);
        record.enabled = patch.enabled.unwrap_or(record.enabled);
        faults.finish().map(|()| record)
    }

    /// Channels of this org, each once, at least one.
    fn channels_named(
        &self,
        field: &str,
        channel_ids: Vec<ChannelId>,
        faults: &mut Faults,
    ) -> Vec<ChannelId> {
        if channel_ids.is_empty() {
            faults.push(FieldError::new(field, "required", "name at least one channel"));
        }
        let mut distinct = Vec::new();
        for (index, id) in channel_ids.into_iter().enumerate() {
            if !self.channels.contains_key(&id) {
                let message = "name a channel of this organisation";
                faults.push(FieldError::new(format!("{field}[{index}]"), "not_found", message));
            } else if !distinct.contains(&id) {
                distinct.push(id);
            }
        }
        distinct
    }

    fn escalation(&self, escalation: Escalation, faults: &mut Faults) -> Escalation {
        faults.range("escalation.after_s", Some(escalation.after_s), 60..=DAY_S);
        let field = "escalation.channel_ids";
        let channel_ids = self.channels_named(field, escalation.channel_ids, faults);
        Escalation { channel_ids, ..escalation }
    }

    /// Filters of this org's resources, each once.
    pub(super) fn filters(&self, filters: Filters, faults: &mut Faults) -> Filters {
        let Filters { agent_ids, device_ids, segment_ids, category_ids } = filters;
        Filters {
            agent_ids: known("agent_ids", agent_ids, "an agent", faults, holds(&self.agents)),
            device_ids: known("device_ids", device_ids, "a device", faults, holds(&self.devices)),
            segment_ids: known(
                "segment_ids",
                segment_ids,
                "a segment",
                faults,
                holds(&self.segments),
            ),
            category_ids: known("category_ids", category_ids, "a category", faults, |_| true),
        }
    }
}

fn holds<K: Ord, V>(map: &BTreeMap<K, V>) -> impl Fn(&K) -> bool {
    |id| map.contains_key(id)
}

fn known<Id: PartialEq>(
    list: &str,
    ids: Vec<Id>,
    what: &str,
    faults: &mut Faults,
    is_known: impl Fn(&Id) -> bool,
) -> Vec<Id> {
    if ids.len() > FILTER_IDS_MAX {
        let message = format!("at most {FILTER_IDS_MAX}");
        faults.push(FieldError::new(format!("filters.{list}"), "too_long", message));
    }
    let mut distinct = Vec::new();
    for (index, id) in ids.into_iter().take(FILTER_IDS_MAX).enumerate() {
        if !is_known(&id) {
            let message = format!("name {what} of this organisation");
            faults.push(FieldError::new(format!("filters.{list}[{index}]"), "not_found", message));
        } else if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}

fn event_types(names: Vec<String>, faults: &mut Faults) -> Vec<String> {
    if names.is_empty() {
        faults.push(FieldError::new("event_types", "required", "name at least one event"));
    }
    let mut distinct = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        if !EventBody::NAMES.contains(&name.as_str()) {
            let message = "no event of this hub has this name";
            faults.push(FieldError::new(format!("event_types[{index}]"), "invalid", message));
        } else if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

fn description(text: Option<String>, faults: &mut Faults) -> Option<String> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())?;
    if text.chars().count() > DESCRIPTION_CHARS {
        let message = format!("at most {DESCRIPTION_CHARS} characters");
        faults.push(FieldError::new("description", "too_long", message));
    } else if text.chars().any(|c| c.is_control() && c != '\n') {
        faults.push(FieldError::new("description", "invalid", "no control characters"));
    }
    Some(text)
}

fn quiet_hours(hours: QuietHours, faults: &mut Faults) -> QuietHours {
    for (field, text) in [("from", &hours.from), ("to", &hours.to)] {
        if time_of_day(text).is_none() {
            let message = "a time of day such as 22:00";
            faults.push(FieldError::new(format!("quiet_hours.{field}"), "invalid", message));
        }
    }
    time_zone("quiet_hours.timezone", &hours.timezone, faults);
    let days = days_of_week("quiet_hours.days", &hours.days, faults);
    QuietHours { days, ..hours }
}

pub(super) fn time_zone(field: &str, name: &str, faults: &mut Faults) {
    if zone(name).is_none() {
        let message = "a name of the IANA database such as Europe/Berlin";
        faults.push(FieldError::new(field, "invalid", message));
    }
}

/// Days of the week, each once and in order.
pub(super) fn days_of_week(field: &str, days: &[u8], faults: &mut Faults) -> Vec<u8> {
    if days.iter().any(|day| !(1..=7).contains(day)) {
        let message = "days of the week, 1 for Monday to 7 for Sunday";
        faults.push(FieldError::new(field, "out_of_range", message));
    }
    let distinct: std::collections::BTreeSet<u8> = days.iter().copied().collect();
    distinct.into_iter().collect()
}

impl Org {
    /// What a rule would have told of `events` of an org's journal, the latest between two instants.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] for a body that is no rule of this org.
    pub fn preview(
        image: OrgImage,
        new: NewRule,
        events: &[JournalEvent],
        [from, to]: [Timestamp; 2],
        truncated: bool,
    ) -> Result<Preview, Refusal> {
        // Nobody is connected to it, so nothing depends on how long an agent may be silent.
        let silence = Duration::ZERO;
        let liveness = Liveness {
            heartbeat_interval: silence,
            heartbeat_timeout: silence,
            offline_grace: silence,
        };
        let org = Self::load(image, liveness, to);
        let mut rule = org.new_rule(RuleId::from_uuid(uuid::Uuid::nil()), new, from)?;
        // Whether it is switched on says nothing of what it would tell.
        rule.enabled = true;
        let mut rehearsal = Rehearsal::new(&rule, &org.windows, from);
        for event in events {
            // A newer version of the hub may know events that this one does not.
            let Ok(body) = EventBody::from_columns(&event.name, &event.data) else { continue };
            let (subject, companions) = org.subject(&body, rule::groups_absence(&rule));
            let (name, at) = (event.name.to_string(), event.at);
            let event = EventRef { seq: event.seq, id: event.id, name, at };
            let nature = nature(&body);
            rehearsal.live(&body, &Happening { event, nature, subject, companions });
        }
        Ok(rehearsal.end(to, truncated))
    }
}
