//! What becomes of deliveries: attempts, those that are given up, and what people do with them.

use pulse_protocol::api::{AttemptOutcome, ChannelHealth, DeliveryState, Suppression};

use super::step::Step;
use super::{Attempted, Effect, GiveUp, GivenUp};
use crate::notification::channel::{Condition, TRIP_AFTER};
use crate::notification::delivery;
use crate::record::{ChannelRecord, DeliveryRecord, Write};
use crate::request::{DeliveryChange, Refusal, Reply};

impl Step<'_> {
    /// Takes what became of an attempt.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let Attempted { mut delivery, attempt, retry_after, is_ours, jitter } = attempted;
        let channel = self.org.channels.get(&delivery.channel_id).cloned();
        let own = channel.as_ref().map_or(&[][..], |channel| &channel.retry_schedule_s);
        delivery.tries = delivery.tries.saturating_add(1);
        let next = delivery::after_attempt(
            attempt.outcome,
            delivery.tries,
            own,
            retry_after,
            jitter,
            self.now,
        );
        delivery.state = next.state;
        delivery.next_attempt_at = next.next_attempt_at;
        self.write(Write::Attempt(delivery.id, attempt.clone()));
        self.delivery_changed(delivery, attempt.error.clone());
        if let Some(record) = channel.filter(|_| !is_ours) {
            let before = Condition::of(&record);
            let now = before.after_attempt(&attempt, retry_after, jitter, self.now);
            let reason = reason(before, now, attempt.outcome, attempt.error);
            let channel_id = record.id;
            self.channel_condition(record, now, reason.clone());
            let tried = self.org.channels.get(&channel_id).cloned();
            // Once for each time that it keeps failing.
            let is_news = now.breaker.told && !before.breaker.told;
            if let Some(channel) = tried.filter(|_| is_news) {
                self.tell_of_failing_channel(&channel, reason.as_deref());
            }
        }
    }

    /// Ends what a channel does not try any more, unless it may be tried again by now.
    pub(super) fn given_up(&mut self, given_up: Vec<GivenUp>) {
        for GivenUp { mut delivery, why } in given_up {
            let channel = self.org.channels.get(&delivery.channel_id);
            let (state, error) = match why {
                GiveUp::Superseded => {
                    (DeliveryState::Superseded, "a newer message about the same resource waited")
                }
                GiveUp::ChannelOff if channel.is_none() => {
                    (DeliveryState::Dead, "the channel was removed")
                }
                GiveUp::ChannelOff if channel.is_some_and(is_off) => {
                    (DeliveryState::Dead, "the channel is disabled")
                }
                GiveUp::Held(why) => {
                    delivery.content.suppressed_by = Some(why);
                    (DeliveryState::Suppressed, held_words(why))
                }
                GiveUp::RuleOff if !self.org.applies(delivery.rule_id) => {
                    (DeliveryState::Discarded, "its rule is disabled or was removed")
                }
                GiveUp::ChannelOff | GiveUp::RuleOff => continue,
            };
            delivery.state = state;
            delivery.next_attempt_at = None;
            self.delivery_changed(delivery, Some(error.to_owned()));
        }
    }

    pub(super) fn change_delivery(
        &mut self,
        record: DeliveryRecord,
        change: DeliveryChange,
    ) -> Result<Reply, Refusal> {
        self.open()?;
        match change {
            DeliveryChange::Replay => self.replay_delivery(record),
            DeliveryChange::Discard => self.discard_delivery(record),
        }
    }

    fn replay_delivery(&mut self, mut record: DeliveryRecord) -> Result<Reply, Refusal> {
        let conflict = |message: &str| Err(Refusal::Conflict { message: message.to_owned() });
        let Some(channel) = self.org.channels.get(&record.channel_id) else {
            return Err(Refusal::NotFound { what: "channel".into() });
        };
        if is_off(channel) {
            return conflict("its channel is disabled; enable it first");
        }
        if !self.org.applies(record.rule_id) {
            return conflict("its rule is disabled or was removed; nothing is sent for it");
        }
        if !delivery::is_ended(record.state) {
            return conflict("it has not ended; it is still being tried");
        }
        record.state = DeliveryState::Queued;
        record.content.suppressed_by = None;
        record.tries = 0;
        record.next_attempt_at = Some(self.now);
        let (delivery_id, channel_id) = (record.id, record.channel_id);
        self.delivery_changed(record, None);
        self.tell(Effect::WakeChannel(channel_id));
        Ok(Reply::Delivery(delivery_id))
    }

    fn discard_delivery(&mut self, mut record: DeliveryRecord) -> Result<Reply, Refusal> {
        if matches!(record.state, DeliveryState::Delivered | DeliveryState::Discarded) {
            let message = format!("it is {} already", record.state);
            return Err(Refusal::Conflict { message });
        }
        record.state = DeliveryState::Discarded;
        record.next_attempt_at = None;
        let delivery_id = record.id;
        self.delivery_changed(record, None);
        Ok(Reply::Delivery(delivery_id))
    }
}

/// What is said of a delivery that is held back.
const fn held_words(why: Suppression) -> &'static str {
    match why {
        Suppression::Recipient => "the recipient unsubscribed, or an earlier mail came back",
        Suppression::MailNotConfigured => "this hub has no way to send mail",
        Suppression::Cooldown
        | Suppression::Flapping
        | Suppression::Maintenance
        | Suppression::QuietHours
        | Suppression::NotTold => "the rule held it back",
    }
}

fn is_off(channel: &ChannelRecord) -> bool {
    !channel.enabled || channel.health == ChannelHealth::Disabled
}

/// Why a channel's condition changed, for people.
fn reason(
    before: Condition,
    now: Condition,
    outcome: AttemptOutcome,
    error: Option<String>,
) -> Option<String> {
    if outcome == AttemptOutcome::Gone {
        return Some("the receiver answered 410 Gone".to_owned());
    }
    if now.health == ChannelHealth::Disabled {
        return Some("every attempt of the last 5 days failed".to_owned());
    }
    let error = error.unwrap_or_default();
    if now.breaker.trips > before.breaker.trips {
        let failures = now.breaker.failures.max(TRIP_AFTER);
        return Some(format!("{failures} attempts in a row failed: {error}"));
    }
    Some(error).filter(|error| !error.is_empty())
}
