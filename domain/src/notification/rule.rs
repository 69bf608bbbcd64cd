//! Which events a rule wants told, and what they are to it.
//!
//! - **R1** No rule, no delivery; a disabled rule or channel calls for none.
//! - **R2** A first status and a first connection are no alert; what an agent's absence does to its devices is told
//!   with the agent, unless the rule wants each on its own.
//! - **R3** News of deliveries call for no deliveries.

use pulse_protocol::api::Grouping;

use super::filter::{Subject, passes};
use super::happening::{Happening, Nature};
use crate::record::RuleRecord;

/// Whether an event is worth telling, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Rules may call for deliveries.
    Alert,
    /// Journalled and shown, but never delivered.
    Quiet,
}

/// What an event is to one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It opens or changes an alert.
    Problem,
    /// It ends an alert.
    Recovery {
        /// Whether it may be told even if no alert is open.
        is_told: bool,
    },
    /// It is told as it is.
    Once,
}

const DEVICE_PROBLEMS: [&str; 3] = ["device.offline", "device.degraded", "device.unknown"];

fn names(rule: &RuleRecord, event: &str) -> bool {
    rule.event_types.iter().any(|name| name == event)
}

/// Whether the rule is told of its devices' absence with their agent.
#[must_use]
pub fn groups_absence(rule: &RuleRecord) -> bool {
    rule.settings.grouping != Grouping::None && names(rule, "device.unknown")
}

/// What `happening` is to `rule`; none if it is nothing.
#[must_use]
pub fn reading(rule: &RuleRecord, happening: &Happening, worth: Worth) -> Option<Reading> {
    if !rule.enabled {
        return None;
    }
    let name = happening.event.name.as_str();
    let is_worthy = worth == Worth::Alert;
    let is_named =
        || names(rule, name) && is_worthy && passes(&rule.settings.filters, &happening.subject);
    match happening.nature {
        Nature::News => None,
        Nature::Once { .. } => is_named().then_some(Reading::Once),
        Nature::Problem { by_absence: true, .. } if rule.settings.grouping != Grouping::None => {
            None
        }
        Nature::Problem { .. } => {
            let covers = is_named() || (is_worthy && covers_absence(rule, happening));
            covers.then_some(Reading::Problem)
        }
        Nature::Recovery(_) if ends_alerts(rule, name) => {
            Some(Reading::Recovery { is_told: is_named() && tells_recovery_of(rule, name) })
        }
        Nature::Recovery(_) => is_named().then_some(Reading::Once),
    }
}

/// Whether an agent's absence is one of a device that the rule is about.
fn covers_absence(rule: &RuleRecord, happening: &Happening) -> bool {
    let passes = |device: &Subject| passes(&rule.settings.filters, device);
    groups_absence(rule) && happening.companions.iter().any(passes)
}

/// Whether a recovery of this name ends alerts of the rule, rather than being all it wants.
fn ends_alerts(rule: &RuleRecord, recovery: &str) -> bool {
    match recovery {
        "agent.online" => names(rule, "agent.offline") || groups_absence(rule),
        _ => DEVICE_PROBLEMS.iter().any(|name| names(rule, name)),
    }
}

/// Whether the rule wants to be told of a recovery of this name, once it was told what was wrong. One that asks for
/// devices alone, and is told of their agent in their place, is told of its return in the place of theirs.
#[must_use]
pub fn tells_recovery_of(rule: &RuleRecord, recovery: &str) -> bool {
    let stands_for_devices = recovery == "agent.online"
        && groups_absence(rule)
        && !names(rule, "agent.offline")
        && names(rule, "device.online");
    names(rule, recovery) || stands_for_devices
}

/// Whether an open alert about `event`, of `subject`, is still one the rule is about. An alert about an agent is also
/// one about its devices.
#[must_use]
pub fn covers(rule: &RuleRecord, event: &str, subject: &Subject, companions: &[Subject]) -> bool {
    let passes = |subject: &Subject| passes(&rule.settings.filters, subject);
    let by_name = names(rule, event) && passes(subject);
    let by_absence = event == "agent.offline" && groups_absence(rule);
    rule.enabled && (by_name || (by_absence && companions.iter().any(passes)))
}

/// Whether what a rule called for may still be sent: not when it was disabled or removed since.
#[must_use]
pub fn still_sends(rule: Option<&RuleRecord>) -> bool {
    rule.is_some_and(|rule| rule.enabled)
}

#[cfg(test)]
mod tests;
