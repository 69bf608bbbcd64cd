//! Rows of channels, rules and deliveries.

use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    ChannelHealth, ChannelKind, DeliveryState, Escalation, Filters, Grouping, QuietHours, Reason,
    Suppression,
};
use pulse_protocol::ids::{AlertId, ChannelId, DeliveryId, EventId, RuleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A notification channel.
#[derive(Clone, PartialEq)]
pub struct ChannelRecord {
    /// The channel.
    pub id: ChannelId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where it delivers to, as it is shown: secrets are masked.
    pub config: Value,
    /// What is not shown. Encrypted in the tables.
    pub hidden: Hidden,
    /// Seconds to wait after each failed attempt; empty for the hub's own schedule.
    pub retry_schedule_s: Vec<u32>,
    /// Whether it delivers.
    pub enabled: bool,
    /// How well it delivers.
    pub health: ChannelHealth,
    /// What its last attempts say of the receiver.
    pub breaker: Breaker,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for ChannelRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelRecord")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("enabled", &self.enabled)
            .field("health", &self.health)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// What of a channel is not shown.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hidden {
    /// Signing secrets, the current one first.
    pub signing: Vec<String>,
    /// The whole configuration, with its secrets.
    pub config: Value,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

/// What a channel's last attempts say of its receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// Failed attempts in a row.
    pub failures: u32,
    /// When the first of them was made.
    pub failing_since: Option<Timestamp>,
    /// How often in a row it was opened.
    pub trips: u32,
    /// Nothing is sent before this; then one delivery is tried as a probe.
    pub paused_until: Option<Timestamp>,
    /// Whether people were told that it keeps failing.
    pub told: bool,
}

/// A notification rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRecord {
    /// The rule.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Which events call for a delivery.
    pub event_types: Vec<String>,
    /// To which channels.
    pub channel_ids: Vec<ChannelId>,
    /// When and of what it tells.
    pub settings: RuleSettings,
    /// Whether it is applied.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// When and of what a rule tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleSettings {
    /// What it is for.
    pub description: Option<String>,
    /// Which resources it is about.
    pub filters: Filters,
    /// Seconds in which a resource is told of once.
    pub cooldown_s: u32,
    /// Seconds that something must be wrong before it is told.
    pub min_duration_s: u32,
    /// How its alerts are put together.
    pub grouping: Grouping,
    /// Whether a resource that changes to and fro is told of once.
    pub flap_detection: bool,
    /// When it keeps still.
    pub quiet_hours: Option<QuietHours>,
    /// Who is told next when nobody acknowledges.
    pub escalation: Option<Escalation>,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            description: None,
            filters: Filters::default(),
            cooldown_s: 300,
            min_duration_s: 0,
            grouping: Grouping::Agent,
            flap_detection: true,
            quiet_hours: None,
            escalation: None,
        }
    }
}

/// One message to one receiver; its attempts are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The delivery; the receiver sees it as `webhook-id`, the same on every attempt.
    pub id: DeliveryId,
    /// Where it goes.
    pub channel_id: ChannelId,
    /// The rule that called for it.
    pub rule_id: RuleId,
    /// The event that called for it.
    pub event_id: EventId,
    /// That event's number in the org.
    pub event_seq: u64,
    /// That event's name.
    pub event_name: String,
    /// What it is about: the resource's id as text. Deliveries of one channel about one resource to one recipient
    /// are sent in order.
    pub resource: String,
    /// What it says beside the event.
    pub content: Content,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Attempts since it was queued or last replayed; the back-off counts these.
    pub tries: u32,
    /// When it is tried next; none once it has ended.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was called for.
    pub created_at: Timestamp,
}

/// What a message says beside its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Why it is sent.
    pub reason: Reason,
    /// Name of what it is about.
    pub resource_name: String,
    /// The rule's name when it was called for.
    #[serde(default)]
    pub rule_name: String,
    /// The org's name when it was called for.
    #[serde(default)]
    pub org_name: String,
    /// The mail address it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The alert it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<AlertId>,
    /// Why it is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<Suppression>,
    /// The events of a digest, oldest first; its own event is the last of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<DigestItem>,
    /// How many events of a digest are not in `items`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

impl Content {
    /// What is said of a resource of this name.
    #[must_use]
    pub fn about(reason: Reason, resource_name: impl Into<String>) -> Self {
        Self {
            reason,
            resource_name: resource_name.into(),
            rule_name: String::new(),
            org_name: String::new(),
            recipient: None,
            alert_id: None,
            suppressed_by: None,
            items: Vec::new(),
            more: 0,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One event of a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestItem {
    /// Its number.
    pub seq: u64,
    /// Its name.
    pub event: String,
    /// Name of its resource.
    pub resource_name: String,
    /// When it became true.
    pub at: Timestamp,
}
