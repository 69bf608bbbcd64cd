//! Something that is, or was, wrong with one resource, as one rule sees it.
//!
//! The machine compares what is with what the receivers were told last, and tells the difference as soon as the rule
//! lets it. So nothing that stays wrong stays untold, and nothing that passed meanwhile is told late.
//!
//! - **A1** Two alerts about one resource are at least the cooldown apart. A recovery does not wait for it.
//! - **A2** A recovery goes only where the alert, or its escalation, went.
//! - **A3** While nothing holds it back, what is told is what is: whatever holds it back ends, and is waited for. Nobody
//!   to tell is no end: what is wrong stays untold until a channel delivers again.
//! - **A4** An alert is escalated at most once, and not when it is acknowledged or over.
//! - **A5** What the machine waits for lies ahead: it is never woken for nothing.

pub mod flap;
#[cfg(test)]
mod tests;

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{AlertState, Reason, Suppression};
use pulse_protocol::ids::{AgentId, ChannelId, DeviceId, EventId};
use serde::{Deserialize, Serialize};

use crate::decision::Decision;
use flap::Flap;

/// A resource that something can be wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// An agent.
    Agent(AgentId),
    /// A device.
    Device(DeviceId),
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(id) => id.fmt(f),
            Self::Device(id) => id.fmt(f),
        }
    }
}

/// An event of the journal, without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRef {
    /// Its number.
    pub seq: u64,
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub name: String,
    /// When it became true.
    pub at: Timestamp,
}

/// What is, and what was told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub resource: Resource,
    /// Its name when it last changed.
    pub resource_name: String,
    /// What is, or was, wrong.
    pub problem: EventRef,
    /// Since when something is, or was, wrong.
    pub wrong_since: Timestamp,
    /// What made it right again.
    pub recovery: Option<EventRef>,
    /// What the receivers were told last; none when that was that all is well, or nothing.
    pub told: Option<Told>,
    /// When an alert was last sent; the cooldown counts from here.
    pub alerted_at: Option<Timestamp>,
    /// What holds back the difference.
    pub held_by: Option<Suppression>,
    /// Who looks after it.
    pub acknowledged: Option<Acknowledged>,
    /// From when the escalation counts; none when there is nothing to escalate.
    pub escalates_from: Option<Timestamp>,
    /// How it changed of late.
    #[serde(default)]
    pub flap: Flap,
}

/// What the receivers were told of something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The event's name; none when it was that the resource changes to and fro.
    pub event: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Through which channels, of this and of what was told before it.
    pub channel_ids: Vec<ChannelId>,
}

/// Somebody looks after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Since when.
    pub at: Timestamp,
    /// A mail address, or `link`.
    pub by: String,
}

/// What may happen to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Something is wrong.
    Problem(EventRef),
    /// It is right again.
    Recovery(EventRef),
    /// Time passed, or the rule changed.
    Due,
    /// Somebody looks after it.
    Acknowledge(String),
}

/// What became true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is, or is still, wrong, but otherwise than before.
    Wrong(EventRef),
    /// It is right again.
    Right(EventRef),
    /// Its change counts for flapping.
    Counted,
    /// It changes to and fro; the receivers were told so, unless something held it back.
    Flaps,
    /// It holds still again.
    Settled,
    /// The receivers were told that it flaps.
    FlappingTold(Vec<ChannelId>),
    /// The receivers were told what is wrong.
    ProblemTold(Vec<ChannelId>),
    /// The receivers were told that all is well.
    RecoveryTold,
    /// Something holds back what should be told.
    Held(Suppression),
    /// Others were told, too.
    Escalated(Vec<ChannelId>),
    /// Somebody looks after it.
    Acknowledged(String),
}

/// One message, or one that is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// What it is about.
    pub event: EventRef,
    /// Why it is said.
    pub reason: Reason,
    /// Why it is not.
    pub suppressed_by: Option<Suppression>,
    /// Through which channels.
    pub channel_ids: Vec<ChannelId>,
}

/// What the rule wants, at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rule's channels that deliver.
    pub channel_ids: Vec<ChannelId>,
    /// At least this long between two alerts.
    pub cooldown: Duration,
    /// It must be wrong for this long.
    pub min_duration: Duration,
    /// Whether flapping is told once.
    pub flap_detection: bool,
    /// Whether the rule names the recovery.
    pub tells_recovery: bool,
    /// After which time others are told, and who.
    pub escalation: Option<(Duration, Vec<ChannelId>)>,
    /// What keeps everything back now, and until when.
    pub hold: Option<(Suppression, Timestamp)>,
}

impl Alert {
    /// Something that became wrong. Decide [`Command::Due`] next.
    #[must_use]
    pub fn new(resource: Resource, resource_name: String, problem: EventRef) -> Self {
        let wrong_since = problem.at;
        Self {
            resource,
            resource_name,
            wrong_since,
            recovery: None,
            told: None,
            alerted_at: None,
            held_by: None,
            acknowledged: None,
            escalates_from: None,
            flap: Flap { changes: vec![problem.at], is_on: false },
            problem,
        }
    }

    /// Whether it is wrong now.
    #[must_use]
    pub const fn is_wrong(&self) -> bool {
        self.recovery.is_none()
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn state(&self) -> AlertState {
        match (self.flap.is_on, self.is_wrong(), &self.told) {
            (true, ..) => AlertState::Flapping,
            (false, false, _) => AlertState::Resolved,
            (false, true, None) => AlertState::Pending,
            (false, true, Some(_)) => AlertState::Firing,
        }
    }

    /// What it says now.
    #[must_use]
    pub fn latest(&self) -> &EventRef {
        self.recovery.as_ref().unwrap_or(&self.problem)
    }

    /// Whether the receivers were told something else than what is.
    fn is_untold(&self) -> bool {
        match (&self.told, self.is_wrong()) {
            (None, wrong) => wrong,
            (Some(_), false) => true,
            (Some(told), true) => told.event.as_deref() != Some(&self.problem.name),
        }
    }

    fn cools_until(&self, policy: &Policy) -> Option<Timestamp> {
        self.alerted_at.map(|at| at + policy.cooldown)
    }

    fn escalates_at(&self, policy: &Policy) -> Option<Timestamp> {
        self.escalation_due(policy.escalation.as_ref().map(|(after, _)| *after))
    }

    /// When others are told, if nobody acknowledges.
    #[must_use]
    pub fn escalation_due(&self, after: Option<Duration>) -> Option<Timestamp> {
        self.escalates_from.filter(|_| self.is_wrong()).zip(after).map(|(from, after)| from + after)
    }

    /// What a command makes true, and what is said.
    #[must_use]
    pub fn decide(
        &self,
        command: Command,
        policy: &Policy,
        now: Timestamp,
    ) -> Decision<Event, Say> {
        let mut turn = Turn { alert: self.clone(), policy, now, decision: Decision::nothing() };
        match command {
            Command::Problem(event) if !self.is_wrong() || self.problem.name != event.name => {
                turn.change(Event::Wrong(event));
            }
            Command::Recovery(event) if self.is_wrong() => turn.change(Event::Right(event)),
            Command::Problem(_) | Command::Recovery(_) => {}
            Command::Acknowledge(by) => {
                if self.acknowledged.is_none() && self.is_wrong() {
                    turn.becomes(Event::Acknowledged(by));
                }
            }
            Command::Due => {}
        }
        turn.settle();
        turn.decision
    }

    /// Folds an event into the state.
    pub fn apply(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Wrong(problem) => {
                if self.recovery.take().is_some() {
                    self.wrong_since = problem.at;
                }
                self.problem = problem.clone();
                self.held_by = None;
            }
            Event::Right(recovery) => {
                self.recovery = Some(recovery.clone());
                self.held_by = None;
            }
            Event::Counted => self.flap.changed(now),
            Event::Flaps => self.flap.is_on = true,
            Event::Settled => {
                self.flap = Flap::default();
                self.held_by = None;
            }
            Event::FlappingTold(channel_ids) => self.tell(None, channel_ids, now),
            Event::ProblemTold(channel_ids) => {
                let before = self.told.as_ref().and_then(|told| told.event.as_ref());
                if before.is_some_and(|before| *before != self.problem.name) {
                    // Something else is wrong now: whoever looks after it has to look again.
                    self.acknowledged = None;
                }
                self.tell(Some(self.problem.name.clone()), channel_ids, now);
                self.alerted_at = Some(now);
                self.escalates_from = Some(now).filter(|_| self.acknowledged.is_none());
            }
            Event::RecoveryTold => {
                self.told = None;
                self.held_by = None;
                self.acknowledged = None;
                self.escalates_from = None;
            }
            Event::Held(why) => self.held_by = Some(*why),
            Event::Escalated(channel_ids) => {
                if let Some(told) = &mut self.told {
                    add(&mut told.channel_ids, channel_ids);
                }
                self.escalates_from = None;
            }
            Event::Acknowledged(by) => {
                self.acknowledged = Some(Acknowledged { at: now, by: by.clone() });
                self.escalates_from = None;
            }
        }
    }

    fn tell(&mut self, event: Option<String>, channel_ids: &[ChannelId], now: Timestamp) {
        let mut told = self.told.take().map(|told| told.channel_ids).unwrap_or_default();
        add(&mut told, channel_ids);
        self.told = Some(Told { event, at: now, channel_ids: told });
        self.held_by = None;
    }

    /// When it has something to do, or may be forgotten. Later than `now`, if it was settled now.
    #[must_use]
    pub fn due_at(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        if let Some(at) = self.flap.settles_at() {
            return Some(at);
        }
        let held = |at: Timestamp| match policy.hold {
            Some((_, until)) if at <= now => until,
            _ => at,
        };
        if self.is_wrong() {
            let tells_at = (self.wrong_since + policy.min_duration)
                .max(self.cools_until(policy).unwrap_or(self.wrong_since));
            let is_told_then = self.is_untold() && !policy.channel_ids.is_empty();
            let tells_at = is_told_then.then(|| held(tells_at));
            return tells_at.into_iter().chain(self.escalates_at(policy).map(held)).min();
        }
        if self.is_untold() {
            return policy.hold.map(|(_, until)| until);
        }
        self.forgotten_at(policy)
    }

    /// Whether nothing depends on it any more.
    #[must_use]
    pub fn is_over(&self, policy: &Policy, now: Timestamp) -> bool {
        !self.is_wrong()
            && !self.flap.is_on
            && !self.is_untold()
            && self.forgotten_at(policy).is_none_or(|at| at <= now)
    }

    fn forgotten_at(&self, policy: &Policy) -> Option<Timestamp> {
        let counts = self.flap.counts_until().filter(|_| policy.flap_detection);
        self.cools_until(policy).max(counts)
    }
}

fn add(all: &mut Vec<ChannelId>, more: &[ChannelId]) {
    for id in more {
        if !all.contains(id) {
            all.push(*id);
        }
    }
}

/// One decision on its way.
struct Turn<'a> {
    alert: Alert,
    policy: &'a Policy,
    now: Timestamp,
    decision: Decision<Event, Say>,
}

impl Turn<'_> {
    fn becomes(&mut self, event: Event) {
        self.alert.apply(&event, self.now);
        self.decision.events.push(event);
    }

    fn say(&mut self, reason: Reason, suppressed_by: Option<Suppression>, to: Vec<ChannelId>) {
        if to.is_empty() {
            return;
        }
        let event = self.alert.latest().clone();
        self.decision.effects.push(Say { event, reason, suppressed_by, channel_ids: to });
    }

    /// Why it is said what is now.
    const fn reason(&self) -> Reason {
        if self.alert.is_wrong() { Reason::Alert } else { Reason::Recovery }
    }

    fn told_channels(&self) -> Vec<ChannelId> {
        self.alert.told.as_ref().map(|told| told.channel_ids.clone()).unwrap_or_default()
    }

    fn change(&mut self, event: Event) {
        self.becomes(event);
        let channels = self.policy.channel_ids.clone();
        if self.policy.flap_detection {
            self.becomes(Event::Counted);
        }
        let is_told = self.alert.is_wrong() || self.policy.tells_recovery;
        if self.alert.flap.is_on {
            if is_told {
                self.say(self.reason(), Some(Suppression::Flapping), channels);
            }
            self.becomes(Event::Held(Suppression::Flapping));
        } else if self.policy.flap_detection && self.alert.flap.begins() {
            self.becomes(Event::Flaps);
            let why = self.policy.hold.map(|(why, _)| why);
            self.say(Reason::Flapping, why, channels.clone());
            self.becomes(why.map_or(Event::FlappingTold(channels), Event::Held));
        } else if !self.alert.is_wrong() && self.alert.told.is_none() && is_told {
            self.say(Reason::Recovery, Some(Suppression::NotTold), channels);
        }
    }

    /// Tells the difference between what is and what was told, if nothing holds it back.
    fn settle(&mut self) {
        let settles_at = self.alert.flap.settles_at();
        if settles_at.is_some_and(|at| at <= self.now || !self.policy.flap_detection) {
            self.becomes(Event::Settled);
        }
        if self.alert.flap.is_on {
            return;
        }
        if self.alert.is_untold() {
            if self.alert.is_wrong() { self.tell_problem() } else { self.tell_recovery() }
        }
        self.escalate();
    }

    fn tell_problem(&mut self) {
        if self.now < self.alert.wrong_since + self.policy.min_duration {
            return;
        }
        let channels = self.policy.channel_ids.clone();
        if channels.is_empty() {
            // Told to nobody is not told.
            return;
        }
        let cools = self.alert.cools_until(self.policy).is_some_and(|until| until > self.now);
        let why = self.policy.hold.map(|(why, _)| why);
        if let Some(why) = why.or(cools.then_some(Suppression::Cooldown)) {
            return self.hold_back(why, channels);
        }
        self.say(Reason::Alert, None, channels.clone());
        self.becomes(Event::ProblemTold(channels));
    }

    fn tell_recovery(&mut self) {
        let told = self.told_channels();
        if !self.policy.tells_recovery {
            return self.becomes(Event::RecoveryTold);
        }
        if let Some((why, _)) = self.policy.hold {
            return self.hold_back(why, told);
        }
        let not_told = |id: &&ChannelId| !told.contains(id);
        let others = self.policy.channel_ids.iter().filter(not_told).copied().collect();
        self.say(Reason::Recovery, None, told);
        self.say(Reason::Recovery, Some(Suppression::NotTold), others);
        self.becomes(Event::RecoveryTold);
    }

    /// Says once that something is held back; when another reason takes over, that is noted.
    fn hold_back(&mut self, why: Suppression, channel_ids: Vec<ChannelId>) {
        if self.alert.held_by.is_none() {
            self.say(self.reason(), Some(why), channel_ids);
        }
        if self.alert.held_by != Some(why) {
            self.becomes(Event::Held(why));
        }
    }

    fn escalate(&mut self) {
        let due = self.alert.escalates_at(self.policy).is_some_and(|at| at <= self.now);
        let Some((_, channel_ids)) = self.policy.escalation.clone().filter(|_| due) else { return };
        if self.policy.hold.is_none() {
            self.say(Reason::Escalation, None, channel_ids.clone());
            self.becomes(Event::Escalated(channel_ids));
        }
    }
}
