//! What the rules must be told of an org, to decide at one instant.

use std::collections::BTreeMap;
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::Suppression;
use pulse_protocol::ids::{ChannelId, WindowId};

use super::alert::{Policy, Resource};
use super::filter::{Subject, passes};
use super::quiet::quiet_until;
use super::rule;
use super::window::WindowRecord;
use crate::record::RuleRecord;

/// What a board must be told of the org.
pub struct Scene<'a> {
    /// The instant.
    pub now: Timestamp,
    /// The rule it is about.
    pub rule: &'a RuleRecord,
    /// The org's maintenance windows.
    pub windows: &'a BTreeMap<WindowId, WindowRecord>,
    /// Whether a channel delivers.
    pub delivers: &'a dyn Fn(ChannelId) -> bool,
    /// What is known of a resource, and of the devices of an agent; none if it is gone.
    pub find: &'a dyn Fn(Resource) -> Option<(Subject, Vec<Subject>)>,
}

impl Scene<'_> {
    pub(super) fn delivering(&self, channel_ids: &[ChannelId]) -> Vec<ChannelId> {
        channel_ids.iter().copied().filter(|id| (self.delivers)(*id)).collect()
    }

    /// What keeps everything about `subject` back now, and until when.
    pub(super) fn hold(&self, subject: &Subject) -> Option<(Suppression, Timestamp)> {
        let windows = self.windows.values().filter(|it| passes(&it.settings.filters, subject));
        let maintenance = windows.filter_map(|it| it.settings.open_until(self.now)).max();
        let quiet = self.rule.settings.quiet_hours.as_ref();
        maintenance
            .map(|until| (Suppression::Maintenance, until))
            .or_else(|| quiet_until(quiet?, self.now).map(|until| (Suppression::QuietHours, until)))
    }

    pub(super) fn policy(&self, subject: &Subject, resource: Resource) -> Policy {
        let settings = &self.rule.settings;
        let recovery = match resource {
            Resource::Agent(_) => "agent.online",
            Resource::Device(_) => "device.online",
        };
        let escalation = settings.escalation.as_ref().map(|escalation| {
            let after = Duration::from_secs(escalation.after_s.into());
            (after, self.delivering(&escalation.channel_ids))
        });
        // Nobody to escalate to, for now.
        let escalation = escalation.filter(|(_, channel_ids)| !channel_ids.is_empty());
        Policy {
            channel_ids: self.delivering(&self.rule.channel_ids),
            cooldown: Duration::from_secs(settings.cooldown_s.into()),
            min_duration: Duration::from_secs(settings.min_duration_s.into()),
            flap_detection: settings.flap_detection,
            tells_recovery: rule::tells_recovery_of(self.rule, recovery),
            escalation,
            hold: self.hold(subject),
        }
    }
}
