//! One notification channel: tries its deliveries, one after another.
//!
//! - In: [`Wake`], a nudge that something may be due.
//! - Out: attempts to the receiver; what became of each goes to the org, which numbers and stores it.
//! - Supervision: the directory starts it on the first nudge and again after a fall; it stops when nothing is due.
//! - Lost on restart: an attempt whose outcome was not stored is made again, under the same delivery id.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pulse_domain::org::Attempted;
use pulse_domain::record::ChannelRecord;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, AttemptOutcome, ChannelHealth};
use pulse_protocol::ids::{ChannelId, OrgId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, debug, info_span, warn};

use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::org::{OrgActor, Tried};
use crate::ports::{Clock, DueDelivery, Message, OrgStore, Sender, StoreError, Verdict};

/// Deliveries read at a time.
const PAGE: u32 = 64;
/// After a fault of the store or the org, look again this late.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(2);
/// A channel with nothing to do rests this long before it stops, so that a burst does not start it again and again.
const REST: Duration = Duration::from_secs(60);

/// Something may be due.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// Where a channel's work goes.
#[derive(Clone)]
pub struct Ports {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// What is durable.
    pub store: Arc<dyn OrgStore>,
    /// Carries messages to receivers.
    pub sender: Arc<dyn Sender>,
    /// Other actors.
    pub directory: Directory,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Draws from 0 to 1, to spread retries.
    pub jitter: fn() -> f64,
}

/// The mailbox of one channel.
pub struct ChannelActor {
    org_id: OrgId,
    channel_id: ChannelId,
    ports: Ports,
    busy: bool,
    nudged: bool,
    resting: bool,
    wake_up: Option<SpawnHandle>,
}

/// What is to be done after a round of attempts.
enum Then {
    /// Nothing is left to deliver, or the channel does not deliver.
    Rest,
    /// Look again after this.
    WakeAfter(Duration),
}

impl ChannelActor {
    /// A channel that has not looked yet; nothing runs until it is started.
    #[must_use]
    pub const fn new(org_id: OrgId, channel_id: ChannelId, ports: Ports) -> Self {
        Self {
            org_id,
            channel_id,
            ports,
            busy: false,
            nudged: false,
            resting: false,
            wake_up: None,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            self.nudged = true;
            return;
        }
        self.busy = true;
        if let Some(armed) = self.wake_up.take() {
            ctx.cancel_future(armed);
        }
        let round =
            Round { org_id: self.org_id, channel_id: self.channel_id, ports: self.ports.clone() };
        let span =
            info_span!("channel.round", org.id = %self.org_id, channel.id = %self.channel_id);
        ctx.spawn(
            round
                .run()
                .instrument(span)
                .into_actor(self)
                .map(|then, channel, ctx| channel.looked(&then, ctx)),
        );
    }

    fn looked(&mut self, then: &Then, ctx: &mut Context<Self>) {
        self.busy = false;
        if std::mem::take(&mut self.nudged) {
            self.resting = false;
            return self.look(ctx);
        }
        match then {
            Then::Rest if self.resting => {
                self.ports.directory.forget_channel(self.channel_id);
                ctx.stop();
            }
            Then::Rest => {
                self.resting = true;
                self.look_after(REST, ctx);
            }
            Then::WakeAfter(delay) => {
                self.resting = false;
                self.look_after(*delay, ctx);
            }
        }
    }
}

impl ChannelActor {
    fn look_after(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        self.wake_up = Some(ctx.run_later(delay, |channel, ctx| {
            channel.wake_up = None;
            channel.look(ctx);
        }));
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Wake> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

/// One look at what is due, and the attempts it leads to.
struct Round {
    org_id: OrgId,
    channel_id: ChannelId,
    ports: Ports,
}

impl Round {
    async fn run(self) -> Then {
        match self.try_all().await {
            Ok(then) => then,
            Err(error) => {
                warn!(%error, "deliveries could not be read; looking again");
                Then::WakeAfter(RETRY_AFTER_FAULT)
            }
        }
    }

    async fn try_all(&self) -> Result<Then, StoreError> {
        let (org_id, channel_id, store) = (self.org_id, self.channel_id, &self.ports.store);
        loop {
            let Some(channel) = store.channel(org_id, channel_id).await? else {
                return Ok(Then::Rest);
            };
            if !channel.enabled || channel.health == ChannelHealth::Disabled {
                return Ok(Then::Rest);
            }
            // Before what is due is read: no home before this one can still change it then, and as long as this one
            // lives nobody else does. A delivery read earlier may have ended since, and would be taken up again.
            let Ok(home) = self.ports.directory.org(org_id).await else {
                return Ok(Then::WakeAfter(RETRY_AFTER_FAULT));
            };
            let now = self.ports.clock.now();
            let due = store.due_deliveries(org_id, channel_id, now, PAGE).await?;
            if due.is_empty() {
                let next = store.next_due_at(org_id, channel_id).await?;
                return Ok(next.map_or(Then::Rest, |at| Then::WakeAfter(at.duration_since(now))));
            }
            for due in due {
                match self.attempt(&home, &channel, due).await {
                    Ok(AttemptOutcome::Gone) => break,
                    Ok(_) => {}
                    Err(NotStored) => return Ok(Then::WakeAfter(RETRY_AFTER_FAULT)),
                }
            }
        }
    }

    async fn attempt(
        &self,
        home: &Addr<OrgActor>,
        channel: &ChannelRecord,
        due: DueDelivery,
    ) -> Result<AttemptOutcome, NotStored> {
        let DueDelivery { delivery, event } = due;
        // Without a home the outcome could not be stored, and the receiver would get the message again and again.
        if self.ports.directory.org(self.org_id).await.as_ref() != Ok(home) {
            return Err(NotStored);
        }
        let at = self.ports.clock.now();
        let message = Message {
            org_id: self.org_id,
            delivery_id: delivery.id,
            event,
            content: delivery.content.clone(),
            at,
        };
        let span = info_span!("delivery.attempt", delivery.id = %delivery.id, change.id = %message.event.id, attempt = delivery.tries + 1);
        let began = Instant::now();
        let verdict = self.ports.sender.send(channel, &message).instrument(span).await;
        let (retry_after, is_ours) = (verdict.retry_after, verdict.is_ours);
        let attempt = told(verdict, at, began.elapsed());
        let outcome = attempt.outcome;
        debug!(delivery.id = %delivery.id, outcome = %outcome, duration_ms = attempt.duration_ms, "tried");
        self.ports.metrics.attempts.with_label_values(&[outcome.as_str()]).inc();
        self.ports.metrics.attempt_duration.observe(began.elapsed().as_secs_f64());
        let jitter = (self.ports.jitter)();
        let attempted = Attempted { delivery, attempt, retry_after, is_ours, jitter };
        store(home, attempted).await?;
        Ok(outcome)
    }
}

/// Hands the outcome to the org and waits until it is durable.
async fn store(home: &Addr<OrgActor>, attempted: Attempted) -> Result<(), NotStored> {
    let (done, stored) = oneshot::channel();
    home.send(Tried { attempted, done }).await.map_err(|_| NotStored)?;
    stored.await.map_err(|_| NotStored)
}

/// The org could not store the outcome: the attempt will be made again.
#[derive(Debug)]
struct NotStored;

fn told(verdict: Verdict, at: Timestamp, took: Duration) -> Attempt {
    let Verdict { outcome, status, answer, error, .. } = verdict;
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Attempt { at, duration_ms, outcome, status, answer, error }
}
