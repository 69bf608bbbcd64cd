//! The edges of another node, as an org's home on this node sees them.
//!
//! - In: what comes over the line; what the home says to those edges, through a stub for each.
//! - Out: to the home, what edges say; to the line, what the home says.
//! - Supervision: started when a line is opened. It stops when the line breaks or the home is gone; the home hears
//!   then that nothing more is known of the connections, and the other node that the line is no more.
//!
//! A connection has another id at the home than on the wire: when its edge comes back over a new line, the end of the
//! old one must not end it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pulse_domain::org::Input;
use pulse_domain::presence::ConnectionId;
use pulse_domain::request::Reply;
use pulse_protocol::agent::AgentFrame;
use pulse_protocol::ids::{AgentId, OrgId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::line::{BEAT_EVERY, Body, Event, Numbers, SILENT_AFTER, ToEdge, ToHome, Turn, text};
use super::post::{Heard, Opening, Post};
use crate::directory::{AskError, Directory, Places};
use crate::link::{AgentLink, AgentPush, Shared, ViewerId, ViewerLink, ViewerPush};
use crate::org::{
    Ask, Attach, CatchUp, News, OrgActor, Orphaned, Read, Take, Unwatch, Watch, WatchAnswer,
};
use crate::ports::Clock;

/// Messages of a line that may wait while the home is busy; beyond, the line breaks.
const MAILBOX: usize = 8_192;
/// What a home may push to one viewer and this line not yet have taken; beyond, the viewer is a slow one.
const VIEWER_MAILBOX: usize = 1_024;
/// How long a home may take to load.
const LOADED_WITHIN: Duration = Duration::from_secs(3);

struct Connected {
    at_home: ConnectionId,
    agent_id: AgentId,
    shared: Arc<Shared>,
}

/// One line's end at the home's node.
pub(crate) struct RemoteEdge {
    opening: Opening,
    post: Post,
    directory: Directory,
    clock: Arc<dyn Clock>,
    home: Option<Addr<OrgActor>>,
    numbers: Numbers,
    heard_at: Instant,
    connections: BTreeMap<ConnectionId, Connected>,
    viewers: BTreeSet<ViewerId>,
    /// The one link through which the home pushes to all of them.
    stream: Option<ViewerId>,
}

impl RemoteEdge {
    pub(crate) fn new(
        opening: Opening,
        post: Post,
        directory: Directory,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            opening,
            post,
            directory,
            clock,
            home: None,
            numbers: Numbers::default(),
            heard_at: Instant::now(),
            connections: BTreeMap::new(),
            viewers: BTreeSet::new(),
            stream: None,
        }
    }

    /// Starts it, and puts the line under its name before anything else can come over it.
    pub(crate) fn accept(self, places: &Places) {
        let (post, line) = (self.post.clone(), self.opening.line);
        let address = places.start(self.opening.org_id.uuid().as_u128(), self);
        post.open(line, address.recipient());
    }

    const fn org_id(&self) -> OrgId {
        self.opening.org_id
    }

    fn tell(&mut self, said: ToEdge) {
        let number = self.numbers.say();
        self.post.send(&self.opening.node, self.opening.line, number, Body::ToEdge(said));
    }

    fn break_off(&self, why: &str, ctx: &mut Context<Self>) {
        if !ctx.state().alive() {
            // Beats that were missed while the process stood still come all at once.
            return;
        }
        info!(org.id = %self.org_id(), node = %self.opening.node, why, "line from edges ended");
        self.post.send(&self.opening.node, self.opening.line, 0, Body::Broken);
        ctx.stop();
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.heard_at.elapsed() > SILENT_AFTER {
            return self.break_off("the edges' node is silent", ctx);
        }
        let is_watched = self.directory.has_viewers();
        self.tell(ToEdge::Beat { is_watched });
    }

    /// Hands a message to the home; while the home is busy nothing more is taken from the line.
    fn pass<M>(&self, message: M, ctx: &mut Context<Self>)
    where
        OrgActor: Handler<M>,
        M: Message<Result = ()> + Send + 'static,
    {
        let Some(home) = &self.home else { return };
        match home.try_send(message) {
            Ok(()) => {}
            Err(SendError::Full(message)) => {
                // A home that is gone says so through its links.
                ctx.wait(home.send(message).into_actor(self).map(|_, _, _| ()));
            }
            Err(SendError::Closed(_)) => self.break_off("the home is gone", ctx),
        }
    }

    fn hear(&mut self, said: ToHome, ctx: &mut Context<Self>) {
        match said {
            ToHome::Attach { agent_id, connection, hello } => {
                let link = self.connect(agent_id, connection, ctx);
                self.pass(Attach { hello, link }, ctx);
            }
            ToHome::Frame { connection, text } => self.frame(connection, &text, ctx),
            ToHome::Unreadable { connection, seq, reason } => {
                self.input(connection, ctx, |agent_id, connection| Input::Unreadable {
                    agent_id,
                    connection,
                    seq,
                    reason,
                });
            }
            ToHome::Bye { connection, bye } => {
                self.input(connection, ctx, |agent_id, connection| Input::Bye {
                    agent_id,
                    connection,
                    bye,
                });
            }
            ToHome::HangUp { connection, cause } => {
                if let Some(Connected { at_home, agent_id, .. }) =
                    self.connections.remove(&connection)
                {
                    let ended = Input::HangUp { agent_id, connection: at_home, cause };
                    self.pass(Take(ended), ctx);
                }
            }
            ToHome::News { name, data } => self.pass(News { name, data }, ctx),
            ToHome::Ask { question, request } => {
                let (answer, answered) = oneshot::channel();
                self.pass(Ask { request: *request, answer }, ctx);
                self.answer_later(question, answered, ctx);
            }
            ToHome::Read { question, query } => {
                let (answer, answered) = oneshot::channel();
                self.pass(Read { query, answer }, ctx);
                self.answer_later(question, answered, ctx);
            }
            ToHome::Watch { viewer_id, after } => self.watch(viewer_id, after, ctx),
            ToHome::Unwatch { viewer_id } => {
                self.viewers.remove(&viewer_id);
                if self.viewers.is_empty()
                    && let Some(stream) = self.stream.take()
                {
                    self.pass(Unwatch(stream), ctx);
                }
            }
            ToHome::Beat { heard } => {
                let now = self.clock.now();
                let heard = heard.iter().filter_map(|connection| self.connections.get(connection));
                heard.for_each(|connected| connected.shared.seen(now));
            }
        }
    }

    fn connect(
        &mut self,
        agent_id: AgentId,
        connection: ConnectionId,
        ctx: &Context<Self>,
    ) -> AgentLink {
        let stub = AgentStub { line: ctx.address(), connection }.start();
        let (at_home, shared) = (ConnectionId(Uuid::now_v7()), Arc::<Shared>::default());
        shared.seen(self.clock.now());
        let connected = Connected { at_home, agent_id, shared: Arc::clone(&shared) };
        self.connections.insert(connection, connected);
        AgentLink { agent_id, connection: at_home, edge: stub.recipient(), shared, is_remote: true }
    }

    fn frame(&mut self, connection: ConnectionId, text: &str, ctx: &mut Context<Self>) {
        match AgentFrame::parse(text) {
            Ok(frame) => self.input(connection, ctx, |agent_id, connection| Input::Frame {
                agent_id,
                connection,
                frame,
            }),
            Err(error) => {
                // The edge could read it: its program is another version.
                warn!(%error, "a frame that an edge took cannot be read here");
                self.break_off("the other node's program differs", ctx);
            }
        }
    }

    fn input(
        &self,
        connection: ConnectionId,
        ctx: &mut Context<Self>,
        make: impl FnOnce(AgentId, ConnectionId) -> Input,
    ) {
        if let Some(connected) = self.connections.get(&connection) {
            connected.shared.seen(self.clock.now());
            self.pass(Take(make(connected.agent_id, connected.at_home)), ctx);
        }
    }

    fn answer_later(
        &self,
        question: u64,
        answered: oneshot::Receiver<Result<Reply, AskError>>,
        ctx: &mut Context<Self>,
    ) {
        let answering = answered.into_actor(self).map(move |answer, edge, _| {
            let answer = answer.unwrap_or(Err(AskError::Unavailable));
            edge.tell(ToEdge::Answer { question, answer });
        });
        ctx.spawn(answering);
    }

    fn watch(&mut self, viewer_id: ViewerId, after: Option<u64>, ctx: &mut Context<Self>) {
        let (answer, answered) = oneshot::channel();
        self.viewers.insert(viewer_id);
        if self.stream.is_some() {
            self.pass(CatchUp { after, answer }, ctx);
        } else {
            let stream = ViewerId(Uuid::now_v7());
            self.stream = Some(stream);
            let stub = ViewerStub { line: ctx.address(), stream }.start();
            let link = ViewerLink { viewer_id: stream, edge: stub.recipient() };
            self.pass(Watch { link, after, answer }, ctx);
        }
        ctx.spawn(answered.into_actor(self).map(move |answer, edge, _| match answer {
            Ok(WatchAnswer::Resume { durable }) => {
                edge.tell(ToEdge::Resume { viewer_id, durable });
            }
            Ok(WatchAnswer::Snapshot { seq, frame }) => {
                edge.tell(ToEdge::Snapshot { viewer_id, seq, json: text(&frame.json) });
            }
            Err(_) => edge.tell(ToEdge::ViewerLost { viewer_id, reason: None }),
        }));
    }
}

impl Actor for RemoteEdge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.directory.metrics().lines.with_label_values(&["home"]).inc();
        let (directory, org_id) = (self.directory.clone(), self.org_id());
        // No beat is sent meanwhile: a home that takes longer to load is better asked for again than taken for dead.
        let found = async move {
            let loaded = tokio::time::timeout(LOADED_WITHIN, directory.org(org_id)).await;
            loaded.unwrap_or(Err(AskError::Unavailable))
        };
        ctx.wait(found.into_actor(self).map(|home, edge, ctx| match home {
            Ok(home) => edge.home = Some(home),
            Err(error) => edge.break_off(&error.to_string(), ctx),
        }));
        ctx.run_interval(BEAT_EVERY, Self::beat);
    }
}

impl Drop for RemoteEdge {
    fn drop(&mut self) {
        self.post.close(self.opening.line);
        self.directory.metrics().lines.with_label_values(&["home"]).dec();
        let Some(home) = &self.home else { return };
        for Connected { at_home, agent_id, .. } in self.connections.values() {
            home.do_send(Orphaned { agent_id: *agent_id, connection: *at_home });
        }
        if let Some(stream) = self.stream {
            home.do_send(Unwatch(stream));
        }
    }
}

impl Handler<Heard> for RemoteEdge {
    type Result = ();

    fn handle(&mut self, Heard { number, body }: Heard, ctx: &mut Context<Self>) {
        if matches!(body, Body::Broken) {
            return self.break_off("the edges' node ended it", ctx);
        }
        match self.numbers.hear(number) {
            Turn::Next => self.heard_at = Instant::now(),
            Turn::Again => return debug!(number, "heard again"),
            Turn::Gap => return self.break_off("a message was lost", ctx),
        }
        if let Body::ToHome(said) = body {
            self.hear(said, ctx);
        }
    }
}

/// Stands at the home for one agent's socket on another node.
struct AgentStub {
    line: Addr<RemoteEdge>,
    connection: ConnectionId,
}

#[derive(Message)]
#[rtype(result = "()")]
struct SaidToAgent(ConnectionId, AgentPush);

impl Actor for AgentStub {
    type Context = Context<Self>;
}

impl Handler<AgentPush> for AgentStub {
    type Result = ();

    fn handle(&mut self, push: AgentPush, _: &mut Context<Self>) {
        self.line.do_send(SaidToAgent(self.connection, push));
    }
}

impl Handler<SaidToAgent> for RemoteEdge {
    type Result = ();

    fn handle(&mut self, SaidToAgent(connection, push): SaidToAgent, ctx: &mut Context<Self>) {
        // A link that was dropped because its connection ended says this too; then it is not here any more.
        if !self.connections.contains_key(&connection) {
            return;
        }
        if matches!(push, AgentPush::HomeLost) {
            return self.break_off("the home is gone", ctx);
        }
        self.tell(ToEdge::Agent { connection, push });
    }
}

/// Stands at the home for all dashboards behind the line.
struct ViewerStub {
    line: Addr<RemoteEdge>,
    stream: ViewerId,
}

#[derive(Message)]
#[rtype(result = "()")]
struct SaidToViewers(ViewerId, ViewerPush);

impl Actor for ViewerStub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(VIEWER_MAILBOX);
    }
}

impl Handler<ViewerPush> for ViewerStub {
    type Result = ();

    fn handle(&mut self, push: ViewerPush, _: &mut Context<Self>) {
        self.line.do_send(SaidToViewers(self.stream, push));
    }
}

impl Handler<SaidToViewers> for RemoteEdge {
    type Result = ();

    fn handle(&mut self, SaidToViewers(stream, push): SaidToViewers, _: &mut Context<Self>) {
        if self.stream != Some(stream) {
            return;
        }
        match push {
            ViewerPush::Events(chunk) => {
                let events = chunk.frames.iter().map(|frame| Event {
                    seq: frame.seq,
                    id: frame.id,
                    name: frame.name.to_string(),
                    json: text(&frame.json),
                });
                let events = events.collect();
                self.tell(ToEdge::Events { events });
            }
            ViewerPush::Ephemeral(frame) => {
                self.tell(ToEdge::Ephemeral { json: text(&frame.json) });
            }
            ViewerPush::Lost(_, reason) => {
                self.stream = None;
                for viewer_id in std::mem::take(&mut self.viewers) {
                    self.tell(ToEdge::ViewerLost { viewer_id, reason });
                }
            }
        }
    }
}
