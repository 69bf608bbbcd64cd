//! Deliveries: called for with their event, told of with every attempt.

use pulse_protocol::api::{AttemptOutcome, ChannelHealth, DeliveryState, Reason};
use pulse_protocol::event::{DeliveryChanged, EventBody};
use pulse_protocol::ids::{ChannelId, DeliveryId, RuleId};

use super::step::Step;
use super::{Attempted, Effect};
use crate::notification::rule::{self, Worth};
use crate::notification::{channel, delivery};
use crate::record::{Content, DeliveryRecord, JournalEvent, Write};
use crate::request::{Refusal, Reply};

impl Step<'_> {
    /// Writes a delivery for every rule and channel that want to be told of `event`.
    pub(super) fn call_for_deliveries(&mut self, event: &JournalEvent, worth: Worth) {
        let wanted: Vec<(RuleId, ChannelId)> = self
            .org
            .rules
            .values()
            .flat_map(|rule| {
                rule::channels(rule, &event.name, worth)
                    .iter()
                    .map(|channel_id| (rule.id, *channel_id))
            })
            .filter(|(_, id)| self.org.channels.get(id).is_some_and(|channel| channel.enabled))
            .collect();
        for (rule_id, channel_id) in wanted {
            let record = DeliveryRecord {
                id: DeliveryId::from_uuid(self.ids.next()),
                channel_id,
                rule_id,
                event_id: event.id,
                event_seq: event.seq,
                event_name: event.name.to_string(),
                resource: String::new(),
                content: Content::about(Reason::Event, ""),
                state: DeliveryState::Queued,
                tries: 0,
                next_attempt_at: Some(self.now),
                created_at: self.now,
            };
            self.delivery_changed(record, None);
            self.tell(Effect::WakeChannel(channel_id));
        }
    }

    fn delivery_changed(&mut self, record: DeliveryRecord, error: Option<String>) {
        let channel = self.org.channels.get(&record.channel_id);
        let data = DeliveryChanged {
            delivery_id: record.id,
            name: channel.map(|channel| channel.name.clone()).unwrap_or_default(),
            channel_id: record.channel_id,
            rule_id: record.rule_id,
            event_id: record.event_id,
            event_type: record.event_name.clone(),
            resource_name: record.content.resource_name.clone(),
            reason: record.content.reason,
            suppressed_by: record.content.suppressed_by,
            state: record.state,
            attempts: record.tries,
            next_attempt_at: record.next_attempt_at,
            error,
        };
        let body = match record.state {
            DeliveryState::Queued => EventBody::DeliveryQueued(data),
            DeliveryState::Retrying => EventBody::DeliveryRetrying(data),
            DeliveryState::Delivered => EventBody::DeliveryDelivered(data),
            DeliveryState::Discarded => EventBody::DeliveryDiscarded(data),
            DeliveryState::Suppressed => EventBody::DeliverySuppressed(data),
            DeliveryState::Superseded => EventBody::DeliverySuperseded(data),
            DeliveryState::Dead => EventBody::DeliveryDead(data),
        };
        self.journal(&body, Worth::Quiet);
        self.write(Write::Delivery(record));
    }

    /// Takes what became of an attempt.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let Attempted { mut delivery, attempt, retry_after, is_ours, jitter } = attempted;
        let outcome = attempt.outcome;
        delivery.tries += 1;
        let next = delivery::after_attempt(outcome, delivery.tries, retry_after, jitter, self.now);
        delivery.state = next.state;
        delivery.next_attempt_at = next.next_attempt_at;
        let channel_id = delivery.channel_id;
        self.write(Write::Attempt(delivery.id, attempt.clone()));
        self.delivery_changed(delivery, attempt.error.clone());
        let told = self.org.channels.get(&channel_id).filter(|_| !is_ours).cloned();
        if let Some(record) = told {
            let health = channel::after_attempt(record.health, outcome, attempt.status);
            let reason = match outcome {
                AttemptOutcome::Gone => Some("the receiver answered 410 Gone".to_owned()),
                _ => attempt.error,
            };
            self.channel_health(record, health, reason.clone());
            let tried = self.org.channels.get(&channel_id).cloned();
            if let Some(channel) = tried.filter(|_| outcome != AttemptOutcome::Accepted) {
                self.tell_of_failing_channel(&channel, reason.as_deref());
            }
        }
        self.tell(Effect::WakeChannel(channel_id));
    }

    pub(super) fn replay_delivery(&mut self, mut record: DeliveryRecord) -> Result<Reply, Refusal> {
        let channel = self.org.channels.get(&record.channel_id);
        let Some(channel) = channel else {
            return Err(Refusal::NotFound { what: "channel".into() });
        };
        if channel.health == ChannelHealth::Disabled {
            return Err(Refusal::Conflict {
                message: "its channel is disabled; enable it first".to_owned(),
            });
        }
        if !delivery::is_ended(record.state) {
            return Err(Refusal::Conflict {
                message: "it has not ended; it is still being tried".to_owned(),
            });
        }
        record.state = DeliveryState::Queued;
        record.tries = 0;
        record.next_attempt_at = Some(self.now);
        let (delivery_id, channel_id) = (record.id, record.channel_id);
        self.delivery_changed(record, None);
        self.tell(Effect::WakeChannel(channel_id));
        Ok(Reply::Delivery(delivery_id))
    }

    pub(super) fn discard_delivery(
        &mut self,
        mut record: DeliveryRecord,
    ) -> Result<Reply, Refusal> {
        if matches!(record.state, DeliveryState::Delivered | DeliveryState::Discarded) {
            let message = format!("it is {} already", record.state);
            return Err(Refusal::Conflict { message });
        }
        record.state = DeliveryState::Discarded;
        record.next_attempt_at = None;
        let (delivery_id, channel_id) = (record.id, record.channel_id);
        self.delivery_changed(record, None);
        self.tell(Effect::WakeChannel(channel_id));
        Ok(Reply::Delivery(delivery_id))
    }
}
