//! Bodies of notifications: channels, rules, alerts, maintenance windows, deliveries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use crate::ids::{
    AgentId, AlertId, CategoryId, ChannelId, DeliveryId, DeviceId, EventId, RuleId, SegmentId,
    WindowId,
};
use crate::status::words;
use crate::time::Timestamp;

words! {
    /// Where a channel delivers to.
    ChannelKind {
        /// A signed POST (Standard Webhooks).
        Webhook = "webhook",
        /// Mail, one message for each recipient.
        Email = "email",
        /// An incoming webhook of Slack.
        Slack = "slack",
        /// A workflow's webhook of Microsoft Teams.
        Teams = "teams",
        /// A webhook of Discord.
        Discord = "discord",
        /// A bot of Telegram.
        Telegram = "telegram",
        /// An integration of PagerDuty (Events v2).
        Pagerduty = "pagerduty",
        /// A topic of ntfy.
        Ntfy = "ntfy",
    }

    /// How well a channel delivers.
    ChannelHealth {
        /// The last attempt was accepted, or none was made yet.
        Healthy = "healthy",
        /// The last attempts failed.
        Degraded = "degraded",
        /// The receiver answered something a person must look at.
        NeedsAttention = "needs_attention",
        /// Switched off, by a person or because the receiver is gone.
        Disabled = "disabled",
    }

    /// Where a delivery is in its life.
    DeliveryState {
        /// Waiting for its first attempt.
        Queued = "queued",
        /// Waiting for a further attempt.
        Retrying = "retrying",
        /// The receiver accepted it.
        Delivered = "delivered",
        /// Given up.
        Dead = "dead",
        /// Held back by the rule.
        Suppressed = "suppressed",
        /// A newer one made it pointless.
        Superseded = "superseded",
        /// A person gave it up.
        Discarded = "discarded",
    }

    /// What became of one attempt.
    AttemptOutcome {
        /// The receiver took it.
        Accepted = "accepted",
        /// To be tried again.
        Retry = "retry",
        /// Not to be tried again.
        Permanent = "permanent",
        /// The receiver says it is gone for good (410).
        Gone = "gone",
    }

    /// How the alerts of one rule are put together.
    Grouping {
        /// A message for each.
        None = "none",
        /// What an agent's absence does to its devices is told with the agent.
        Agent = "agent",
        /// As `agent`; and what happens within a minute goes into one message.
        Digest = "digest",
    }

    /// Why a message is sent.
    Reason {
        /// Something happened that a rule wants told.
        Event = "event",
        /// Something is wrong.
        Alert = "alert",
        /// What was wrong is right again.
        Recovery = "recovery",
        /// Nobody acknowledged the alert in time.
        Escalation = "escalation",
        /// It changes to and fro; no more is told until it holds still.
        Flapping = "flapping",
        /// Several at once.
        Digest = "digest",
    }

    /// Why a message is not sent.
    Suppression {
        /// The resource was told of within the rule's cooldown.
        Cooldown = "cooldown",
        /// It changes to and fro.
        Flapping = "flapping",
        /// A maintenance window is open.
        Maintenance = "maintenance",
        /// The rule's quiet hours.
        QuietHours = "quiet_hours",
        /// It recovered before it was told, or the alert was never sent here.
        NotTold = "not_told",
        /// The recipient unsubscribed, or an earlier mail could not be delivered to them.
        Recipient = "recipient",
        /// The hub has no way to send mail.
        MailNotConfigured = "mail_not_configured",
    }

    /// Where an alert is in its life.
    AlertState {
        /// Something is wrong, and it is too early to tell, or told later.
        Pending = "pending",
        /// Told.
        Firing = "firing",
        /// It changes to and fro.
        Flapping = "flapping",
        /// Right again.
        Resolved = "resolved",
    }

    /// How often a maintenance window comes back.
    Recurrence {
        /// Every day.
        Daily = "daily",
        /// On these days of the week.
        Weekly = "weekly",
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where it delivers to, by kind; what is secret in it is masked.
    pub config: Value,
    /// Whether it delivers.
    pub enabled: bool,
    /// How well it delivers.
    pub health: ChannelHealth,
    /// Seconds to wait after the first, second, … failed attempt; the hub's own schedule when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub retry_schedule_s: Option<Vec<u32>>,
    /// Since when every attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub failing_since: Option<Timestamp>,
    /// Nothing is sent before this, because too many attempts failed or the receiver asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub paused_until: Option<Timestamp>,
}

/// The answer to a new channel, or to a rotated secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ChannelCreated {
    /// The channel.
    #[serde(flatten)]
    pub channel: Channel,
    /// The signing secret of a webhook; never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub secret: Option<String>,
}

/// A new channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewChannel {
    /// 1 to 100 characters.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where it delivers to, by kind.
    pub config: Value,
    /// Whether it delivers; true by default.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Seconds to wait after the first, second, … failed attempt: 1 to 20 of 0 to 86,400 each.
    #[serde(default)]
    pub retry_schedule_s: Option<Vec<u32>>,
}

/// A change to a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelPatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// Replaces the whole configuration; a secret that is left out, or sent as it is shown, keeps its value.
    pub config: Option<Value>,
    /// Whether it delivers.
    pub enabled: Option<bool>,
    /// Seconds to wait after the first, second, … failed attempt; an empty list for the hub's own schedule.
    pub retry_schedule_s: Option<Vec<u32>>,
}

/// Configuration of a webhook channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// `http` or `https`.
    pub url: String,
    /// Sent along with every delivery; the values are secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Which resources a rule or a maintenance window is about. Every list that is not empty must name the event's
/// resource; an event without such a resource passes no list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Filters {
    /// Agents, and the devices they watch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<AgentId>>")]
    pub agent_ids: Vec<AgentId>,
    /// Devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<DeviceId>>")]
    pub device_ids: Vec<DeviceId>,
    /// Segments: their scans and the devices in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<SegmentId>>")]
    pub segment_ids: Vec<SegmentId>,
    /// Categories of devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<CategoryId>>")]
    pub category_ids: Vec<CategoryId>,
}

/// A time of every day, or of some days, in which a rule keeps still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct QuietHours {
    /// `HH:MM`, when they begin.
    pub from: String,
    /// `HH:MM`, when they end; on the next day if that is not after `from`.
    pub to: String,
    /// A name of the IANA database, such as `Europe/Berlin`.
    pub timezone: String,
    /// Days on which they begin, 1 for Monday to 7 for Sunday; every day when absent or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<u8>>")]
    pub days: Vec<u8>,
}

/// Who is told next when nobody acknowledges an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Escalation {
    /// Seconds after the alert was sent: 60 to 86,400.
    pub after_s: u32,
    /// Channels of the org, at least one.
    pub channel_ids: Vec<ChannelId>,
}

/// A notification rule: no rule, no delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub description: Option<String>,
    /// Which events call for a delivery.
    pub event_types: Vec<String>,
    /// To which channels.
    pub channel_ids: Vec<ChannelId>,
    /// Which resources it is about; all when empty.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub quiet_hours: Option<QuietHours>,
    /// Who is told next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub escalation: Option<Escalation>,
    /// Whether it is applied.
    pub enabled: bool,
}

/// A new rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRule {
    /// 1 to 100 characters.
    pub name: String,
    /// Up to 500 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// At least one event name.
    pub event_types: Vec<String>,
    /// At least one channel of the org.
    pub channel_ids: Vec<ChannelId>,
    /// Which resources it is about; all when absent.
    #[serde(default)]
    pub filters: Option<Filters>,
    /// 0 to 86,400; 300 by default.
    #[serde(default)]
    pub cooldown_s: Option<u32>,
    /// 0 to 86,400; 0 by default.
    #[serde(default)]
    pub min_duration_s: Option<u32>,
    /// `agent` by default.
    #[serde(default)]
    pub grouping: Option<Grouping>,
    /// True by default.
    #[serde(default)]
    pub flap_detection: Option<bool>,
    /// None by default.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// None by default.
    #[serde(default)]
    pub escalation: Option<Escalation>,
    /// Whether it is applied; true by default.
    #[serde(default)]
    pub enabled: Option<bool>,
}

/// A change to a rule. What may be absent is removed with `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// Up to 500 characters.
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Option<String>>,
    /// At least one event name.
    pub event_types: Option<Vec<String>>,
    /// At least one channel of the org.
    pub channel_ids: Option<Vec<ChannelId>>,
    /// Replaces all filters.
    #[serde(default, deserialize_with = "present")]
    pub filters: Option<Option<Filters>>,
    /// 0 to 86,400.
    pub cooldown_s: Option<u32>,
    /// 0 to 86,400.
    pub min_duration_s: Option<u32>,
    /// How its alerts are put together.
    pub grouping: Option<Grouping>,
    /// Whether a resource that changes to and fro is told of once.
    pub flap_detection: Option<bool>,
    /// When it keeps still.
    #[serde(default, deserialize_with = "present")]
    pub quiet_hours: Option<Option<QuietHours>>,
    /// Who is told next.
    #[serde(default, deserialize_with = "present")]
    pub escalation: Option<Option<Escalation>>,
    /// Whether it is applied.
    pub enabled: Option<bool>,
}

/// Tells `null`, which removes, from a field that is not there, which changes nothing.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A maintenance window: what happens in it is not told, and told after it if it is still so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct MaintenanceWindow {
    /// Its id.
    pub id: WindowId,
    /// Its name.
    pub name: String,
    /// What it is about; the whole org when empty.
    pub filters: Filters,
    /// When it opens, the first time.
    pub starts_at: Timestamp,
    /// When it closes, the first time.
    pub ends_at: Timestamp,
    /// In which time zone it comes back: a name of the IANA database.
    pub timezone: String,
    /// How often it comes back; once only when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub recurrence: Option<Recurrence>,
    /// Days of the week on which a weekly one opens, 1 for Monday to 7 for Sunday.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<u8>>")]
    pub days: Vec<u8>,
    /// When it comes back for the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub until: Option<Timestamp>,
    /// Whether it is open now.
    pub open: bool,
    /// When it opens or closes next; none when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub next_change_at: Option<Timestamp>,
}

/// A new maintenance window, or what replaces one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMaintenanceWindow {
    /// 1 to 100 characters.
    pub name: String,
    /// What it is about; the whole org when absent.
    #[serde(default)]
    pub filters: Option<Filters>,
    /// When it opens, the first time.
    pub starts_at: Timestamp,
    /// When it closes, the first time: at least a minute and at most 7 days later.
    pub ends_at: Timestamp,
    /// `UTC` by default.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Once only by default.
    #[serde(default)]
    pub recurrence: Option<Recurrence>,
    /// Needed for a weekly one.
    #[serde(default)]
    pub days: Vec<u8>,
    /// For ever by default.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// A change to a maintenance window. What may be absent is removed with `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindowPatch {
    /// 1 to 100 characters.
    pub name: Option<String>,
    /// Replaces all filters.
    pub filters: Option<Filters>,
    /// When it opens, the first time.
    pub starts_at: Option<Timestamp>,
    /// When it closes, the first time.
    pub ends_at: Option<Timestamp>,
    /// A name of the IANA database.
    pub timezone: Option<String>,
    /// How often it comes back.
    #[serde(default, deserialize_with = "present")]
    pub recurrence: Option<Option<Recurrence>>,
    /// Days of the week.
    pub days: Option<Vec<u8>>,
    /// When it comes back for the last time.
    #[serde(default, deserialize_with = "present")]
    pub until: Option<Option<Timestamp>>,
}

/// Something that is, or was, wrong with a resource, as one rule sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// The rule.
    pub rule_id: RuleId,
    /// The rule's name.
    pub rule_name: String,
    /// The agent or device, by its id.
    pub resource_id: String,
    /// Its name.
    pub resource_name: String,
    /// Where it is in its life.
    pub state: AlertState,
    /// Name of the event that says what is wrong.
    pub event: String,
    /// That event's number.
    pub seq: u64,
    /// Since when.
    pub since: Timestamp,
    /// When it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub told_at: Option<Timestamp>,
    /// Why it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub held_by: Option<Suppression>,
    /// When somebody acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub acknowledged_at: Option<Timestamp>,
    /// Who did: a mail address, or `link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub acknowledged_by: Option<String>,
    /// When others are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub escalates_at: Option<Timestamp>,
}

/// What a rule would have told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Preview {
    /// From here on the journal was read.
    pub from: Timestamp,
    /// Up to here.
    pub to: Timestamp,
    /// Events read.
    pub events: u64,
    /// Whether there were more events than a preview reads; then `from` is later than asked for.
    pub truncated: bool,
    /// Messages it would have sent.
    pub sent: u64,
    /// Messages it would have held back.
    pub suppressed: u64,
    /// The latest 200 of both, newest first.
    pub items: Vec<PreviewItem>,
}

/// One message of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct PreviewItem {
    /// When it would have been sent.
    pub at: Timestamp,
    /// The event it is about.
    pub event: String,
    /// That event's number.
    pub seq: u64,
    /// The resource's name.
    pub resource_name: String,
    /// Why it would have been sent.
    pub reason: Reason,
    /// Why it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub suppressed: Option<Suppression>,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// The receiver's HTTP status, or the reply code of its mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub status: Option<u16>,
    /// The beginning of its answer, without secrets; up to 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub answer: Option<String>,
    /// Why there was no good answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}

/// One message to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Delivery {
    /// Its id, the same on every attempt.
    pub id: DeliveryId,
    /// The event that called for it.
    pub event_id: EventId,
    /// That event's number.
    pub seq: u64,
    /// That event's name.
    pub event: String,
    /// The rule that called for it.
    pub rule_id: RuleId,
    /// Where it goes.
    pub channel_id: ChannelId,
    /// The mail address it goes to, where the channel has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub recipient: Option<String>,
    /// Name of what it is about.
    pub resource_name: String,
    /// Why it is sent.
    pub reason: Reason,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub suppressed_by: Option<Suppression>,
    /// The alert it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub alert_id: Option<AlertId>,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// When it was called for.
    pub created_at: Timestamp,
    /// What was tried.
    pub attempts: Vec<Attempt>,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub next_attempt_at: Option<Timestamp>,
}

/// Which deliveries to try again. At most 1,000 are, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFilter {
    /// Only those in this state: `dead` (by default), `discarded`, `superseded` or `suppressed`.
    #[serde(default)]
    pub state: Option<DeliveryState>,
    /// Only those to this channel.
    #[serde(default)]
    pub channel: Option<ChannelId>,
    /// Only those of events of this name.
    #[serde(default)]
    pub event: Option<String>,
    /// Only those called for at or after this.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Only those called for before this.
    #[serde(default)]
    pub to: Option<Timestamp>,
}

/// What became of a replay by filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Replayed {
    /// Tried again.
    pub replayed: u32,
    /// Left alone, because their channel or rule is switched off or gone, or they changed or could not be reached meanwhile.
    pub skipped: u32,
    /// Whether there are more; ask again.
    pub more: bool,
}
