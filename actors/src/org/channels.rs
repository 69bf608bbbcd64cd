//! What an org's channels ask and tell its home.

use actix::prelude::*;
use pulse_domain::notification::channel::Condition;
use pulse_domain::org::{Input, Outcome};
use pulse_domain::record::{ChannelRecord, DeliveryRecord, Write};
use pulse_domain::request::{DeliveryChange, Reply, Request};
use pulse_protocol::api::{AttemptOutcome, ChannelHealth, DeliveryState};
use pulse_protocol::ids::DeliveryId;
use tokio::sync::oneshot;
use tracing::warn;

use super::{AfterAttempt, Decide, GiveUpAll, MayTry, OrgActor, Permit, Tried};
use crate::channel::Change;
use crate::directory::AskError;

type Answer = oneshot::Sender<Result<Reply, AskError>>;

impl OrgActor {
    /// Passes what a delivery's channel decides on to that channel; gives everything else back.
    pub(super) fn pass_to_channel(
        &self,
        request: Request,
        answer: Answer,
    ) -> Option<(Request, Answer)> {
        let (delivery_id, channel_id, change) = match request {
            Request::ReplayDelivery { delivery_id, channel_id } => {
                (delivery_id, channel_id, DeliveryChange::Replay)
            }
            Request::DiscardDelivery { delivery_id, channel_id } => {
                (delivery_id, channel_id, DeliveryChange::Discard)
            }
            other => return Some((other, answer)),
        };
        let change = Change { delivery_id, change, answer };
        self.ports.directory.change_delivery(self.org.id(), channel_id, change);
        None
    }

    /// Tells the operator of a channel that has begun to fail for good.
    fn warn_of(&self, before: Option<Condition>, channel: Option<&ChannelRecord>) {
        let (Some(before), Some(channel)) = (before, channel) else { return };
        let now = Condition::of(channel);
        let (trips, was_off) = (now.breaker.trips, before.health == ChannelHealth::Disabled);
        if trips == 1 && before.breaker.trips == 0 {
            warn!(org.id = %self.org.id(), channel.id = %channel.id, channel.kind = %channel.kind, failures = now.breaker.failures, "a channel fails again and again and is left alone for a while");
        }
        if now.health == ChannelHealth::Disabled && !was_off {
            warn!(org.id = %self.org.id(), channel.id = %channel.id, channel.kind = %channel.kind, failures = now.breaker.failures, "a channel was switched off because its receiver is gone or failed for days");
        }
    }

    fn count_end(&self, state: DeliveryState, reason: &str) {
        self.ports.metrics.ended.with_label_values(&[state.as_str(), reason]).inc();
    }
}

/// The row of a delivery in what was decided.
fn row(outcome: &Outcome, id: DeliveryId) -> Option<DeliveryRecord> {
    outcome.batch.writes.iter().rev().find_map(|write| match write {
        Write::Delivery(record) if record.id == id => Some(record.clone()),
        _ => None,
    })
}

impl Handler<MayTry> for OrgActor {
    type Result = ();

    fn handle(&mut self, ask: MayTry, ctx: &mut Context<Self>) {
        self.used();
        let MayTry { channel_id, rule_id, answer } = ask;
        let channel = self.org.channel(channel_id).cloned();
        let rule_applies = rule_id.is_none_or(|rule_id| self.org.applies(rule_id));
        let permit = Permit { channel, rule_applies };
        self.tell_when_durable(vec![], Some(Box::new(move || drop(answer.send(permit)))), ctx);
    }
}

impl Handler<Tried> for OrgActor {
    type Result = ();

    fn handle(&mut self, Tried { attempted, done }: Tried, ctx: &mut Context<Self>) {
        self.used();
        let now = self.ports.clock.now();
        let (id, channel_id) = (attempted.delivery.id, attempted.delivery.channel_id);
        let outcome = attempted.attempt.outcome;
        let before = self.org.channel(channel_id).map(Condition::of);
        let decided = self.org.take(Input::Attempted(Box::new(attempted)), now, &mut self.ids);
        let delivery = row(&decided, id);
        if delivery.as_ref().is_some_and(|row| row.state == DeliveryState::Dead) {
            let reason = match outcome {
                AttemptOutcome::Gone => "gone",
                AttemptOutcome::Permanent => "refused",
                _ => "exhausted",
            };
            self.count_end(DeliveryState::Dead, reason);
        }
        let channel = self.org.channel(channel_id).cloned();
        self.warn_of(before, channel.as_ref());
        let after = AfterAttempt { delivery, channel };
        self.submit(decided, Some(Box::new(move || drop(done.send(after)))), ctx);
    }
}

impl Handler<GiveUpAll> for OrgActor {
    type Result = ();

    fn handle(&mut self, GiveUpAll { given_up, done }: GiveUpAll, ctx: &mut Context<Self>) {
        self.used();
        let now = self.ports.clock.now();
        let outcome = self.org.take(Input::GivenUp(given_up), now, &mut self.ids);
        for write in &outcome.batch.writes {
            let Write::Delivery(record) = write else { continue };
            match record.state {
                DeliveryState::Superseded => self.count_end(record.state, "newer"),
                DeliveryState::Dead => self.count_end(record.state, "channel_off"),
                // Counted with what holds it back, as all that are.
                DeliveryState::Suppressed => {}
                state => self.count_end(state, "rule_off"),
            }
        }
        let tell = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = done.send(());
        });
        self.submit(outcome, Some(tell), ctx);
    }
}

impl Handler<Decide> for OrgActor {
    type Result = ();

    fn handle(&mut self, decide: Decide, ctx: &mut Context<Self>) {
        self.used();
        let Decide { delivery, change, answer } = decide;
        let now = self.ports.clock.now();
        match self.org.change_delivery(delivery, change, now, &mut self.ids) {
            Ok((reply, outcome)) => {
                if change == DeliveryChange::Discard {
                    self.count_end(DeliveryState::Discarded, "person");
                }
                let tell = Box::new(move || drop(answer.send(Ok(reply))));
                self.submit(outcome, Some(tell), ctx);
            }
            Err(refusal) => drop(answer.send(Err(AskError::Refused(refusal)))),
        }
    }
}
