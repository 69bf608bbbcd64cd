//! One org's home: its mailbox serialises every change of the org.
//!
//! - In: [`Attach`] and [`Take`] from agents' sockets, [`Ask`] and [`Read`] from people, [`Watch`] and [`Unwatch`]
//!   from dashboards, [`MayTry`], [`Tried`], [`GiveUpAll`] and [`Decide`] from channels, [`Durable`] and [`Failed`] from the journal.
//! - Out: batches to the journal; once they are durable, acks and answers, and events to the viewers.
//! - Supervision: the directory starts it from the store on first use and again after a fall. It stops itself when
//!   nobody has needed it for [`IDLE_AFTER`].
//! - Lost on restart: what was decided and not durable. Nobody was told of it.
//!
//! The actor decides at once on what it holds in memory and keeps back, in order, what must not be told yet.

mod channels;
mod confirm;
mod fanout;
mod health;
mod messages;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::prelude::*;
use prometheus::IntCounter;
use pulse_domain::org::{Effect, Input, Org, Outcome};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{Batch, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::CloseCode;
use pulse_protocol::ids::{AgentId, ChannelId, CommandId};
use pulse_protocol::status::Cause;
use tokio::sync::oneshot;
use tracing::{error, info_span};

pub use fanout::encode;
use messages::{AfterAttempt, Durable, Failed, Permit};
pub use messages::{Ask, Attach, Drain, News, Read, Reload, Take, Unwatch, Watch, WatchAnswer};
pub(crate) use messages::{CatchUp, Decide, GiveUpAll, MayTry, Orphaned, Tried};

use crate::cluster::Fence;
use crate::directory::{AskError, Directory};
use crate::ids::TimeOrderedIds;
use crate::link::{AgentLink, AgentPush};
use crate::metrics::Metrics;
use crate::org::confirm::JournalConfirm;
use crate::org::fanout::Fanout;
use crate::org::health::ChannelGauges;
use crate::ports::{Clock, Home, Journal, OrgStore, StoreError, Submission};

/// A home that nobody needed for this long is stopped.
pub const IDLE_AFTER: Duration = Duration::from_secs(300);
/// How often a home looks whether it is idle.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// How often a home looks for agents that are silent although their sockets do not say so.
const SILENCE_CHECK: Duration = Duration::from_secs(5);
/// A socket ends a silent connection itself. One whose peer does not read cannot: the home does, this much later.
const SILENCE_SLACK: Duration = Duration::from_secs(5);
/// Frames of an org that may wait: enough to keep the journal's groups full while a commit runs, few enough that a
/// busy org stops the reading of its agents' sockets instead of growing.
const MAILBOX: usize = 256;

/// Where a home's work goes.
#[derive(Clone)]
pub struct Ports {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where batches become durable.
    pub journal: Arc<dyn Journal>,
    /// What is durable.
    pub store: Arc<dyn OrgStore>,
    /// Other actors.
    pub directory: Directory,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Dashboards on this node, of all orgs: the more there are, the more events share one push.
    pub viewers_here: Arc<AtomicUsize>,
}

/// What is told when a batch is durable.
struct Pending {
    ticket: u64,
    decided_at: tokio::time::Instant,
    events: Vec<JournalEvent>,
    effects: Vec<Effect>,
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

/// The mailbox of one org.
pub struct OrgActor {
    org: Org,
    fence: Option<Fence>,
    /// Of its shard; none outside a cluster.
    shard_events: Option<IntCounter>,
    ports: Ports,
    /// Known once it is started.
    started: Option<(Addr<Self>, Arc<Home>)>,
    ids: TimeOrderedIds,
    next_ticket: u64,
    pending: VecDeque<Pending>,
    /// Decided after a submission that waits for room in the journal, and to follow it.
    backlog: VecDeque<Submission>,
    waits_for_room: bool,
    agents: BTreeMap<ConnectionId, AgentLink>,
    fanout: Fanout,
    wake_up: Option<(Timestamp, SpawnHandle)>,
    draining: Option<Drain>,
    used_at: tokio::time::Instant,
    silent: BTreeSet<ConnectionId>,
    health: ChannelGauges,
}

impl OrgActor {
    /// A home for `org` as loaded; nothing runs until it is started.
    #[must_use]
    pub fn new(org: Org, fence: Option<Fence>, ports: Ports) -> Self {
        let shard_events = fence.map(|fence| {
            let shard = fence.shard.number().to_string();
            ports.metrics.shard_events.with_label_values(&[&shard])
        });
        Self {
            fence,
            shard_events,
            health: ChannelGauges::new(ports.metrics.clone(), &org),
            fanout: Fanout::new(ports.metrics.clone(), Arc::clone(&ports.viewers_here)),
            org,
            ports,
            started: None,
            ids: TimeOrderedIds,
            next_ticket: 1,
            pending: VecDeque::new(),
            backlog: VecDeque::new(),
            waits_for_room: false,
            agents: BTreeMap::new(),
            wake_up: None,
            draining: None,
            used_at: tokio::time::Instant::now(),
            silent: BTreeSet::new(),
        }
    }

    fn take(&mut self, input: Input, ctx: &mut Context<Self>) {
        if self.draining.is_some() {
            // Not taken, so not acked: the agent sends it again to the node it goes to.
            return;
        }
        let _span = trace::taking(self.org.id(), &input).entered();
        let now = self.ports.clock.now();
        let outcome = self.org.take(input, now, &mut self.ids);
        self.submit(outcome, None, ctx);
    }

    /// Hands what was decided to the journal, and keeps back what must not be told yet.
    fn submit(
        &mut self,
        outcome: Outcome,
        answer: Option<Box<dyn FnOnce() + Send>>,
        ctx: &mut Context<Self>,
    ) {
        let Outcome { batch, effects } = outcome;
        self.health.note(&batch, &self.org);
        self.arm_wake_up(ctx);
        if batch.events.is_empty() && batch.writes.is_empty() {
            return self.tell_when_durable(effects, answer, ctx);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.ports.metrics.undurable.inc();
        self.pending.push_back(Pending {
            ticket,
            decided_at: tokio::time::Instant::now(),
            events: batch.events.clone(),
            effects,
            answers: answer.into_iter().collect(),
        });
        self.hand_over(ticket, batch, ctx);
    }

    fn hand_over(&mut self, ticket: u64, batch: Batch, ctx: &mut Context<Self>) {
        trace::decided(&batch, ticket);
        let Some((_, home)) = &self.started else { return };
        let home = Arc::clone(home);
        self.queue(Submission { home, ticket, batch }, ctx);
    }

    fn queue(&mut self, submission: Submission, ctx: &mut Context<Self>) {
        if self.waits_for_room {
            // A timer that was due in the same breath passes the wait, and must not overtake.
            self.backlog.push_back(submission);
        } else if let Err(submission) = self.ports.journal.try_submit(submission) {
            self.wait_for_room(*submission, ctx);
        }
    }

    /// The journal is full: nothing more is taken until it has room, so the mailbox fills, and behind it the sockets
    /// of the org's agents are not read.
    fn wait_for_room(&mut self, submission: Submission, ctx: &mut Context<Self>) {
        self.waits_for_room = true;
        let submitted = self.ports.journal.submit(submission);
        ctx.wait(submitted.into_actor(self).map(|(), home, ctx| {
            home.waits_for_room = false;
            for next in std::mem::take(&mut home.backlog) {
                home.queue(next, ctx);
            }
        }));
    }

    /// Nothing to make durable: told with the last batch that is not durable yet, or at once.
    fn tell_when_durable(
        &mut self,
        effects: Vec<Effect>,
        answer: Option<Box<dyn FnOnce() + Send>>,
        ctx: &mut Context<Self>,
    ) {
        match self.pending.back_mut() {
            Some(last) => {
                last.effects.extend(effects);
                last.answers.extend(answer);
            }
            None => {
                let mut acks = BTreeMap::new();
                self.tell(effects, &mut acks, ctx);
                self.send_acks(&acks);
                if let Some(answer) = answer {
                    answer();
                }
            }
        }
    }

    /// Tells what the journal has made durable, in the order it was decided.
    fn release(&mut self, ticket: u64, ctx: &mut Context<Self>) {
        let mut acks = BTreeMap::new();
        while self.pending.front().is_some_and(|pending| pending.ticket <= ticket) {
            let Some(pending) = self.pending.pop_front() else { break };
            self.ports.metrics.undurable.dec();
            trace::durable(&pending.events, pending.ticket);
            self.count(&pending.events);
            self.fanout.push(&pending.events, pending.decided_at);
            self.tell(pending.effects, &mut acks, ctx);
            for answer in pending.answers {
                answer();
            }
        }
        self.send_acks(&acks);
        if let Some(delay) = self.fanout.flush_or_delay() {
            ctx.run_later(delay, |home, _| home.fanout.flush());
        }
        self.leave_if_drained(ctx);
    }

    fn count(&self, events: &[JournalEvent]) {
        if let Some(shard_events) = &self.shard_events {
            shard_events.inc_by(events.len() as u64);
        }
        for state in events.iter().filter_map(|event| event.name.strip_prefix("delivery.")) {
            self.ports.metrics.deliveries.with_label_values(&[state]).inc();
        }
    }

    /// When everything taken is told: sends the sockets away and stops, before their going is taken for news.
    fn leave_if_drained(&mut self, ctx: &mut Context<Self>) {
        if !self.pending.is_empty() {
            return;
        }
        let Some(Drain { reconnect_after_ms, .. }) = self.draining else { return };
        self.fanout.flush();
        if let Some(reconnect_after_ms) = reconnect_after_ms {
            for link in self.agents.values().filter(|link| !link.is_remote) {
                link.tell(AgentPush::Drain(reconnect_after_ms));
                link.tell(AgentPush::Close(CloseCode::GoingAway));
            }
        }
        self.ports.directory.forget_org(self.org.id(), &ctx.address());
        ctx.stop();
    }

    /// Carries out effects. Acks are collected: only the last one of a socket says something new.
    fn tell(
        &mut self,
        effects: Vec<Effect>,
        acks: &mut BTreeMap<ConnectionId, u64>,
        ctx: &mut Context<Self>,
    ) {
        let mut channels: BTreeSet<ChannelId> = BTreeSet::new();
        let mut is_mail_due = false;
        for effect in effects {
            match effect {
                Effect::Ack(connection, seq) => {
                    acks.insert(connection, seq);
                }
                Effect::Welcome(connection, welcome) => {
                    if let Some(link) = self.agents.get(&connection) {
                        link.shared.reset(welcome.acked_seq);
                    }
                    self.push(connection, AgentPush::Welcome(welcome));
                }
                Effect::Error(connection, error, code) => {
                    // An error that names a frame comes after that frame's ack.
                    self.send_acks(acks);
                    acks.clear();
                    self.push(connection, AgentPush::Error(error, code));
                }
                Effect::Close(connection, code) => {
                    // What was acked before must not be lost with the socket.
                    self.send_acks(acks);
                    acks.clear();
                    self.push(connection, AgentPush::Close(code));
                }
                Effect::Config(connection, config) => {
                    self.push(connection, AgentPush::Config(config));
                }
                Effect::Command(connection, command) => {
                    let command_id = command.command_id;
                    self.push(connection, AgentPush::Command(command));
                    self.command_sent(command_id, ctx);
                }
                Effect::WakeChannel(channel_id) => {
                    channels.insert(channel_id);
                }
                Effect::WakeMailer => is_mail_due = true,
                Effect::Lingers(agent_id) => self.show_state(agent_id),
            }
        }
        for channel_id in channels {
            self.ports.directory.wake_channel(self.org.id(), channel_id);
        }
        if is_mail_due {
            self.ports.directory.wake_mailer();
        }
    }

    fn command_sent(&self, command_id: CommandId, ctx: &mut Context<Self>) {
        ctx.notify(Take(Input::CommandSent(command_id)));
    }

    fn push(&self, connection: ConnectionId, push: AgentPush) {
        if let Some(link) = self.agents.get(&connection) {
            link.tell(push);
        }
    }

    fn send_acks(&self, acks: &BTreeMap<ConnectionId, u64>) {
        for (connection, seq) in acks {
            if let Some(link) = self.agents.get(connection) {
                link.shared.ack(*seq);
                link.tell(AgentPush::Ack(*seq));
            }
        }
    }

    /// Shows how an agent is to those who watch, where that is no event.
    fn show_state(&mut self, agent_id: AgentId) {
        self.fanout.outdate_snapshot();
        if let Some(state) = self.org.agent_state(agent_id) {
            let data = serde_json::json!({ "agent_id": agent_id, "state": state });
            let at = self.ports.clock.now();
            self.fanout.ephemeral(
                pulse_protocol::dashboard::EphemeralName::AgentHeartbeat,
                at,
                data,
            );
        }
    }

    fn note_seen(&mut self) {
        for link in self.agents.values() {
            if let Some(at) = link.shared.last_seen_at() {
                self.org.note_seen(link.agent_id, at);
            }
        }
    }

    fn arm_wake_up(&mut self, ctx: &mut Context<Self>) {
        let wanted = self.org.next_wake_at();
        if self.wake_up.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        if let Some((_, armed)) = self.wake_up.take() {
            ctx.cancel_future(armed);
        }
        if let Some(at) = wanted {
            // The clock shows whole milliseconds, so what it calls now may be most of one ago: nothing is told early.
            let delay = at.duration_since(self.ports.clock.now()) + Duration::from_millis(1);
            let armed = ctx.run_later(delay, |home, ctx| {
                home.wake_up = None;
                home.take(Input::Wake, ctx);
            });
            self.wake_up = Some((at, armed));
        }
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        let idle = self.agents.is_empty()
            && self.fanout.is_empty()
            && self.pending.is_empty()
            && self.org.is_idle()
            && self.used_at.elapsed() >= IDLE_AFTER;
        if idle {
            self.ports.directory.forget_org(self.org.id(), &ctx.address());
            ctx.stop();
        }
    }

    /// Ends connections that were silent for two looks in a row: after one, they may only have been held up with
    /// this home.
    fn hang_up_silent(&mut self, ctx: &mut Context<Self>) {
        let heard_after = self.org.liveness().heartbeat_timeout + SILENCE_SLACK;
        let now = self.ports.clock.now();
        let is_silent = |link: &AgentLink| {
            link.shared.last_seen_at().is_some_and(|at| now.duration_since(at) > heard_after)
        };
        let silent: BTreeSet<_> = self
            .agents
            .iter()
            .filter(|(_, link)| is_silent(link))
            .map(|(connection, _)| *connection)
            .collect();
        let before = std::mem::take(&mut self.silent);
        for connection in silent.intersection(&before).copied() {
            if let Some(link) = self.agents.get(&connection) {
                link.tell(AgentPush::Close(CloseCode::HeartbeatTimeout));
                let (agent_id, cause) = (link.agent_id, Cause::HeartbeatTimeout);
                ctx.notify(Take(Input::HangUp { agent_id, connection, cause }));
            }
        }
        self.silent = silent;
    }

    fn used(&mut self) {
        self.used_at = tokio::time::Instant::now();
    }
}

impl Actor for OrgActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        let home =
            Home::new(self.org.id(), self.fence, Box::new(JournalConfirm::new(ctx.address())));
        self.started = Some((ctx.address(), home));
        self.ports.metrics.orgs.inc();
        self.arm_wake_up(ctx);
        ctx.run_interval(IDLE_CHECK, |home, ctx| home.stop_if_idle(ctx));
        ctx.run_interval(SILENCE_CHECK, Self::hang_up_silent);
    }
}

impl Drop for OrgActor {
    fn drop(&mut self) {
        if let Some((address, home)) = &self.started {
            // Before the links are dropped: who hears from them that it is gone must not find it again.
            self.ports.directory.forget_org(self.org.id(), address);
            if !self.pending.is_empty() {
                // It fell. What it decided and nobody was told of must not be written behind its successor's back.
                home.fail(&StoreError::Unavailable("the home fell".into()));
            }
            self.ports.metrics.orgs.dec();
            self.ports.metrics.undurable.sub(i64::try_from(self.pending.len()).unwrap_or(0));
            self.ports.metrics.agents.sub(i64::try_from(self.agents.len()).unwrap_or(0));
        }
    }
}

impl Handler<Attach> for OrgActor {
    type Result = ();

    fn handle(&mut self, Attach { hello, link }: Attach, ctx: &mut Context<Self>) {
        self.used();
        let (agent_id, connection) = (link.agent_id, link.connection);
        self.agents.insert(connection, link);
        self.ports.metrics.agents.inc();
        self.take(Input::Hello { agent_id, connection, hello }, ctx);
    }
}

impl Handler<Take> for OrgActor {
    type Result = ();

    fn handle(&mut self, Take(input): Take, ctx: &mut Context<Self>) {
        self.used();
        let ended = match &input {
            Input::HangUp { connection, .. } => Some(*connection),
            _ => None,
        };
        if let Some(link) = ended.and_then(|connection| self.agents.remove(&connection)) {
            self.ports.metrics.agents.dec();
            if let Some(at) = link.shared.last_seen_at() {
                self.org.note_seen(link.agent_id, at);
            }
        }
        self.take(input, ctx);
    }
}

impl Handler<Orphaned> for OrgActor {
    type Result = ();

    fn handle(&mut self, orphaned: Orphaned, ctx: &mut Context<Self>) {
        let Orphaned { agent_id, connection } = orphaned;
        let Some(link) = self.agents.get(&connection) else { return };
        let now = self.ports.clock.now();
        let due = link.shared.last_seen_at().unwrap_or(now) + self.org.liveness().heartbeat_timeout;
        let ended = Input::HangUp { agent_id, connection, cause: Cause::HeartbeatTimeout };
        ctx.notify_later(Take(ended), due.duration_since(now));
    }
}

impl Handler<News> for OrgActor {
    type Result = ();

    fn handle(&mut self, News { name, data }: News, _: &mut Context<Self>) {
        self.fanout.ephemeral(name, self.ports.clock.now(), data);
    }
}

impl Handler<Ask> for OrgActor {
    type Result = ();

    fn handle(&mut self, Ask { request, answer }: Ask, ctx: &mut Context<Self>) {
        self.used();
        let _span = info_span!("org.ask", org.id = %self.org.id()).entered();
        let Some((request, answer)) = self.pass_to_channel(request, answer) else { return };
        let now = self.ports.clock.now();
        match self.org.request(request, now, &mut self.ids) {
            Ok((reply, outcome)) => {
                let tell = Box::new(move || drop(answer.send(Ok(reply))));
                self.submit(outcome, Some(tell), ctx);
            }
            // A refusal may rest on what is not durable yet; if that is lost, asking again is right.
            Err(refusal) => drop(answer.send(Err(AskError::Refused(refusal)))),
        }
    }
}

impl Handler<Read> for OrgActor {
    type Result = ();

    fn handle(&mut self, Read { query, answer }: Read, ctx: &mut Context<Self>) {
        self.used();
        self.note_seen();
        let reply = self.org.answer(query).map_err(AskError::Refused);
        self.tell_when_durable(vec![], Some(Box::new(move || drop(answer.send(reply)))), ctx);
    }
}

impl Handler<Watch> for OrgActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Context<Self>) {
        self.used();
        let Watch { link, after, answer } = watch;
        self.fanout.add(link);
        self.catch_up(after, answer, ctx);
    }
}

impl Handler<CatchUp> for OrgActor {
    type Result = ();

    fn handle(&mut self, CatchUp { after, answer }: CatchUp, ctx: &mut Context<Self>) {
        self.used();
        self.catch_up(after, answer, ctx);
    }
}

impl OrgActor {
    /// Says from where the events go on that are pushed from now on.
    fn catch_up(
        &mut self,
        after: Option<u64>,
        answer: oneshot::Sender<WatchAnswer>,
        ctx: &mut Context<Self>,
    ) {
        self.note_seen();
        let decided = self.org.seq();
        let undecided = self.pending.iter().map(|pending| pending.events.len() as u64).sum::<u64>();
        let durable = decided - undecided;
        match after {
            Some(after) if after <= durable => {
                drop(answer.send(WatchAnswer::Resume { durable }));
            }
            _ => {
                let frame = self.fanout.snapshot(&self.org);
                let tell = move || drop(answer.send(WatchAnswer::Snapshot { seq: decided, frame }));
                self.tell_when_durable(vec![], Some(Box::new(tell)), ctx);
            }
        }
    }
}

impl Handler<Unwatch> for OrgActor {
    type Result = ();

    fn handle(&mut self, Unwatch(viewer_id): Unwatch, _: &mut Context<Self>) {
        self.used();
        self.fanout.remove(viewer_id);
    }
}

impl Handler<Reload> for OrgActor {
    type Result = ();

    fn handle(&mut self, Reload(standing): Reload, ctx: &mut Context<Self>) {
        self.take(Input::Standing(standing), ctx);
    }
}

impl Handler<Drain> for OrgActor {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        self.draining = Some(drain);
        self.leave_if_drained(ctx);
    }
}

impl Handler<Durable> for OrgActor {
    type Result = ();

    fn handle(&mut self, Durable(confirm): Durable, ctx: &mut Context<Self>) {
        let ticket = confirm.take();
        self.release(ticket, ctx);
    }
}

impl Handler<Failed> for OrgActor {
    type Result = ();

    fn handle(&mut self, Failed { error, is_fenced }: Failed, ctx: &mut Context<Self>) {
        error!(org.id = %self.org.id(), error, undurable = self.pending.len(), "a commit failed; the home starts anew from the store");
        self.ports.metrics.failed_homes.inc();
        if let (true, Some(fence)) = (is_fenced, self.fence) {
            self.ports.directory.refused(fence);
        }
        self.ports.directory.forget_org(self.org.id(), &ctx.address());
        ctx.stop();
    }
}
