//! An org's home on another node, as the edges of this node see it.
//!
//! - In: what an edge says to a home, and what comes over the line.
//! - Out: the line; what the home says, to the edges it is for.
//! - Supervision: the directory opens a line on first use. When it breaks this actor stops, and with its links every
//!   edge hears that the home is gone and asks the directory again.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

use actix::prelude::*;
use bytes::Bytes;
use pulse_domain::org::Input;
use pulse_domain::presence::ConnectionId;
use pulse_domain::request::Reply;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::CloseCode;
use pulse_protocol::dashboard::ResyncReason;
use pulse_protocol::ids::OrgId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::NodeId;
use super::line::{BEAT_EVERY, Body, Event, Numbers, SILENT_AFTER, ToEdge, ToHome, Turn};
use super::post::{Heard, Post};
use crate::directory::{AskError, Directory};
use crate::link::{
    AgentLink, AgentPush, Chunk, EncodedFrame, SharedFrame, ViewerId, ViewerLink, ViewerPush,
};
use crate::org::{Ask, Attach, Drain, News, Read, Take, Unwatch, Watch, WatchAnswer};

/// What edges and the line may have said and this actor not yet taken.
const MAILBOX: usize = 1_024;
/// Idle lines are closed after this many beats.
const IDLE_BEATS: u32 = 60;

/// Frames of all agents that may be on the way over one line; half of what the other end keeps while its home is
/// busy.
const WINDOW: u64 = 4_096;
/// Frames of an agent until its share of the window is known.
const FIRST_WINDOW: u64 = 4;

type Answer = oneshot::Sender<Result<Reply, AskError>>;

struct Watching {
    link: ViewerLink,
    answer: Option<oneshot::Sender<WatchAnswer>>,
}

/// One line to one org's home.
pub struct RemoteHome {
    org_id: OrgId,
    node: NodeId,
    line: Uuid,
    post: Post,
    directory: Directory,
    numbers: Numbers,
    heard_at: Instant,
    idle_beats: u32,
    is_watched: bool,
    agents: BTreeMap<ConnectionId, (AgentLink, Option<Timestamp>)>,
    viewers: BTreeMap<ViewerId, Watching>,
    questions: BTreeMap<u64, Answer>,
    last_question: u64,
}

impl RemoteHome {
    /// A line to the home of `org_id` on `node`; it opens when the actor starts.
    #[must_use]
    pub(crate) fn new(org_id: OrgId, node: NodeId, post: Post, directory: Directory) -> Self {
        Self {
            org_id,
            node,
            line: Uuid::now_v7(),
            post,
            directory,
            numbers: Numbers::default(),
            heard_at: Instant::now(),
            idle_beats: 0,
            is_watched: true,
            agents: BTreeMap::new(),
            viewers: BTreeMap::new(),
            questions: BTreeMap::new(),
            last_question: 0,
        }
    }

    fn say(&mut self, body: Body) {
        let number = self.numbers.say();
        self.post.send(&self.node, self.line, number, body);
    }

    fn tell(&mut self, said: ToHome) {
        self.say(Body::ToHome(said));
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.heard_at.elapsed() > SILENT_AFTER {
            return self.break_off("the home's node is silent", ctx);
        }
        if self.directory.has_moved(self.org_id, &self.node) {
            return self.break_off("the home has moved", ctx);
        }
        self.questions.retain(|_, answer| !answer.is_closed());
        let is_idle =
            self.agents.is_empty() && self.viewers.is_empty() && self.questions.is_empty();
        self.idle_beats = if is_idle { self.idle_beats + 1 } else { 0 };
        if self.idle_beats > IDLE_BEATS {
            return self.break_off("nobody needs it", ctx);
        }
        let mut heard = Vec::new();
        let share = self.share();
        for (connection, (link, told)) in &mut self.agents {
            link.shared.narrow(NonZeroU64::new(share));
            let seen = link.shared.last_seen_at();
            if seen != *told {
                *told = seen;
                heard.push(*connection);
            }
        }
        self.tell(ToHome::Beat { heard });
    }

    /// How many frames each agent may have on the way.
    fn share(&self) -> u64 {
        (WINDOW / (self.agents.len() as u64).max(1)).max(1)
    }

    fn break_off(&mut self, why: &str, ctx: &mut Context<Self>) {
        if !ctx.state().alive() {
            // Beats that were missed while the process stood still come all at once.
            return;
        }
        info!(org.id = %self.org_id, node = %self.node, why, "line to a home ended");
        self.directory.forget_remote(self.org_id, &ctx.address());
        self.post.send(&self.node, self.line, 0, Body::Broken);
        ctx.stop();
    }

    fn hear(&mut self, said: ToEdge) {
        match said {
            ToEdge::Agent { connection, push } => self.push(connection, push),
            ToEdge::Answer { question, answer } => {
                if let Some(waiting) = self.questions.remove(&question) {
                    // It may have given up.
                    drop(waiting.send(answer));
                }
            }
            ToEdge::Resume { viewer_id, durable } => {
                self.answer(viewer_id, WatchAnswer::Resume { durable });
            }
            ToEdge::Snapshot { viewer_id, seq, json } => {
                let frame = SharedFrame::new(Bytes::from(json));
                self.answer(viewer_id, WatchAnswer::Snapshot { seq, frame });
            }
            ToEdge::Events { events } => {
                let frames = events.into_iter().map(encoded).collect();
                let chunk = Chunk { frames, on_the_wire: OnceLock::new() };
                self.show(&ViewerPush::Events(Arc::new(chunk)));
            }
            ToEdge::Ephemeral { json } => {
                let frame = SharedFrame::new(Bytes::from(json));
                self.show(&ViewerPush::Ephemeral(frame));
            }
            ToEdge::ViewerLost { viewer_id, reason } => {
                if let Some(watching) = self.viewers.remove(&viewer_id) {
                    watching.link.edge.do_send(ViewerPush::Lost(viewer_id, reason));
                }
            }
            ToEdge::Beat { is_watched } => self.is_watched = is_watched,
        }
    }

    fn push(&self, connection: ConnectionId, push: AgentPush) {
        let Some((link, _)) = self.agents.get(&connection) else { return };
        match &push {
            AgentPush::Welcome(welcome) => link.shared.reset(welcome.acked_seq),
            AgentPush::Ack(seq) => link.shared.ack(*seq),
            _ => {}
        }
        link.tell(push);
    }

    fn answer(&mut self, viewer_id: ViewerId, answer: WatchAnswer) {
        if let Some(waiting) = self.viewers.get_mut(&viewer_id).and_then(|it| it.answer.take()) {
            drop(waiting.send(answer));
        }
    }

    /// Slow viewers are cut off here as they are at a home.
    fn show(&mut self, push: &ViewerPush) {
        let is_event = matches!(push, ViewerPush::Events(_));
        let is_slow = |(_, watching): &(&ViewerId, &Watching)| {
            watching.link.edge.try_send(push.clone()).is_err() && is_event
        };
        let slow: Vec<ViewerId> = self.viewers.iter().filter(is_slow).map(|(id, _)| *id).collect();
        for viewer_id in slow {
            if let Some(watching) = self.viewers.remove(&viewer_id) {
                let reason = Some(ResyncReason::SlowConsumer);
                watching.link.edge.do_send(ViewerPush::Lost(viewer_id, reason));
            }
            self.tell(ToHome::Unwatch { viewer_id });
        }
    }
}

fn encoded(event: Event) -> EncodedFrame {
    let Event { seq, id, name, json } = event;
    EncodedFrame { seq, id, name: name.into(), json: Bytes::from(json) }
}

impl Actor for RemoteHome {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.post.open(self.line, ctx.address().recipient());
        self.directory.metrics().lines.with_label_values(&["edges"]).inc();
        self.say(Body::Open(self.org_id));
        ctx.run_interval(BEAT_EVERY, Self::beat);
    }
}

impl Drop for RemoteHome {
    fn drop(&mut self) {
        self.post.close(self.line);
        self.directory.metrics().lines.with_label_values(&["edges"]).dec();
    }
}

impl Handler<Heard> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Heard { number, body }: Heard, ctx: &mut Context<Self>) {
        let said = match body {
            Body::Broken => return self.break_off("the home's node ended it", ctx),
            Body::ToEdge(said) => said,
            Body::Open(_) | Body::ToHome(_) | Body::Echo => return,
        };
        match self.numbers.hear(number) {
            Turn::Next => {
                self.heard_at = Instant::now();
                self.hear(said);
            }
            Turn::Again => debug!(number, "heard again"),
            Turn::Gap => {
                warn!(org.id = %self.org_id, node = %self.node, number, "a message of a home was lost");
                self.break_off("a message was lost", ctx);
            }
        }
    }
}

impl Handler<Attach> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Attach { hello, link }: Attach, _: &mut Context<Self>) {
        let (agent_id, connection) = (link.agent_id, link.connection);
        link.shared.narrow(NonZeroU64::new(self.share().min(FIRST_WINDOW)));
        self.agents.insert(connection, (link, None));
        self.tell(ToHome::Attach { agent_id, connection, hello });
    }
}

impl Handler<Take> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Take(input): Take, _: &mut Context<Self>) {
        match input {
            Input::Frame { connection, frame, .. } => match serde_json::to_string(&frame) {
                Ok(text) => self.tell(ToHome::Frame { connection, text }),
                Err(error) => warn!(%error, "a frame has no JSON form"),
            },
            Input::Unreadable { connection, seq, reason, .. } => {
                self.tell(ToHome::Unreadable { connection, seq, reason });
            }
            Input::Bye { connection, bye, .. } => self.tell(ToHome::Bye { connection, bye }),
            Input::HangUp { connection, cause, .. } => {
                self.agents.remove(&connection);
                self.tell(ToHome::HangUp { connection, cause });
            }
            // No edge says these.
            Input::Hello { .. }
            | Input::CommandSent(_)
            | Input::Attempted(_)
            | Input::GivenUp(_)
            | Input::Standing(_)
            | Input::Wake => {}
        }
    }
}

impl Handler<News> for RemoteHome {
    type Result = ();

    fn handle(&mut self, News { name, data }: News, _: &mut Context<Self>) {
        if self.is_watched {
            self.tell(ToHome::News { name, data });
        }
    }
}

impl Handler<Ask> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Ask { request, answer }: Ask, _: &mut Context<Self>) {
        self.last_question += 1;
        let question = self.last_question;
        self.questions.insert(question, answer);
        self.tell(ToHome::Ask { question, request: Box::new(request) });
    }
}

impl Handler<Read> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Read { query, answer }: Read, _: &mut Context<Self>) {
        self.last_question += 1;
        let question = self.last_question;
        self.questions.insert(question, answer);
        self.tell(ToHome::Read { question, query });
    }
}

impl Handler<Watch> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Watch { link, after, answer }: Watch, _: &mut Context<Self>) {
        let viewer_id = link.viewer_id;
        self.viewers.insert(viewer_id, Watching { link, answer: Some(answer) });
        self.tell(ToHome::Watch { viewer_id, after });
    }
}

impl Handler<Unwatch> for RemoteHome {
    type Result = ();

    fn handle(&mut self, Unwatch(viewer_id): Unwatch, _: &mut Context<Self>) {
        self.viewers.remove(&viewer_id);
        self.tell(ToHome::Unwatch { viewer_id });
    }
}

impl Handler<Drain> for RemoteHome {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        for (link, _) in self.agents.values() {
            if let Some(reconnect_after_ms) = drain.reconnect_after_ms {
                link.tell(AgentPush::Drain(reconnect_after_ms));
                link.tell(AgentPush::Close(CloseCode::GoingAway));
            }
        }
        self.break_off("this node is leaving", ctx);
    }
}
