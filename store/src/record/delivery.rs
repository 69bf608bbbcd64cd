//! Channels, rules, deliveries and attempts.

use pulse_actors::ports::StoreError;
use pulse_domain::record::{ChannelRecord, DeliveryRecord, Hidden, RuleRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    Attempt, AttemptOutcome, ChannelHealth, ChannelKind, Delivery, DeliveryState,
};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId, OrgId, RuleId};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Record, from_json, number, optional_instant, optional_ms, optional_number, stored, to_json,
    word,
};
use crate::entity::{attempt, channel, delivery, rule};
use crate::error::corrupt;
use crate::seal::{Place, Sealer};

fn secrets_of(channel_id: Uuid) -> Place {
    Place { column: "channels.secrets", row: channel_id }
}

impl Record for ChannelRecord {
    type Row = channel::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, sealer: &Sealer) -> Result<channel::Model, StoreError> {
        const WHAT: &str = "channel";
        let hidden = to_json(&self.hidden, WHAT)?;
        let sealed = sealer.seal(secrets_of(self.key()), &hidden);
        Ok(channel::Model {
            org_id: org_id.uuid(),
            id: self.key(),
            name: self.name.clone(),
            kind: self.kind.as_str().to_owned(),
            config: to_json(&self.config, WHAT)?,
            secrets: sealed.map_err(|error| corrupt("channel secret", error))?,
            enabled: self.enabled,
            health: self.health.as_str().to_owned(),
            retry_schedule: to_json(&self.retry_schedule_s, WHAT)?,
            breaker: to_json(&self.breaker, WHAT)?,
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: channel::Model, sealer: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "channel";
        let opened = sealer.open(secrets_of(row.id), &row.secrets);
        let opened = opened.map_err(|error| corrupt("channel secret", error))?;
        let config = from_json(&row.config, WHAT)?;
        Ok(Self {
            id: ChannelId::from_uuid(row.id),
            name: row.name,
            kind: word(ChannelKind::from_word, &row.kind, WHAT)?,
            hidden: read_hidden(&opened, &config)?,
            config,
            retry_schedule_s: from_json(&row.retry_schedule, WHAT)?,
            breaker: from_json(&row.breaker, WHAT)?,
            enabled: row.enabled,
            health: word(ChannelHealth::from_word, &row.health, WHAT)?,
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

/// What is not shown. Before there were secrets in configurations, the column held the signing secrets alone.
fn read_hidden(opened: &str, config: &Value) -> Result<Hidden, StoreError> {
    match from_json(opened, "channel secret")? {
        Value::Array(_) => {
            Ok(Hidden { signing: from_json(opened, "channel secret")?, config: config.clone() })
        }
        hidden => serde_json::from_value(hidden).map_err(|error| corrupt("channel secret", error)),
    }
}

impl Record for RuleRecord {
    type Row = rule::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<rule::Model, StoreError> {
        Ok(rule::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            name: self.name.clone(),
            event_types: to_json(&self.event_types, "rule")?,
            channel_ids: to_json(&self.channel_ids, "rule")?,
            settings: to_json(&self.settings, "rule")?,
            enabled: self.enabled,
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: rule::Model, _: &Sealer) -> Result<Self, StoreError> {
        Ok(Self {
            id: RuleId::from_uuid(row.id),
            name: row.name,
            event_types: from_json(&row.event_types, "rule")?,
            channel_ids: from_json(&row.channel_ids, "rule")?,
            settings: from_json(&row.settings, "rule")?,
            enabled: row.enabled,
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

impl Record for DeliveryRecord {
    type Row = delivery::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, _: &Sealer) -> Result<delivery::Model, StoreError> {
        Ok(delivery::Model {
            org_id: org_id.uuid(),
            id: self.id.uuid(),
            channel_id: self.channel_id.uuid(),
            rule_id: self.rule_id.uuid(),
            event_id: self.event_id.uuid(),
            event_seq: stored(self.event_seq, "delivery")?,
            event_name: self.event_name.clone(),
            resource: self.resource.clone(),
            content: to_json(&self.content, "delivery")?,
            state: self.state.as_str().to_owned(),
            tries: self.tries.into(),
            next_attempt_at: optional_ms(self.next_attempt_at),
            created_at: self.created_at.unix_ms(),
        })
    }

    fn read(row: delivery::Model, _: &Sealer) -> Result<Self, StoreError> {
        const WHAT: &str = "delivery";
        Ok(Self {
            id: DeliveryId::from_uuid(row.id),
            channel_id: ChannelId::from_uuid(row.channel_id),
            rule_id: RuleId::from_uuid(row.rule_id),
            event_id: EventId::from_uuid(row.event_id),
            event_seq: number(row.event_seq, WHAT)?,
            event_name: row.event_name,
            resource: row.resource,
            content: from_json(&row.content, WHAT)?,
            state: word(DeliveryState::from_word, &row.state, WHAT)?,
            tries: number(row.tries, WHAT)?,
            next_attempt_at: optional_instant(row.next_attempt_at),
            created_at: Timestamp::from_unix_ms(row.created_at),
        })
    }
}

/// A delivery as it is shown.
pub(crate) fn delivery_view(record: &DeliveryRecord, attempts: Vec<Attempt>) -> Delivery {
    let content = &record.content;
    Delivery {
        id: record.id,
        event_id: record.event_id,
        seq: record.event_seq,
        event: record.event_name.clone(),
        rule_id: record.rule_id,
        channel_id: record.channel_id,
        recipient: content.recipient.clone(),
        resource_name: content.resource_name.clone(),
        reason: content.reason,
        suppressed_by: content.suppressed_by,
        alert_id: content.alert_id,
        state: record.state,
        created_at: record.created_at,
        attempts,
        next_attempt_at: record.next_attempt_at,
    }
}

/// Writes an attempt down.
pub(crate) fn attempt_row(
    org_id: OrgId,
    delivery_id: DeliveryId,
    made: &Attempt,
) -> Result<attempt::Model, StoreError> {
    Ok(attempt::Model {
        org_id: org_id.uuid(),
        delivery_id: delivery_id.uuid(),
        // Later ones of this process are greater, also within a millisecond.
        id: Uuid::now_v7(),
        at: made.at.unix_ms(),
        duration_ms: stored(made.duration_ms, "attempt")?,
        outcome: made.outcome.as_str().to_owned(),
        status: made.status.map(i64::from),
        answer: made.answer.clone(),
        error: made.error.clone(),
    })
}

/// Reads an attempt.
pub(crate) fn read_attempt(row: attempt::Model) -> Result<Attempt, StoreError> {
    const WHAT: &str = "attempt";
    Ok(Attempt {
        at: Timestamp::from_unix_ms(row.at),
        duration_ms: number(row.duration_ms, WHAT)?,
        outcome: word(AttemptOutcome::from_word, &row.outcome, WHAT)?,
        status: optional_number(row.status, WHAT)?,
        answer: row.answer,
        error: row.error,
    })
}
