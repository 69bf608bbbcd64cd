//! The alerts of an org's rules: finds the one an event is about, and puts what is said together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{Grouping, Reason, Suppression};
use pulse_protocol::ids::{AlertId, RuleId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alert::{Alert, Command, Event, EventRef, Policy, Resource, Say};
use super::digest::{DIGEST, Digest};
use super::happening::{Happening, Nature};
use super::once::{self, Once};
use super::rule::{self, Reading, Worth};
use super::scene::Scene;
use crate::record::DigestItem;

/// What one rule remembers of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRecord {
    /// The alert.
    pub id: AlertId,
    /// The rule.
    pub rule_id: RuleId,
    /// What it is about, as text; one row for each of a rule.
    pub resource: String,
    /// What is remembered.
    pub state: Tracked,
    /// When it has something to do next.
    pub due_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Tracked {
    /// Something that is, or was, wrong.
    Alert(Box<Alert>),
    /// An event that was told within the rule's cooldown.
    Once(Once),
    /// Messages that wait to go out together.
    Digest(Digest),
}

impl Tracked {
    /// The oldest event that something may still be said about.
    #[must_use]
    pub fn needed_seq(&self) -> Option<u64> {
        match self {
            Self::Alert(alert) => Some(alert.latest().seq),
            Self::Once(_) => None,
            Self::Digest(digest) => digest.oldest_seq(),
        }
    }
}

/// One message, or one that is held back, of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The rule.
    pub rule_id: RuleId,
    /// The alert it belongs to.
    pub alert_id: Option<AlertId>,
    /// What it is about: the resource's id as text, or what else keeps its messages in order.
    pub resource: String,
    /// Its name.
    pub resource_name: String,
    /// What is said, and to whom.
    pub say: Say,
    /// The events of a digest.
    pub items: Vec<DigestItem>,
    /// How many more there are.
    pub more: u32,
}

/// What a board answers, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Say it.
    Call(Box<Call>),
    /// Write the row.
    Write(Box<AlertRecord>),
    /// Delete the row.
    Removed(AlertId),
}

/// The rows of an org.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    rows: BTreeMap<AlertId, AlertRecord>,
    keys: BTreeMap<(RuleId, String), AlertId>,
    due: BTreeSet<(Timestamp, AlertId)>,
}

impl Board {
    /// A board with these rows.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = AlertRecord>) -> Self {
        let mut board = Self::default();
        rows.into_iter().for_each(|row| board.put(row));
        board
    }

    /// Its rows.
    #[must_use]
    pub const fn rows(&self) -> &BTreeMap<AlertId, AlertRecord> {
        &self.rows
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is due, first things first.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<AlertId> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    fn put(&mut self, row: AlertRecord) {
        self.take_away(row.id);
        self.keys.insert((row.rule_id, row.resource.clone()), row.id);
        self.due.extend(row.due_at.map(|at| (at, row.id)));
        self.rows.insert(row.id, row);
    }

    fn take_away(&mut self, id: AlertId) -> Option<AlertRecord> {
        let row = self.rows.remove(&id)?;
        self.keys.remove(&(row.rule_id, row.resource.clone()));
        if let Some(at) = row.due_at {
            self.due.remove(&(at, id));
        }
        Some(row)
    }

    fn find(&self, rule_id: RuleId, resource: &str) -> Option<&AlertRecord> {
        self.rows.get(self.keys.get(&(rule_id, resource.to_owned()))?)
    }

    /// Forgets rows.
    pub fn forget(&mut self, which: impl Fn(&AlertRecord) -> bool, out: &mut Vec<Out>) {
        let gone: Vec<AlertId> =
            self.rows.values().filter(|row| which(row)).map(|row| row.id).collect();
        for id in gone {
            self.take_away(id);
            out.push(Out::Removed(id));
        }
    }

    /// What an event is to the scene's rule.
    pub fn take(
        &mut self,
        scene: &Scene<'_>,
        happening: &Happening,
        worth: Worth,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let Some(reading) = rule::reading(scene.rule, happening, worth) else { return };
        match (reading, happening.nature) {
            (Reading::Problem, Nature::Problem { resource, .. }) => {
                self.problem(scene, happening, resource, new_id, out);
            }
            (Reading::Recovery { is_told }, Nature::Recovery(resource)) => {
                self.recovery(scene, happening, resource, is_told, new_id, out);
            }
            _ => self.once(scene, happening, new_id, out),
        }
    }

    fn problem(
        &mut self,
        scene: &Scene<'_>,
        happening: &Happening,
        resource: Resource,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let key = resource.to_string();
        let event = happening.event.clone();
        let name = happening.subject.name.clone();
        let known = self.find(scene.rule.id, &key).cloned();
        let (row, command) = match known {
            None => {
                let alert = Alert::new(resource, name, event);
                let row = AlertRecord {
                    id: AlertId::from_uuid(new_id()),
                    rule_id: scene.rule.id,
                    resource: key,
                    state: Tracked::Alert(Box::new(alert)),
                    due_at: None,
                    updated_at: scene.now,
                };
                (row, Command::Due)
            }
            Some(mut row) => {
                let Tracked::Alert(alert) = &mut row.state else { return };
                alert.resource_name = name;
                if !alert.is_wrong() && alert.told.is_none() {
                    // Another alert: a link in a message about the one before must not acknowledge it.
                    self.take_away(row.id);
                    out.push(Out::Removed(row.id));
                    row.id = AlertId::from_uuid(new_id());
                }
                (row, Command::Problem(event))
            }
        };
        let policy = scene.policy(&happening.subject, resource);
        self.decide(scene, row, command, &policy, new_id, out);
    }

    fn recovery(
        &mut self,
        scene: &Scene<'_>,
        happening: &Happening,
        resource: Resource,
        is_told: bool,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let key = resource.to_string();
        let open = self.find(scene.rule.id, &key).cloned();
        if let Some(mut row) = open
            && let Tracked::Alert(alert) = &mut row.state
            && alert.is_wrong()
        {
            alert.resource_name.clone_from(&happening.subject.name);
            let policy = scene.policy(&happening.subject, resource);
            let command = Command::Recovery(happening.event.clone());
            return self.decide(scene, row, command, &policy, new_id, out);
        }
        let channel_ids = scene.delivering(&scene.rule.channel_ids);
        if is_told && !channel_ids.is_empty() {
            let say = Say {
                event: happening.event.clone(),
                reason: Reason::Recovery,
                suppressed_by: Some(Suppression::NotTold),
                channel_ids,
            };
            out.push(call(scene.rule.id, None, key, happening.subject.name.clone(), say));
        }
    }

    fn once(
        &mut self,
        scene: &Scene<'_>,
        happening: &Happening,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let Happening { event, subject, .. } = happening;
        let (repeats, can_be_held) = match happening.nature {
            Nature::Once { repeats, can_be_held } => (repeats, can_be_held),
            _ => (true, true),
        };
        let cooldown = Duration::from_secs(scene.rule.settings.cooldown_s.into());
        let hold = if can_be_held { scene.hold(subject).map(|(why, _)| why) } else { None };
        let key = format!("{} {}", event.name, subject.id);
        let known = self.find(scene.rule.id, &key).cloned();
        let before = known.as_ref().and_then(|row| match &row.state {
            Tracked::Once(once) => Some(once),
            _ => None,
        });
        let suppressed_by = once::decide(before, cooldown, hold, scene.now);
        let channel_ids = scene.delivering(&scene.rule.channel_ids);
        if channel_ids.is_empty() {
            return;
        }
        let resource =
            if subject.id.is_empty() { event.id.to_string() } else { subject.id.clone() };
        let say = Say { event: event.clone(), reason: Reason::Event, suppressed_by, channel_ids };
        self.say(scene, None, &resource, &subject.name, say, new_id, out);
        if suppressed_by.is_none() && repeats && !cooldown.is_zero() {
            let row = AlertRecord {
                id: known.map_or_else(|| AlertId::from_uuid(new_id()), |row| row.id),
                rule_id: scene.rule.id,
                resource: key,
                state: Tracked::Once(Once { told_at: scene.now }),
                due_at: Some(scene.now + cooldown),
                updated_at: scene.now,
            };
            self.write(row, out);
        }
    }

    /// Does what is due, or what a changed rule or window makes due.
    pub fn wake(
        &mut self,
        scene: &Scene<'_>,
        id: AlertId,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let Some(row) = self.rows.get(&id).cloned() else { return };
        match &row.state {
            Tracked::Once(once) => {
                let ends_at =
                    once.told_at + Duration::from_secs(scene.rule.settings.cooldown_s.into());
                if !scene.rule.enabled || ends_at <= scene.now {
                    self.remove(id, out);
                } else if row.due_at != Some(ends_at) {
                    self.write(AlertRecord { due_at: Some(ends_at), ..row }, out);
                }
            }
            Tracked::Digest(_) if !scene.rule.enabled => self.remove(id, out),
            Tracked::Digest(digest) => {
                if row.due_at.is_none_or(|at| at <= scene.now) {
                    let calls = digest.calls(scene.rule.id);
                    out.extend(calls.into_iter().map(|call| Out::Call(Box::new(call))));
                    self.remove(id, out);
                }
            }
            Tracked::Alert(alert) => {
                let resource = alert.resource;
                let found = (scene.find)(resource);
                let Some((subject, companions)) = found else { return self.remove(id, out) };
                if rule::covers(scene.rule, &alert.problem.name, &subject, &companions) {
                    let policy = scene.policy(&subject, resource);
                    self.decide(scene, row, Command::Due, &policy, new_id, out);
                } else {
                    self.remove(id, out);
                }
            }
        }
    }

    /// Notes that somebody looks after an alert; says whether nobody did before.
    pub fn acknowledge(
        &mut self,
        scene: &Scene<'_>,
        id: AlertId,
        by: String,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) -> bool {
        let Some(row) = self.rows.get(&id).cloned() else { return false };
        let Tracked::Alert(alert) = &row.state else { return false };
        let Some((subject, _)) = (scene.find)(alert.resource) else { return false };
        let policy = scene.policy(&subject, alert.resource);
        let is_new = alert.acknowledged.is_none() && alert.is_wrong();
        if is_new {
            self.decide(scene, row, Command::Acknowledge(by), &policy, new_id, out);
        }
        is_new
    }

    fn decide(
        &mut self,
        scene: &Scene<'_>,
        mut row: AlertRecord,
        command: Command,
        policy: &Policy,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let Tracked::Alert(alert) = &mut row.state else { return };
        let decision = alert.decide(command, policy, scene.now);
        decision.events.iter().for_each(|event: &Event| alert.apply(event, scene.now));
        let due_at = alert.due_at(policy, scene.now);
        let is_over = alert.is_over(policy, scene.now);
        let name = alert.resource_name.clone();
        for say in decision.effects {
            self.say(scene, Some(row.id), &row.resource, &name, say, new_id, out);
        }
        if is_over {
            return self.remove(row.id, out);
        }
        row.due_at = due_at;
        if self.rows.get(&row.id) != Some(&row) {
            row.updated_at = scene.now;
            self.write(row, out);
        }
    }

    /// Says it now, or puts it into the rule's digest.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a part of one message, and none belongs to another"
    )]
    fn say(
        &mut self,
        scene: &Scene<'_>,
        alert_id: Option<AlertId>,
        resource: &str,
        resource_name: &str,
        say: Say,
        new_id: &mut dyn FnMut() -> Uuid,
        out: &mut Vec<Out>,
    ) {
        let rule = scene.rule;
        let waits = rule.settings.grouping == Grouping::Digest
            && say.suppressed_by.is_none()
            && say.reason != Reason::Escalation;
        let call = Call {
            rule_id: rule.id,
            alert_id,
            resource: resource.to_owned(),
            resource_name: resource_name.to_owned(),
            say,
            items: Vec::new(),
            more: 0,
        };
        if !waits {
            return out.push(Out::Call(Box::new(call)));
        }
        let known = self.find(rule.id, DIGEST).cloned();
        let mut row = known.unwrap_or_else(|| AlertRecord {
            id: AlertId::from_uuid(new_id()),
            rule_id: rule.id,
            resource: DIGEST.to_owned(),
            state: Tracked::Digest(Digest::default()),
            due_at: Some(scene.now + super::digest::WAITS),
            updated_at: scene.now,
        });
        if let Tracked::Digest(digest) = &mut row.state {
            digest.add(&call);
        }
        row.updated_at = scene.now;
        self.write(row, out);
    }

    fn write(&mut self, row: AlertRecord, out: &mut Vec<Out>) {
        self.put(row.clone());
        out.push(Out::Write(Box::new(row)));
    }

    fn remove(&mut self, id: AlertId, out: &mut Vec<Out>) {
        if self.take_away(id).is_some() {
            out.push(Out::Removed(id));
        }
    }
}

fn call(
    rule_id: RuleId,
    alert_id: Option<AlertId>,
    resource: String,
    resource_name: String,
    say: Say,
) -> Out {
    let (items, more) = (Vec::new(), 0);
    Out::Call(Box::new(Call { rule_id, alert_id, resource, resource_name, say, items, more }))
}

/// An event as an item of a digest.
pub(super) fn item(event: &EventRef, resource_name: &str) -> DigestItem {
    DigestItem {
        seq: event.seq,
        event: event.name.clone(),
        resource_name: resource_name.to_owned(),
        at: event.at,
    }
}
