//! One notification channel: tries its deliveries until each has ended.
//!
//! - In: [`Wake`], a nudge that something may be due; [`Change`], what a person wants done with a delivery.
//! - Out: attempts to the receiver; what became of each goes to the org, which numbers and stores it.
//! - Supervision: the directory starts it on the first nudge and again after a fall; it stops when nothing is due.
//! - Lost on restart: an attempt whose outcome was not stored is made again, under the same delivery id.
//!
//! The actor is the only one that changes deliveries once they were queued. So what it has read stays true until its
//! home is another one; then it forgets what it knows, lets what is under way come to an end, and reads again.

mod attempt;
mod desk;
mod lanes;
mod room;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pulse_domain::notification::pace::{Pace, pace};
use pulse_domain::record::ChannelRecord;
use pulse_domain::request::{DeliveryChange, Reply};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{ChannelHealth, ChannelKind};
use pulse_protocol::ids::{ChannelId, DeliveryId, OrgId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span, info_span};

use crate::directory::{AskError, Directory};
use crate::metrics::Metrics;
use crate::ports::{Clock, DueDelivery, DuePage, OrgStore, Sender};
use attempt::{After, Carrier, Finished};
use desk::{Desk, GaveUp, PAGE, Seen};
use lanes::{Lane, Lanes, Touched};
pub use room::Room;

/// After a fault of the store or the org, look again this late.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(2);
/// A channel with nothing to do rests this long before it stops, so that a burst does not start it again and again.
const REST: Duration = Duration::from_secs(60);
/// More is due than was read, and nothing new can be read now: look again this late.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The next page is read when no more lanes than this can start.
const READ_AHEAD: usize = PAGE as usize / 4;
/// No more is read while as many wait in memory; those that cannot start yet are forgotten.
const WAITING_MAX: u32 = 16 * PAGE;
/// Messages that may wait; a nudge more is none, and who asks for a change more is told to ask again.
const MAILBOX: usize = 64;

/// Something may be due.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// What a person wants done with a delivery of this channel. Waits for the attempt under way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Change {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// What is to be done.
    pub change: DeliveryChange,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, AskError>>,
}

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
    /// The room that all attempts of this node share.
    pub room: Arc<Room>,
}

/// What is known of the channel since the last look.
struct Known {
    carrier: Carrier,
    kind: ChannelKind,
    health: ChannelHealth,
}

/// The mailbox of one channel.
pub struct ChannelActor {
    desk: Desk,
    lanes: Lanes,
    /// None before the first look, while the channel delivers nothing, and after a fault.
    known: Option<Known>,
    changes: VecDeque<Change>,
    /// Something is done at the desk.
    at_desk: bool,
    /// It is the look for what is due; what ended since is noted.
    touched: Option<Touched>,
    nudged: bool,
    /// When something is due that is not in the lanes.
    next_at: Option<Timestamp>,
    started_at: Option<Instant>,
    resting: bool,
    wake_up: Option<SpawnHandle>,
}

impl ChannelActor {
    /// A channel that has not looked yet; nothing runs until it is started.
    #[must_use]
    pub fn new(org_id: OrgId, channel_id: ChannelId, ports: Ports) -> Self {
        Self {
            desk: Desk { org_id, channel_id, ports },
            lanes: Lanes::default(),
            known: None,
            changes: VecDeque::new(),
            at_desk: false,
            touched: None,
            nudged: true,
            next_at: None,
            started_at: None,
            resting: false,
            wake_up: None,
        }
    }

    fn span(&self) -> Span {
        info_span!("channel", org.id = %self.desk.org_id, channel.id = %self.desk.channel_id)
    }

    fn now(&self) -> Timestamp {
        self.desk.ports.clock.now()
    }

    /// Does whatever can be done now, and arms the next wake-up.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if let Some(armed) = self.wake_up.take() {
            ctx.cancel_future(armed);
        }
        let wait = self.start_attempts(ctx);
        if !self.at_desk {
            self.start_change(ctx);
        }
        if !self.at_desk && self.wants_look() {
            self.start_look(ctx);
        }
        if !self.at_desk {
            self.wait_or_rest(wait, ctx);
        }
    }

    /// Whether there may be something to do that is not known yet.
    fn wants_look(&self) -> bool {
        // After a fault what is under way comes to an end first: until then it is not known what its outcome is.
        let is_sure = self.known.is_some() || self.lanes.busy() == 0;
        let is_due = self.next_at.is_some_and(|at| at <= self.now());
        let has_room = self.known.is_none() || self.has_room();
        is_sure && (self.nudged || (is_due && has_room))
    }

    /// Whether more may be read. Lanes that only wait for a retry that lies ahead must not keep out what is due.
    fn has_room(&self) -> bool {
        self.lanes.startable(self.now()) <= READ_AHEAD
            && self.lanes.waiting() < WAITING_MAX as usize
    }

    /// Starts what the pace allows; says how long to wait if the next one comes too early.
    fn start_attempts(&mut self, ctx: &mut Context<Self>) -> Option<Duration> {
        loop {
            let Known { carrier, kind, health } = self.known.as_ref()?;
            let Pace { in_flight, interval } = pace(*kind, *health);
            if self.lanes.busy() >= in_flight {
                return None;
            }
            let early = self.started_at.and_then(|at| interval.checked_sub(at.elapsed()));
            if let Some(wait) = early.filter(|wait| !wait.is_zero()) {
                return (self.lanes.startable(self.now()) > 0).then_some(wait);
            }
            let carrier = carrier.clone();
            let work = self.lanes.next(self.desk.ports.clock.now())?;
            if work.is_turn {
                self.started_at = Some(Instant::now());
            }
            let carried = carrier.carry(work).instrument(self.span()).into_actor(self);
            ctx.spawn(carried.map(|finished, channel, ctx| channel.finished(finished, ctx)));
        }
    }

    fn finished(&mut self, Finished { lane, result }: Finished, ctx: &mut Context<Self>) {
        if let Some(touched) = &mut self.touched {
            touched.extend(self.lanes.under_way_in(&lane));
        }
        match result {
            Ok(After::Settled(again)) => self.come_back(&lane, again),
            Ok(After::Changed) => {
                self.lanes.finish(&lane, vec![]);
                self.forget();
                self.nudged = true;
            }
            Ok(After::Tried { due, channel }) => {
                let is_unfinished = due.delivery.next_attempt_at.is_some();
                self.come_back(&lane, Some(*due).filter(|_| is_unfinished).into_iter().collect());
                self.learn(&channel);
            }
            Err(_) => {
                self.lanes.finish(&lane, vec![]);
                self.forget();
                self.next_at = Some(self.now() + RETRY_AFTER_FAULT);
            }
        }
        self.go_on(ctx);
    }

    /// A lane has nothing under way any more, and these are to be tried when they are due.
    fn come_back(&mut self, lane: &Lane, again: Vec<DueDelivery>) {
        let due = again.iter().filter_map(|due| due.delivery.next_attempt_at);
        self.next_at = self.next_at.into_iter().chain(due).min();
        self.lanes.finish(lane, again);
    }

    /// The channel is like this after an attempt.
    fn learn(&mut self, channel: &ChannelRecord) {
        let may_send =
            attempt::delivers(channel) && channel.breaker.holds_until(self.now()).is_none();
        if !may_send {
            // What waits stays in the store; a look says what becomes of it.
            self.forget();
            self.nudged = true;
        } else if let Some(known) = &mut self.known {
            known.health = channel.health;
        }
    }

    fn forget(&mut self) {
        self.known = None;
        self.lanes.forget_waiting();
    }

    fn start_change(&mut self, ctx: &mut Context<Self>) {
        let is_free = |change: &Change| !self.lanes.is_under_way(change.delivery_id);
        let Some(at) = self.changes.iter().position(is_free) else { return };
        let Some(change) = self.changes.remove(at) else { return };
        // It is read again afterwards, as it is then.
        self.lanes.forget(change.delivery_id);
        self.at_desk = true;
        let changed = self.desk.clone().change(change).instrument(self.span()).into_actor(self);
        ctx.spawn(changed.map(|(), channel, ctx| {
            channel.at_desk = false;
            channel.nudged = true;
            channel.go_on(ctx);
        }));
    }

    fn start_look(&mut self, ctx: &mut Context<Self>) {
        self.nudged = false;
        self.at_desk = true;
        self.touched = Some(Touched::new());
        // Past what is known already: that may be due, and wait for an older one of its lane.
        let known = u32::try_from(self.lanes.waiting()).unwrap_or(u32::MAX).min(WAITING_MAX);
        let looked = self.desk.clone().look(PAGE + known).instrument(self.span()).into_actor(self);
        ctx.spawn(looked.map(|seen, channel, ctx| channel.looked(seen, ctx)));
    }

    fn looked(&mut self, seen: Seen, ctx: &mut Context<Self>) {
        self.at_desk = false;
        let touched = self.touched.take().unwrap_or_default();
        match seen {
            Seen::Due { carrier, channel, page } => {
                self.take_page(carrier, &channel, page, &touched);
            }
            Seen::Paused(until) => {
                self.forget();
                self.next_at = Some(until);
            }
            Seen::Off(carrier) => {
                self.forget();
                self.next_at = None;
                if self.lanes.busy() == 0 {
                    return self.start_giving_up(carrier, ctx);
                }
                // Looked at again when what is under way has ended.
                self.nudged = true;
            }
            Seen::Fault => {
                self.forget();
                self.next_at = Some(self.now() + RETRY_AFTER_FAULT);
            }
        }
        self.go_on(ctx);
    }

    fn take_page(
        &mut self,
        carrier: Carrier,
        channel: &ChannelRecord,
        page: DuePage,
        touched: &Touched,
    ) {
        let is_same_home =
            self.known.as_ref().is_some_and(|known| known.carrier.home == carrier.home);
        if !is_same_home && self.lanes.busy() > 0 {
            // What is under way belongs to what was known before. It comes to an end first.
            self.forget();
            self.nudged = true;
            return;
        }
        if !is_same_home {
            // Another home may have ended or changed what waits since it was read.
            self.lanes.forget_waiting();
        }
        self.known = Some(Known { carrier, kind: channel.kind, health: channel.health });
        self.next_at = page.next_at;
        // Changed while this was read: their lanes are read again.
        let stale = page.deliveries.iter().any(|due| touched.contains(&due.delivery.id));
        if stale {
            self.nudged = true;
            return;
        }
        if !page.deliveries.is_empty() {
            self.resting = false;
        }
        self.add(page.deliveries);
    }

    /// Adds what was read, within bounds.
    fn add(&mut self, read: Vec<DueDelivery>) {
        let (now, before) = (self.now(), self.lanes.waiting());
        read.into_iter().for_each(|due| self.lanes.add(due));
        if self.lanes.waiting() >= WAITING_MAX as usize {
            self.lanes.forget_blocked(now);
        }
        if self.lanes.waiting() <= before {
            // Nothing new came of it, so nothing would if it were done again at once.
            self.next_at = self.next_at.map(|at| if at <= now { now + LOOK_AGAIN } else { at });
        }
    }

    fn start_giving_up(&mut self, carrier: Carrier, ctx: &mut Context<Self>) {
        self.at_desk = true;
        let given_up = self.desk.clone().give_up(carrier).instrument(self.span()).into_actor(self);
        ctx.spawn(given_up.map(|end, channel, ctx| {
            channel.at_desk = false;
            match end {
                GaveUp::All => {}
                GaveUp::SwitchedOn => channel.nudged = true,
                GaveUp::Fault => channel.next_at = Some(channel.now() + RETRY_AFTER_FAULT),
            }
            channel.go_on(ctx);
        }));
    }

    /// Waits for what is to be done next: for `pace`, or until something is due. If there is nothing, rests, and stops
    /// after that.
    fn wait_or_rest(&mut self, pace: Option<Duration>, ctx: &mut Context<Self>) {
        let is_idle = self.lanes.busy() == 0;
        let due = self.next_at.and_then(|at| match at.duration_since(self.now()) {
            // The end of what is under way comes first, or is enough to go on.
            wait if !is_idle && (wait.is_zero() || self.known.is_none()) => None,
            wait if wait.is_zero() => Some(LOOK_AGAIN),
            // The clock shows whole milliseconds: nothing is looked for early.
            wait => Some(wait + Duration::from_millis(1)),
        });
        if let Some(wait) = pace.into_iter().chain(due).min() {
            self.resting = false;
            self.wake_up = Some(ctx.run_later(wait, |channel, ctx| {
                channel.wake_up = None;
                channel.go_on(ctx);
            }));
        } else if is_idle && self.resting {
            self.desk.ports.directory.forget_channel(self.desk.channel_id);
            ctx.stop();
        } else if is_idle {
            self.resting = true;
            self.wake_up = Some(ctx.run_later(REST, |channel, ctx| {
                channel.wake_up = None;
                channel.nudged = true;
                channel.go_on(ctx);
            }));
        }
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.go_on(ctx);
    }
}

impl Handler<Wake> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.nudged = true;
        self.resting = false;
        self.go_on(ctx);
    }
}

impl Handler<Change> for ChannelActor {
    type Result = ();

    fn handle(&mut self, change: Change, ctx: &mut Context<Self>) {
        self.changes.push_back(change);
        self.resting = false;
        self.go_on(ctx);
    }
}
