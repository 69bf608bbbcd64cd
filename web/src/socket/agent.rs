//! One agent's socket: frame order, the window of unacked frames, the heartbeat deadline.
//!
//! - In: frames from the agent; [`AgentPush`] from the org's home.
//! - Out: what the agent says goes to the home, one frame after another: while the home is busy the socket is not
//!   read, and the agent feels it as a full window.
//! - Lost when it ends: nothing. What was not acked the agent sends again.
//!
//! When the home moves the socket stays: the session attaches to the next one, holds back what comes meanwhile, and
//! once welcomed sends it everything that is not acked.

mod login;
mod unacked;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::prelude::*;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext, WsResponseBuilder};
use prometheus::IntGauge;
use pulse_actors::home::HomeAddr;
use pulse_actors::link::{AgentLink, AgentPush, Shared};
use pulse_actors::org::{Attach, News, Take};
use pulse_actors::ports::AgentLogin;
use pulse_domain::org::Input;
use pulse_domain::presence::ConnectionId;
use pulse_protocol::agent::{
    AGENT_SUBPROTOCOL, AgentError, AgentErrorCode, AgentFrame, CloseCode, FRAME_BYTES_MAX,
    FrameError, Heartbeat, Hello, HubFrame, PROTOCOL_VERSION, Welcome,
};
use pulse_protocol::dashboard::EphemeralName;
use pulse_protocol::problem::ProblemCode;
use pulse_protocol::status::Cause;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::unacked::Unacked;
use super::fragments::{Fragment, Fragments};
use super::limits::FrameLimiter;
use super::{check_upgrade, close_reason};
use crate::WebState;
use crate::error::ApiError;

/// How long the first frame may take.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// `GET /ws/agent`.
///
/// # Errors
///
/// Everything that is refused before the upgrade: 429, 401, 403, 400, 503.
pub async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<WebState>,
) -> Result<HttpResponse, ApiError> {
    if !state.ready.load(Ordering::Acquire) {
        return Err(ApiError::unavailable());
    }
    let address = crate::client_address(&request, &state.settings.trusted_proxies);
    if !state.limits.admit_handshake(address) {
        let detail = "too many connections a second; reconnect later, with jitter";
        return Err(
            ApiError::new(ProblemCode::RateLimited, detail).retry_after(Duration::from_secs(1))
        );
    }
    let login = login::log_in(&request, &state).await?;
    check_upgrade(&request, AGENT_SUBPROTOCOL)?;
    let session = AgentConnection::new(login, state);
    WsResponseBuilder::new(session, &request, payload)
        .protocols(&[AGENT_SUBPROTOCOL])
        .frame_size(FRAME_BYTES_MAX)
        .start()
        .map_err(|error| {
            ApiError::new(ProblemCode::BadRequest, format!("this path is a websocket: {error}"))
        })
}

/// The session actor of one agent's socket.
struct AgentConnection {
    login: AgentLogin,
    connection: ConnectionId,
    state: web::Data<WebState>,
    shared: Arc<Shared>,
    home: Option<HomeAddr>,
    /// Kept to attach again, should the home fall.
    hello: Option<Box<Hello>>,
    welcomed: bool,
    sent_seq: u64,
    unacked: Unacked,
    /// Frames are kept and not forwarded until the next home has welcomed this connection.
    holds_back: bool,
    heartbeat_timeout: Duration,
    heard_at: Instant,
    deadline: Option<SpawnHandle>,
    limiter: Option<Box<FrameLimiter>>,
    fragments: Fragments,
    ended_by: Cause,
}

impl AgentConnection {
    fn new(login: AgentLogin, state: web::Data<WebState>) -> Self {
        Self {
            login,
            connection: ConnectionId(Uuid::now_v7()),
            shared: Arc::default(),
            home: None,
            hello: None,
            welcomed: false,
            sent_seq: 0,
            unacked: Unacked::default(),
            holds_back: false,
            heartbeat_timeout: HELLO_WITHIN,
            heard_at: Instant::now(),
            deadline: None,
            limiter: state.limits.frames().map(Box::new),
            fragments: Fragments::default(),
            ended_by: Cause::ConnectionClosed,
            state,
        }
    }

    fn close(&mut self, code: CloseCode, description: &str, ctx: &mut WebsocketContext<Self>) {
        debug!(agent.id = %self.login.agent_id, connection.id = %self.connection.0, code = code.code(), "closing");
        ctx.close(Some(close_reason(code, description)));
        ctx.stop();
    }

    fn say(&self, frame: &HubFrame, ctx: &mut WebsocketContext<Self>) {
        match serde_json::to_string(frame) {
            Ok(text) => {
                self.state.metrics.agent_frames_out.inc();
                ctx.text(text);
            }
            Err(error) => warn!(%error, "a frame has no JSON form"),
        }
    }

    fn complain(
        &self,
        code: AgentErrorCode,
        message: &str,
        fatal: bool,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let error = AgentError { code, message: message.to_owned(), fatal, seq: None };
        self.say(&HubFrame::Error(error), ctx);
    }

    /// One timer per socket, not per frame: when it is due it looks whether something was heard since.
    fn watch_deadline(&mut self, ctx: &mut WebsocketContext<Self>) {
        let due = self.heard_at + self.heartbeat_timeout;
        let armed = ctx.run_later(due.saturating_duration_since(Instant::now()), |session, ctx| {
            session.deadline = None;
            session.look_at_deadline(ctx);
        });
        if let Some(earlier) = self.deadline.replace(armed) {
            ctx.cancel_future(earlier);
        }
    }

    fn look_at_deadline(&mut self, ctx: &mut WebsocketContext<Self>) {
        if self.heard_at.elapsed() < self.heartbeat_timeout {
            return self.watch_deadline(ctx);
        }
        if self.hello.is_none() {
            return self.close(CloseCode::NoHello, "no hello in time", ctx);
        }
        self.ended_by = Cause::HeartbeatTimeout;
        self.close(CloseCode::HeartbeatTimeout, "nothing was heard for the heartbeat timeout", ctx);
    }

    fn heard(&mut self) {
        // Until `hello` only `hello` counts, so that pings cannot hold a socket open for nothing.
        if self.hello.is_some() {
            self.heard_at = Instant::now();
            self.shared.seen(self.state.clock.now());
        }
    }

    fn text(&mut self, text: &str, ctx: &mut WebsocketContext<Self>) {
        self.state.metrics.agent_frames_in.inc();
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
            self.complain(AgentErrorCode::TooManyFrames, "too many frames a second", true, ctx);
            return self.close(CloseCode::TooManyFrames, "too many frames a second", ctx);
        }
        let parsed = AgentFrame::parse(text);
        if self.hello.is_none() && !matches!(parsed, Ok(AgentFrame::Hello(_))) {
            return self.before_hello(text, &parsed, ctx);
        }
        match parsed {
            Ok(frame) => self.frame(frame, text, ctx),
            Err(FrameError::Unknown(kind)) => {
                let message = format!("this hub knows no frame `{kind}`; it was ignored");
                self.complain(AgentErrorCode::UnknownFrame, &message, false, ctx);
            }
            Err(FrameError::Rejected { seq, reason }) => {
                let (agent_id, connection) = (self.login.agent_id, self.connection);
                let input = Input::Unreadable { agent_id, connection, seq, reason };
                self.forward(input, Some((seq, text)), ctx);
            }
            Err(error @ (FrameError::Malformed(_) | FrameError::Content(_))) => {
                self.malformed(&error.to_string(), ctx);
            }
        }
    }

    /// The first frame was no good `hello`.
    fn before_hello(
        &mut self,
        text: &str,
        parsed: &Result<AgentFrame, FrameError>,
        ctx: &mut WebsocketContext<Self>,
    ) {
        match parsed {
            Err(FrameError::Malformed(reason)) => self.malformed(reason, ctx),
            Err(FrameError::Content(_)) if asks_for_another_protocol(text) => {
                self.unsupported_protocol(ctx);
            }
            Err(FrameError::Content(reason)) if is_hello(text) => self.malformed(reason, ctx),
            _ => self.close(CloseCode::NoHello, "the first frame must be hello", ctx),
        }
    }

    fn malformed(&mut self, reason: &str, ctx: &mut WebsocketContext<Self>) {
        self.complain(AgentErrorCode::MalformedFrame, reason, true, ctx);
        self.close(CloseCode::Malformed, "malformed frame", ctx);
    }

    fn unsupported_protocol(&mut self, ctx: &mut WebsocketContext<Self>) {
        let message = format!("this hub speaks protocol {PROTOCOL_VERSION}");
        self.complain(AgentErrorCode::UnsupportedProtocol, &message, true, ctx);
        self.close(CloseCode::Malformed, "unsupported protocol", ctx);
    }

    fn frame(&mut self, frame: AgentFrame, text: &str, ctx: &mut WebsocketContext<Self>) {
        let (agent_id, connection) = (self.login.agent_id, self.connection);
        let numbered = frame.seq().map(|seq| (seq, text));
        match frame {
            AgentFrame::Hello(_) if self.hello.is_some() => self.malformed("a second hello", ctx),
            AgentFrame::Hello(hello) if hello.protocol != PROTOCOL_VERSION => {
                self.unsupported_protocol(ctx);
            }
            AgentFrame::Hello(hello) => {
                self.hello = Some(Box::new(hello));
                self.heard();
                self.attach(ctx);
            }
            AgentFrame::Heartbeat(heartbeat) => self.heartbeat(&heartbeat),
            AgentFrame::ScanProgress(progress) => {
                let data = serde_json::json!({
                    "agent_id": agent_id,
                    "scan_id": progress.scan_id,
                    "done": progress.done,
                    "total": progress.total,
                });
                self.news(EphemeralName::ScanProgress, data);
            }
            AgentFrame::Bye(bye) => {
                self.forward(Input::Bye { agent_id, connection, bye }, None, ctx);
            }
            frame => self.forward(Input::Frame { agent_id, connection, frame }, numbered, ctx),
        }
    }

    fn heartbeat(&self, heartbeat: &Heartbeat) {
        let data = serde_json::json!({
            "agent_id": self.login.agent_id,
            "state": "online",
            "last_seen_at": self.state.clock.now(),
            "uptime_s": heartbeat.uptime_s,
            "spool_depth": heartbeat.spool_depth,
            "load": heartbeat.load,
        });
        self.news(EphemeralName::AgentHeartbeat, data);
    }

    /// Tells those who watch, if anybody does; a busy home does without.
    fn news(&self, name: EphemeralName, data: serde_json::Value) {
        // A line knows by itself whether anybody watches at its other end.
        if let Some(home) = &self.home
            && (home.is_remote() || self.state.directory.has_viewers())
        {
            drop(home.try_send(News { name, data }));
        }
    }

    /// Finds the home and says hello to it, again if it fell. Nothing else is read meanwhile.
    fn attach(&mut self, ctx: &mut WebsocketContext<Self>) {
        let (directory, org_id) = (self.state.directory.clone(), self.login.org_id);
        let is_first = !self.holds_back;
        let found = async move {
            if is_first { directory.home(org_id).await } else { directory.next_home(org_id).await }
        };
        ctx.wait(found.into_actor(self).map(|home, session, ctx| match home {
            Ok(home) => session.say_hello(home, ctx),
            Err(_) => {
                session.close(CloseCode::GoingAway, "the hub cannot take this agent now", ctx);
            }
        }));
    }

    fn say_hello(&mut self, home: HomeAddr, ctx: &mut WebsocketContext<Self>) {
        let Some(hello) = self.hello.as_deref().cloned() else { return };
        let link = AgentLink {
            agent_id: self.login.agent_id,
            connection: self.connection,
            edge: ctx.address().recipient(),
            shared: Arc::clone(&self.shared),
            is_remote: false,
        };
        self.shared.narrow(None);
        // A home that is gone by then drops the link, and with it says so.
        let attached = home.send(Attach { hello, link });
        // Known from here on: should the socket end now, the home is told after it was greeted.
        self.home = Some(home);
        ctx.wait(attached.into_actor(self).map(|_, session, _| session.heard_at = Instant::now()));
    }

    /// Hands an input to the home; a numbered one is kept until it is acked. While the home is busy, or too many
    /// frames wait for their ack, the socket is not read.
    fn forward(
        &mut self,
        input: Input,
        numbered: Option<(u64, &str)>,
        ctx: &mut WebsocketContext<Self>,
    ) {
        if let Some((seq, text)) = numbered {
            self.sent_seq = self.sent_seq.max(seq);
            self.unacked.acked(self.shared.acked());
            self.unacked.keep(seq, text);
            if self.holds_back {
                return;
            }
        }
        // Not a clone: every clone of an address has a place of its own in the mailbox, and is never told it is full.
        let Some(home) = &self.home else { return };
        let busy = match home.try_send(Take(input)) {
            Ok(()) => None,
            Err(SendError::Full(take)) => Some(home.send(take)),
            // The news that the home is gone is in the mailbox: it leads to a new one, or to the end.
            Err(SendError::Closed(_)) => return,
        };
        let oldest = self.window().and_then(|window| {
            let oldest = self.sent_seq.saturating_add(1).checked_sub(window);
            oldest.filter(|oldest| self.shared.acked() < *oldest)
        });
        if busy.is_none() && oldest.is_none() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let paused = Paused::new(&self.state.metrics.agent_sockets_paused);
        // One wait for both: of several, the framework looks at the last one first.
        let room = async move {
            if let Some(taken) = busy {
                // A home that is gone takes nothing more; the news of it is in the mailbox.
                let _ = taken.await;
            }
            if let Some(oldest) = oldest {
                shared.acked_at_least(oldest).await;
            }
            drop(paused);
        };
        ctx.wait(room.into_actor(self).map(|(), session, _| session.heard()));
    }

    /// How many frames may wait for their ack: as configured, and as the line to a home on another node can bear.
    fn window(&self) -> Option<u64> {
        let configured = self.state.limits.unacked_frames();
        configured.into_iter().chain(self.shared.window()).min()
    }

    fn welcome(&mut self, welcome: Box<Welcome>, ctx: &mut WebsocketContext<Self>) {
        self.sent_seq = self.sent_seq.max(welcome.acked_seq);
        self.heartbeat_timeout = Duration::from_millis(welcome.heartbeat_timeout_ms);
        let acked = welcome.acked_seq;
        info!(org.id = %self.login.org_id, agent.id = %self.login.agent_id, connection.id = %self.connection.0, "agent welcomed");
        if std::mem::replace(&mut self.welcomed, true) {
            // A new home, of which the agent needs to know nothing but what may have changed meanwhile.
            self.say(&HubFrame::Config(welcome.config), ctx);
        } else {
            self.say(&HubFrame::Welcome(welcome), ctx);
        }
        self.watch_deadline(ctx);
        self.unacked.acked(acked);
        if self.holds_back {
            // What became durable in the last moments of the former home, which could not say so.
            if self.hello.as_ref().is_some_and(|hello| hello.next_seq <= acked) {
                self.say(&HubFrame::Ack { seq: acked }, ctx);
            }
            self.send_again(acked, ctx);
        }
    }

    /// Sends a new home every frame after `sent`: what its predecessor took and did not ack, and what came since. Held
    /// back until nothing is left, because a wait does not hold up a frame that was read in the same breath.
    fn send_again(&mut self, sent: u64, ctx: &mut WebsocketContext<Self>) {
        let (Some(home), window) = (self.home.clone(), self.window()) else { return };
        let (agent_id, connection) = (self.login.agent_id, self.connection);
        let Some(frames) = self.unacked.after(sent) else {
            return self.close(CloseCode::GoingAway, "the org moved; reconnect", ctx);
        };
        let numbered = |(seq, text)| Some((seq, unacked::input(agent_id, connection, text)?));
        let inputs: Vec<_> = frames.filter_map(numbered).collect();
        let Some((last, _)) = inputs.last() else {
            self.holds_back = false;
            return;
        };
        let (last, shared) = (*last, Arc::clone(&self.shared));
        let sending = async move {
            for (seq, input) in inputs {
                home.send(Take(input)).await?;
                if let Some(oldest) =
                    window.and_then(|window| seq.saturating_add(1).checked_sub(window))
                {
                    shared.acked_at_least(oldest).await;
                }
            }
            Ok::<_, MailboxError>(())
        };
        ctx.wait(sending.into_actor(self).map(move |sent, session, ctx| {
            session.heard();
            // One that is gone says so: the next home is sent everything again.
            if sent.is_ok() {
                session.send_again(last, ctx);
            }
        }));
    }

    fn home_lost(&mut self, ctx: &mut WebsocketContext<Self>) {
        self.home = None;
        self.holds_back = true;
        if let (true, Some(hello)) = (self.welcomed, &mut self.hello) {
            hello.next_seq = self.shared.acked() + 1;
        }
        self.attach(ctx);
    }
}

/// Counts a socket that is not read, for as long as it lives.
struct Paused(IntGauge);

impl Paused {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether a frame that could not be read is a `hello` of a protocol that this hub does not speak.
fn asks_for_another_protocol(text: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    value["type"] == "hello"
        && value["protocol"].is_number()
        && value["protocol"] != PROTOCOL_VERSION
}

fn is_hello(text: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    value["type"] == "hello"
}

impl Actor for AgentConnection {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.state.metrics.agent_connections.inc();
        self.watch_deadline(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.state.metrics.agent_connections.dec();
        if let Some(home) = &self.home {
            let (agent_id, connection, cause) =
                (self.login.agent_id, self.connection, self.ended_by);
            // One for each socket, and it must arrive.
            home.do_send(Take(Input::HangUp { agent_id, connection, cause }));
        }
        info!(org.id = %self.login.org_id, agent.id = %self.login.agent_id, connection.id = %self.connection.0, cause = %self.ended_by, "agent disconnected");
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for AgentConnection {
    fn handle(&mut self, message: Result<ws::Message, ProtocolError>, ctx: &mut Self::Context) {
        if !ctx.state().alive() {
            return;
        }
        self.heard();
        match message {
            Ok(ws::Message::Text(text)) => self.text(&text, ctx),
            Ok(ws::Message::Continuation(item)) => match self.fragments.take(item) {
                Ok(Fragment::Text(text)) => self.text(&text, ctx),
                Ok(Fragment::Part) => {}
                Err(code) => self.close(code, "fragments that make no frame", ctx),
            },
            Ok(ws::Message::Binary(_)) => self.malformed("frames are text", ctx),
            Ok(ws::Message::Ping(payload)) => ctx.pong(&payload),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Err(ProtocolError::Overflow) => {
                self.close(CloseCode::TooBig, "a frame over 1 MiB", ctx);
            }
            Err(error) => {
                debug!(%error, "the socket failed");
                self.close(CloseCode::Malformed, "a malformed websocket frame", ctx);
            }
        }
    }
}

impl Handler<AgentPush> for AgentConnection {
    type Result = ();

    fn handle(&mut self, push: AgentPush, ctx: &mut Self::Context) {
        match push {
            AgentPush::Welcome(welcome) => self.welcome(welcome, ctx),
            AgentPush::Ack(seq) => {
                self.unacked.acked(seq);
                self.say(&HubFrame::Ack { seq }, ctx);
            }
            AgentPush::Config(config) => self.say(&HubFrame::Config(*config), ctx),
            AgentPush::Command(command) => self.say(&HubFrame::Command(*command), ctx),
            AgentPush::Error(error, code) => {
                self.say(&HubFrame::Error(error), ctx);
                if let Some(code) = code {
                    self.close(code, "see the error frame", ctx);
                }
            }
            AgentPush::Drain(reconnect_after_ms) => {
                self.say(&HubFrame::Drain { reconnect_after_ms }, ctx);
            }
            AgentPush::Close(code) => self.close(code, close_text(code), ctx),
            AgentPush::HomeLost => self.home_lost(ctx),
        }
    }
}

const fn close_text(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Superseded => "a newer connection of this agent",
        CloseCode::KeyRevoked => "the agent was disabled or removed, or its key revoked",
        CloseCode::OrgSuspended => "the organisation is suspended or cancelled",
        CloseCode::GoingAway => "the hub is going away; reconnect",
        _ => "",
    }
}
