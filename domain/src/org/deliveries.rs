//! Deliveries: called for with their event, told of with every change.

use pulse_protocol::api::DeliveryState;
use pulse_protocol::event::{DeliveryChanged, EventBody};

use super::step::Step;
use crate::notification::rule::Worth;
use crate::record::{DeliveryRecord, Write};

impl Step<'_> {
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
