//! Deliveries: called for with their event, told of with every change.

use pulse_protocol::api::{DeliveryState, Reason};
use pulse_protocol::event::{DeliveryChanged, EventBody};
use pulse_protocol::ids::{ChannelId, DeliveryId, RuleId};

use super::Effect;
use super::step::Step;
use crate::notification::channel;
use crate::notification::rule::{self, Worth};
use crate::record::{Content, DeliveryRecord, JournalEvent, Write};

impl Step<'_> {
    /// Writes a delivery for every rule and channel that want to be told of `event`, but none for the channel that it is
    /// about: news of a channel that fails do not go through that channel.
    pub(super) fn call_for_deliveries(
        &mut self,
        event: &JournalEvent,
        body: &EventBody,
        worth: Worth,
    ) {
        let wanted: Vec<(RuleId, ChannelId)> = self
            .org
            .rules
            .values()
            .flat_map(|rule| {
                rule::channels(rule, &event.name, worth)
                    .iter()
                    .map(|channel_id| (rule.id, *channel_id))
            })
            .filter(|(_, id)| Some(*id) != channel::subject(body))
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
                resource: resource(body),
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

    /// A delivery is now like this; `error` says why it is not delivered.
    pub(super) fn delivery_changed(&mut self, record: DeliveryRecord, error: Option<String>) {
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
}

/// The id of the agent or device that an event is about; empty for what has no order among others.
fn resource(body: &EventBody) -> String {
    match body {
        EventBody::AgentOnline(data) | EventBody::AgentOffline(data) => data.agent_id.to_string(),
        EventBody::DeviceOnline(data)
        | EventBody::DeviceOffline(data)
        | EventBody::DeviceDegraded(data)
        | EventBody::DeviceUnknown(data) => data.device_id.to_string(),
        _ => String::new(),
    }
}
