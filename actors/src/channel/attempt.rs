//! One attempt: whether it may be made, the message to the receiver, and what became of it in the store.

use std::time::Duration;

use actix::Addr;
use prometheus::IntGauge;
use pulse_domain::org::{Attempted, GiveUp, GivenUp};
use pulse_domain::record::{ChannelRecord, DeliveryRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, AttemptOutcome, ChannelHealth};
use pulse_protocol::dashboard::EphemeralName;
use pulse_protocol::ids::{ChannelId, OrgId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, debug, info_span, warn};

use super::Ports;
use super::lanes::{Lane, Work};
use crate::org::{GiveUpAll, MayTry, News, OrgActor, Tried};
use crate::ports::{DueDelivery, Message, Verdict};

/// Senders bound their attempts themselves. One that does not cannot hold a lane for ever.
const SEND_WITHIN: Duration = Duration::from_secs(60);

/// What a channel is, and its home, which outcomes go to.
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) org_id: OrgId,
    pub(super) channel_id: ChannelId,
    pub(super) home: Addr<OrgActor>,
    pub(super) ports: Ports,
}

/// Work that is finished.
pub(super) struct Finished {
    /// The lane that it was done in.
    pub(super) lane: Lane,
    /// What became of it.
    pub(super) result: Result<After, NotStored>,
}

/// What is durable by now.
pub(super) enum After {
    /// Nothing was tried. These wait as before.
    Settled(Vec<DueDelivery>),
    /// The channel is not as it was: nothing was tried.
    Changed,
    /// It was tried.
    Tried {
        /// The delivery, and the event it is about.
        due: Box<DueDelivery>,
        /// The channel, as it is after that.
        channel: Box<ChannelRecord>,
    },
}

/// Whether a delivery may be tried.
enum Permission {
    /// It may, on the channel as it is.
    Granted(Box<ChannelRecord>),
    /// It is not to be tried any more.
    Denied(GiveUp),
    /// The channel is not as it was.
    Changed,
}

/// The org could not store the outcome: it is not known, and whatever was read before may be wrong.
#[derive(Debug)]
pub(super) struct NotStored;

impl Carrier {
    /// Does one piece of work.
    pub(super) async fn carry(self, work: Work) -> Finished {
        let lane = work.lane.clone();
        let result = self.settle_and_try(work).await;
        Finished { lane, result }
    }

    async fn settle_and_try(&self, work: Work) -> Result<After, NotStored> {
        let Work { superseded, next, is_turn, .. } = work;
        let _place = self.ports.room.enter(self.org_id).await;
        // Without a home the outcome could not be stored, and the receiver would get the message again and again.
        if self.ports.directory.org(self.org_id).await.as_ref() != Ok(&self.home) {
            return Err(NotStored);
        }
        match self.permission(&next.delivery).await? {
            Permission::Changed => Ok(After::Changed),
            // One that is not sent takes nobody's place.
            Permission::Denied(why) => {
                self.give_up(vec![next.delivery], why).await?;
                Ok(After::Settled(superseded))
            }
            Permission::Granted(channel) => {
                let older = superseded.into_iter().map(|due| due.delivery).collect();
                self.give_up(older, GiveUp::Superseded).await?;
                if is_turn {
                    self.send(&channel, next).await
                } else {
                    Ok(After::Settled(vec![next]))
                }
            }
        }
    }

    /// Ends deliveries without trying them; returns when that is durable.
    pub(super) async fn give_up(
        &self,
        deliveries: Vec<DeliveryRecord>,
        why: GiveUp,
    ) -> Result<(), NotStored> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let given_up = deliveries.into_iter().map(|delivery| GivenUp { delivery, why }).collect();
        let (done, stored) = oneshot::channel();
        self.home.send(GiveUpAll { given_up, done }).await.map_err(|_| NotStored)?;
        stored.await.map_err(|_| NotStored)
    }

    async fn permission(&self, delivery: &DeliveryRecord) -> Result<Permission, NotStored> {
        let (answer, answered) = oneshot::channel();
        let rule_id = Some(delivery.rule_id);
        let ask = MayTry { channel_id: self.channel_id, rule_id, answer };
        self.home.send(ask).await.map_err(|_| NotStored)?;
        let permit = answered.await.map_err(|_| NotStored)?;
        let Some(channel) = permit.channel.filter(delivers) else {
            return Ok(Permission::Changed);
        };
        if !permit.rule_applies {
            return Ok(Permission::Denied(GiveUp::RuleOff));
        }
        if channel.breaker.holds_until(self.ports.clock.now()).is_some() {
            // It was opened while this one waited for its turn.
            return Ok(Permission::Changed);
        }
        let held = self.ports.sender.held_back(&channel, self.org_id, &delivery.content);
        let held = held.await;
        match held {
            Ok(None) => Ok(Permission::Granted(Box::new(channel))),
            Ok(Some(why)) => Ok(Permission::Denied(GiveUp::Held(why))),
            Err(error) => {
                warn!(%error, "whether a recipient wants mail could not be read; looking again");
                Err(NotStored)
            }
        }
    }

    async fn send(&self, channel: &ChannelRecord, due: DueDelivery) -> Result<After, NotStored> {
        let DueDelivery { delivery, event } = due;
        let Ports { clock, metrics, sender, .. } = &self.ports;
        let at = clock.now();
        if let Some(due_at) = delivery.next_attempt_at {
            metrics.delivery_lag.observe(at.duration_since(due_at).as_secs_f64());
        }
        self.show(&delivery);
        let message = Message {
            org_id: self.org_id,
            delivery_id: delivery.id,
            event: event.clone(),
            content: delivery.content.clone(),
            at,
        };
        let span = info_span!("delivery.attempt", delivery.id = %delivery.id, change.id = %event.id, attempt = delivery.tries + 1);
        let began = Instant::now();
        let under_way = UnderWay::new(&metrics.in_flight);
        let sent = sender.send(channel, &message).instrument(span);
        let verdict = tokio::time::timeout(SEND_WITHIN, sent).await;
        drop(under_way);
        let verdict = verdict
            .unwrap_or_else(|_| Verdict::retry(None, "the attempt did not end within 60 seconds"));
        let (retry_after, is_ours) = (verdict.retry_after, verdict.is_ours);
        let attempt = told(verdict, at, began.elapsed());
        let outcome = attempt.outcome;
        debug!(delivery.id = %delivery.id, outcome = %outcome, duration_ms = attempt.duration_ms, "tried");
        metrics.attempts.with_label_values(&[channel.kind.as_str(), outcome.as_str()]).inc();
        metrics.attempt_duration.observe(began.elapsed().as_secs_f64());
        if outcome == AttemptOutcome::Accepted {
            let latency = clock.now().duration_since(event.at);
            metrics.delivery_latency.observe(latency.as_secs_f64());
        }
        let jitter = (self.ports.jitter)();
        let attempted = Attempted { delivery, attempt, retry_after, is_ours, jitter };
        let (done, stored) = oneshot::channel();
        self.home.send(Tried { attempted, done }).await.map_err(|_| NotStored)?;
        let after = stored.await.map_err(|_| NotStored)?;
        match (after.delivery, after.channel) {
            (Some(delivery), Some(channel)) => {
                let due = Box::new(DueDelivery { delivery, event });
                Ok(After::Tried { due, channel: Box::new(channel) })
            }
            _ => Ok(After::Changed),
        }
    }

    /// Shows those who watch that an attempt begins.
    fn show(&self, delivery: &DeliveryRecord) {
        if self.ports.directory.has_viewers() {
            let data = serde_json::json!({
                "delivery_id": delivery.id,
                "channel_id": delivery.channel_id,
                "attempt": delivery.tries + 1,
            });
            self.home.do_send(News { name: EphemeralName::DeliveryAttempt, data });
        }
    }
}

/// Counts an attempt for as long as it lives.
struct UnderWay(IntGauge);

impl UnderWay {
    fn new(in_flight: &IntGauge) -> Self {
        in_flight.inc();
        Self(in_flight.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether a channel is switched on.
pub(super) fn delivers(channel: &ChannelRecord) -> bool {
    channel.enabled && channel.health != ChannelHealth::Disabled
}

fn told(verdict: Verdict, at: Timestamp, took: Duration) -> Attempt {
    let Verdict { outcome, status, answer, error, .. } = verdict;
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Attempt { at, duration_ms, outcome, status, answer, error }
}
