//! The node's end of an agent's socket: what `pulse-web`'s session does, without the socket.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::stream;
use pulse_actors::directory::Directory;
use pulse_actors::home::HomeAddr;
use pulse_actors::link::{AgentLink, AgentPush, Shared};
use pulse_actors::org::{Attach, Take};
use pulse_domain::org::Input;
use pulse_domain::presence::ConnectionId;
use pulse_protocol::agent::{AgentFrame, Hello};
use pulse_protocol::ids::{AgentId, OrgId};
use pulse_protocol::status::Cause;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::agents::{Brought, Said};
use crate::check::LIVENESS;
use crate::world::World;

pub(crate) struct AgentEdge {
    world: Arc<World>,
    agent: usize,
    socket: u64,
    said: Option<mpsc::UnboundedReceiver<Said>>,
    directory: Option<Directory>,
    agent_id: AgentId,
    org_id: OrgId,
    connection: ConnectionId,
    shared: Arc<Shared>,
    home: Option<HomeAddr>,
    hello: Option<Box<Hello>>,
    welcomed: bool,
    /// What is not acked, for the next home.
    unacked: VecDeque<AgentFrame>,
    /// Frames are kept and not forwarded until the next home has welcomed this connection.
    holds_back: bool,
    heard_at: Instant,
    ended_by: Cause,
}

impl AgentEdge {
    pub(crate) fn new(
        world: &Arc<World>,
        agent: usize,
        socket: u64,
        said: mpsc::UnboundedReceiver<Said>,
    ) -> Self {
        let plan = &world.plan.agents[agent];
        Self {
            world: Arc::clone(world),
            agent,
            socket,
            said: Some(said),
            directory: None,
            agent_id: plan.id,
            org_id: world.plan.orgs[plan.org].id,
            connection: ConnectionId(Uuid::from_u128(u128::from(socket))),
            shared: Arc::default(),
            home: None,
            hello: None,
            welcomed: false,
            unacked: VecDeque::new(),
            holds_back: false,
            heard_at: Instant::now(),
            ended_by: Cause::ConnectionClosed,
        }
    }

    pub(crate) fn at(mut self, directory: &Directory) -> Self {
        self.directory = Some(directory.clone());
        self
    }

    fn bring(&self, brought: Brought) {
        self.world.bring(self.agent, self.socket, brought);
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.note(format_args!("a{} socket {} {what}", self.agent, self.socket));
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.shared.seen(self.world.now());
    }

    fn attach(&mut self, ctx: &mut Context<Self>) {
        let Some(directory) = self.directory.clone() else { return };
        let org_id = self.org_id;
        let is_first = !self.holds_back;
        let found = async move {
            if is_first { directory.home(org_id).await } else { directory.next_home(org_id).await }
        };
        ctx.wait(found.into_actor(self).map(|home, edge, ctx| match home {
            Ok(home) => edge.say_hello(home, ctx),
            Err(_) => ctx.stop(),
        }));
    }

    fn say_hello(&mut self, home: HomeAddr, ctx: &mut Context<Self>) {
        let Some(hello) = self.hello.as_deref().cloned() else { return };
        let link = AgentLink {
            agent_id: self.agent_id,
            connection: self.connection,
            edge: ctx.address().recipient(),
            shared: Arc::clone(&self.shared),
            is_remote: false,
        };
        self.note(format_args!("says hello from {}", hello.next_seq));
        let attached = home.send(Attach { hello, link });
        self.home = Some(home);
        ctx.wait(attached.into_actor(self).map(|_, edge, _| edge.heard_at = Instant::now()));
    }

    fn input(&self, frame: AgentFrame) -> Take {
        Take(Input::Frame { agent_id: self.agent_id, connection: self.connection, frame })
    }

    fn forward(&mut self, frame: AgentFrame, ctx: &mut Context<Self>) {
        self.note(format_args!("forwards {:?}, holds back: {}", frame.seq(), self.holds_back));
        self.unacked.push_back(frame.clone());
        if self.holds_back {
            return;
        }
        let Some(home) = &self.home else { return };
        if let Err(SendError::Full(take)) = home.try_send(self.input(frame)) {
            ctx.wait(home.send(take).into_actor(self).map(|_, edge, _| edge.heard()));
        }
    }

    fn acked(&mut self, seq: u64) {
        self.unacked.retain(|frame| frame.seq().is_some_and(|kept| kept > seq));
    }

    fn send_again(&mut self, sent: u64, ctx: &mut Context<Self>) {
        let Some(home) = self.home.clone() else { return };
        let later = self.unacked.iter().filter(|frame| frame.seq().is_some_and(|seq| seq > sent));
        let later: Vec<AgentFrame> = later.cloned().collect();
        let Some(last) = later.last().and_then(AgentFrame::seq) else {
            self.holds_back = false;
            return;
        };
        let takes: Vec<Take> = later.into_iter().map(|frame| self.input(frame)).collect();
        let sending = async move {
            for take in takes {
                home.send(take).await?;
            }
            Ok::<_, MailboxError>(())
        };
        ctx.wait(sending.into_actor(self).map(move |sent, edge, ctx| {
            edge.heard();
            if sent.is_ok() {
                edge.send_again(last, ctx);
            }
        }));
    }

    fn home_lost(&mut self, ctx: &mut Context<Self>) {
        self.note(format_args!("loses its home, in flight: {}", self.unacked.len()));
        self.home = None;
        self.holds_back = true;
        if let (true, Some(hello)) = (self.welcomed, &mut self.hello) {
            hello.next_seq = self.shared.acked() + 1;
        }
        self.attach(ctx);
    }

    fn look_at_deadline(&mut self, ctx: &mut Context<Self>) {
        if self.heard_at.elapsed() >= LIVENESS.heartbeat_timeout {
            self.ended_by = Cause::HeartbeatTimeout;
            ctx.stop();
        }
    }

    /// I1, at the last place before the agent.
    fn durable(&self, seq: u64) {
        self.world.note(format_args!("a{} is told that {seq} is durable", self.agent));
        self.world.checked(|check| check.acked(self.agent_id, seq));
    }
}

impl Actor for AgentEdge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(said) = self.said.take() {
            let frames = stream::unfold(said, |mut said| async move {
                said.recv().await.map(|frame| (frame, said))
            });
            ctx.add_stream(Box::pin(frames));
        }
        ctx.run_interval(LIVENESS.heartbeat_timeout / 12, Self::look_at_deadline);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(home) = &self.home {
            let (agent_id, connection, cause) = (self.agent_id, self.connection, self.ended_by);
            home.do_send(Take(Input::HangUp { agent_id, connection, cause }));
        }
        self.bring(Brought::End);
    }
}

impl StreamHandler<Said> for AgentEdge {
    fn handle(&mut self, said: Said, ctx: &mut Context<Self>) {
        self.heard();
        match said {
            Said::Hello(hello) => {
                self.hello = Some(hello);
                self.attach(ctx);
            }
            Said::Frame(frame) => self.forward(frame, ctx),
            Said::Beat => {}
        }
    }
}

impl Handler<AgentPush> for AgentEdge {
    type Result = ();

    fn handle(&mut self, push: AgentPush, ctx: &mut Context<Self>) {
        match push {
            AgentPush::Welcome(welcome) => {
                self.durable(welcome.acked_seq);
                self.acked(welcome.acked_seq);
                if !std::mem::replace(&mut self.welcomed, true) {
                    self.bring(Brought::Welcome(welcome.acked_seq));
                }
                if self.holds_back {
                    self.bring(Brought::Ack(welcome.acked_seq));
                    self.send_again(welcome.acked_seq, ctx);
                }
            }
            AgentPush::Ack(seq) => {
                self.durable(seq);
                self.acked(seq);
                self.bring(Brought::Ack(seq));
            }
            AgentPush::Error(_, Some(_)) | AgentPush::Close(_) => ctx.stop(),
            AgentPush::HomeLost => self.home_lost(ctx),
            AgentPush::Config(_) | AgentPush::Command(_) | AgentPush::Error(_, None) => {}
            AgentPush::Drain(_) => {}
        }
    }
}
