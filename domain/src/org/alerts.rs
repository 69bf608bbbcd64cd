//! What the rules say: of an event, when its time has come, and when they change.

use std::ops::Bound;

use pulse_protocol::api::{Alert, AlertState, ChannelKind, DeliveryState, Suppression};
use pulse_protocol::event::{AlertChanged, EventBody};
use pulse_protocol::ids::{AlertId, ChannelId, DeliveryId, RuleId};
use uuid::Uuid;

use super::requests::not_found;
use super::rules::tells;
use super::step::Step;
use super::{Effect, Org};
use crate::notification::alert::Resource;
use crate::notification::board::{AlertRecord, Board, Call, Out, Tracked};
use crate::notification::happening::Happening;
use crate::notification::rule::Worth;
use crate::notification::scene::Scene;
use crate::record::{ChannelRecord, Content, DeliveryRecord, Write};
use crate::request::{Refusal, Reply};

impl Step<'_> {
    /// Puts an event to every rule.
    pub(super) fn tell_rules(&mut self, happening: &Happening, worth: Worth) {
        let rules: Vec<RuleId> = self.org.rules.keys().copied().collect();
        self.on_board(&rules, |board, scene, new_id, out| {
            board.take(scene, happening, worth, new_id, out);
        });
    }

    /// Does something with the board and each of these rules, then what the board answers.
    fn on_board(
        &mut self,
        rules: &[RuleId],
        mut work: impl FnMut(&mut Board, &Scene<'_>, &mut dyn FnMut() -> Uuid, &mut Vec<Out>),
    ) {
        let mut board = std::mem::take(&mut self.org.board);
        let mut out = Vec::new();
        let (org, now) = (&*self.org, self.now);
        let delivers = |id| org.channels.get(&id).is_some_and(|channel| channel.enabled);
        let find = |resource: Resource| org.resource(resource);
        for rule in rules.iter().filter_map(|id| org.rules.get(id)) {
            let (delivers, find) = (&delivers, &find);
            let scene = Scene { now, rule, windows: &org.windows, delivers, find };
            work(&mut board, &scene, &mut || self.ids.next(), &mut out);
        }
        self.org.board = board;
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Call(call) => self.deliver(&call),
                Out::Write(row) => self.write(Write::Alert(*row)),
                Out::Removed(id) => self.write(Write::AlertRemoved(id)),
            }
        }
    }

    /// Writes a delivery for each receiver.
    fn deliver(&mut self, call: &Call) {
        for channel_id in &call.say.channel_ids {
            let Some(channel) = self.org.channels.get(channel_id) else { continue };
            // News of a channel that fails do not go through that channel.
            if call.resource == channel_id.to_string() {
                continue;
            }
            for recipient in recipients(channel) {
                let record = self.delivery(call, *channel_id, recipient);
                self.delivery_changed(record, None);
            }
            if call.say.suppressed_by.is_none() {
                self.tell(Effect::WakeChannel(*channel_id));
            }
        }
    }

    fn delivery(
        &mut self,
        call: &Call,
        channel_id: ChannelId,
        recipient: Option<String>,
    ) -> DeliveryRecord {
        let event = &call.say.event;
        let rule = self.org.rules.get(&call.rule_id);
        let is_held = call.say.suppressed_by.is_some();
        DeliveryRecord {
            id: DeliveryId::from_uuid(self.ids.next()),
            channel_id,
            rule_id: call.rule_id,
            event_id: event.id,
            event_seq: event.seq,
            event_name: event.name.clone(),
            resource: call.resource.clone(),
            content: Content {
                reason: call.say.reason,
                resource_name: call.resource_name.clone(),
                rule_name: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
                org_name: self.org.record.name.clone(),
                recipient,
                alert_id: call.alert_id,
                suppressed_by: call.say.suppressed_by,
                items: call.items.clone(),
                more: call.more,
            },
            state: if is_held { DeliveryState::Suppressed } else { DeliveryState::Queued },
            tries: 0,
            next_attempt_at: (!is_held).then_some(self.now),
            created_at: self.now,
        }
    }

    /// Does what is due.
    pub(super) fn wake_alerts(&mut self) {
        if !self.org.is_open() {
            // Suspended while the hub was away.
            return self.forget_alerts(|_| true);
        }
        let due = self.org.board.due(self.now);
        self.revise(&due);
    }

    /// Does what a changed rule or window makes due.
    pub(super) fn revise(&mut self, alerts: &[AlertId]) {
        for id in alerts {
            let Some(row) = self.org.board.rows().get(id) else { continue };
            let rule_id = row.rule_id;
            if self.org.rules.contains_key(&rule_id) {
                self.on_board(&[rule_id], |board, scene, new_id, out| {
                    board.wake(scene, *id, new_id, out);
                });
            } else {
                self.forget_alerts(|row| row.rule_id == rule_id);
            }
        }
    }

    /// A channel delivers again: what could not be told through it is told now, if it is still so.
    pub(super) fn revise_alerts_of(&mut self, channel_id: ChannelId) {
        let rules = &self.org.rules;
        let names_it = |id: &RuleId| rules.get(id).is_some_and(|rule| tells(rule, channel_id));
        let rows = self.org.board.rows().values().filter(|row| names_it(&row.rule_id));
        let alerts: Vec<AlertId> = rows.map(|row| row.id).collect();
        self.revise(&alerts);
    }

    pub(super) fn forget_alerts(&mut self, which: impl Fn(&AlertRecord) -> bool) {
        let mut out = Vec::new();
        self.org.board.forget(which, &mut out);
        self.carry_out(out);
    }

    /// Nothing is told any more of what was removed or switched off: whoever did it knows.
    pub(super) fn forget_alerts_of_what_is_gone(&mut self, body: &EventBody) {
        match body {
            EventBody::AgentRemoved(_) | EventBody::DeviceRemoved(_) => {}
            EventBody::AgentUpdated(data) if !data.agent.enabled => {}
            _ => return,
        }
        let resource_of = |row: &AlertRecord| match &row.state {
            Tracked::Alert(alert) => Some(alert.resource),
            Tracked::Once(_) | Tracked::Digest(_) => None,
        };
        let is_gone = |resource| match resource {
            Resource::Agent(id) => !self.org.agents.get(&id).is_some_and(|it| it.record.enabled),
            Resource::Device(id) => !self.org.devices.contains_key(&id),
        };
        let rows = self.org.board.rows().values();
        let gone = rows.filter(|row| resource_of(row).is_some_and(is_gone)).map(|row| row.id);
        let gone: std::collections::BTreeSet<AlertId> = gone.collect();
        if !gone.is_empty() {
            self.forget_alerts(|row| gone.contains(&row.id));
        }
    }

    pub(super) fn acknowledge_alert(
        &mut self,
        alert_id: AlertId,
        by: String,
    ) -> Result<Reply, Refusal> {
        self.org.alert(alert_id).ok_or_else(not_found("alert"))?;
        let rule_id = self.org.board.rows().get(&alert_id).map(|row| row.rule_id);
        let rules: Vec<RuleId> = rule_id.into_iter().collect();
        let mut is_new = false;
        self.on_board(&rules, |board, scene, new_id, out| {
            is_new = board.acknowledge(scene, alert_id, by.clone(), new_id, out);
        });
        let alert = self.org.alert(alert_id).ok_or_else(not_found("alert"))?;
        if is_new {
            let name = alert.resource_name.clone();
            let data = AlertChanged { alert_id, name, alert: alert.clone() };
            self.journal(&EventBody::AlertAcknowledged(data), Worth::Alert);
        }
        Ok(Reply::Alert(Box::new(alert)))
    }
}

/// To whom a channel delivers: each address of a mail channel gets a message of its own.
fn recipients(channel: &ChannelRecord) -> Vec<Option<String>> {
    let listed = match channel.kind {
        ChannelKind::Email => channel.config.get("recipients").and_then(|list| list.as_array()),
        _ => None,
    };
    let listed = listed.into_iter().flatten().filter_map(|it| it.as_str());
    let recipients: Vec<Option<String>> = listed.map(|it| Some(it.to_owned())).collect();
    if recipients.is_empty() { vec![None] } else { recipients }
}

impl Org {
    pub(super) fn alert(&self, alert_id: AlertId) -> Option<Alert> {
        self.alert_view(self.board.rows().get(&alert_id)?)
    }

    pub(super) fn alerts(
        &self,
        state: Option<AlertState>,
        after: Option<AlertId>,
        limit: usize,
    ) -> Vec<Alert> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.board.rows().range((from, Bound::Unbounded));
        rows.filter_map(|(_, row)| self.alert_view(row))
            .filter(|alert| state.is_none_or(|state| alert.state == state))
            .take(limit)
            .collect()
    }

    fn alert_view(&self, row: &AlertRecord) -> Option<Alert> {
        let Tracked::Alert(alert) = &row.state else { return None };
        let rule = self.rules.get(&row.rule_id)?;
        let escalation = rule.settings.escalation.as_ref();
        let after = escalation.map(|it| std::time::Duration::from_secs(it.after_s.into()));
        let held_by = match alert.flap.is_on {
            true => Some(Suppression::Flapping),
            false => alert.held_by,
        };
        Some(Alert {
            id: row.id,
            rule_id: row.rule_id,
            rule_name: rule.name.clone(),
            resource_id: row.resource.clone(),
            resource_name: alert.resource_name.clone(),
            state: alert.state(),
            event: alert.problem.name.clone(),
            seq: alert.problem.seq,
            since: alert.wrong_since,
            told_at: alert.told.as_ref().map(|told| told.at),
            held_by,
            acknowledged_at: alert.acknowledged.as_ref().map(|it| it.at),
            acknowledged_by: alert.acknowledged.as_ref().map(|it| it.by.clone()),
            escalates_at: alert.escalation_due(after),
        })
    }
}
