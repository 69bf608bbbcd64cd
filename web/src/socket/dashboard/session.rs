//! The session actor of one dashboard's socket.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_http::ws::{Codec, Message as WsMessage};
use actix_web::web;
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};
use pulse_actors::home::HomeAddr;
use pulse_actors::link::{Chunk, EncodedFrame, SharedFrame, ViewerId, ViewerLink, ViewerPush};
use pulse_actors::org::{Unwatch, Watch, WatchAnswer, encode};
use pulse_protocol::agent::CloseCode;
use pulse_protocol::dashboard::{DashboardFrame, ResyncReason, ViewerFrame};
use pulse_protocol::ids::OrgId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::codec::Encoder;
use tracing::{debug, warn};
use uuid::Uuid;

use super::filter::{Filter, with_seq_through};
use crate::WebState;
use crate::principal::{Principal, Proof};
use crate::socket::close_reason;
use crate::socket::fragments::{Fragment, Fragments};
use crate::socket::outbox::Outbox;

/// Pushes that may wait in a session's mailbox; beyond them the viewer is too slow.
const MAILBOX: usize = 128;
/// A viewer that missed more than this starts anew from a snapshot.
const RESUME_MAX: u64 = 10_000;
/// Missed events that are read from the store at a time.
const PAGE: u32 = 500;
/// Pushed events that may wait while missed ones are read.
const HELD_MAX: usize = 1_000;
/// The same in bytes.
const HELD_BYTES_MAX: usize = 1024 * 1024;
/// How often the socket is pinged and the viewer's right to watch looked at.
const LOOK: Duration = Duration::from_secs(15);
/// A viewer that said nothing, not even a pong, for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(50);

/// How far a viewer has come.
enum Phase {
    /// It waits for the home, or for missed events; what is pushed meanwhile is held.
    CatchingUp(Vec<Arc<Chunk>>),
    /// It gets what is pushed.
    Live,
    /// It read too slowly: nothing is queued until it has read everything.
    Overflowed,
}

/// The session actor.
pub(super) struct DashboardSession {
    org_id: OrgId,
    viewer_id: ViewerId,
    principal: Principal,
    state: web::Data<WebState>,
    outbox: Outbox,
    home: Option<HomeAddr>,
    phase: Phase,
    /// The last number sent or skipped on purpose; none before the first frame.
    last_seq: Option<u64>,
    filter: Option<Filter>,
    heard_at: Instant,
    fragments: Fragments,
}

/// What a viewer missed, or why it cannot be told one by one.
enum CaughtUp {
    /// The next missed events; with `more`, others follow up to `through`.
    Resumed { through: u64, events: Vec<EncodedFrame>, more: bool },
    /// The whole state.
    Snapshot { seq: u64, frame: Arc<SharedFrame> },
    /// It missed too much, or what it missed is gone.
    TooFarBehind,
    /// The store does not answer.
    Failed,
}

impl DashboardSession {
    pub(super) fn new(
        org_id: OrgId,
        principal: Principal,
        after: Option<u64>,
        outbox: Outbox,
        state: web::Data<WebState>,
    ) -> Self {
        Self {
            org_id,
            viewer_id: ViewerId(Uuid::now_v7()),
            principal,
            state,
            outbox,
            home: None,
            phase: Phase::CatchingUp(vec![]),
            last_seq: after,
            filter: None,
            heard_at: Instant::now(),
            fragments: Fragments::default(),
        }
    }

    fn close(&mut self, code: CloseCode, description: &str, ctx: &mut WebsocketContext<Self>) {
        ctx.close(Some(close_reason(code, description)));
        ctx.stop();
    }

    /// Says what is said once for each watch.
    fn say(&self, frame: &DashboardFrame) {
        self.state.metrics.dashboard_frames_out.inc();
        self.outbox.push_anyway(frame_text(frame));
    }

    /// Answers the viewer. One that asks and does not read the answers is too slow.
    fn answer(&mut self, frame: &DashboardFrame, ctx: &mut WebsocketContext<Self>) {
        self.state.metrics.dashboard_frames_out.inc();
        self.push(frame_text(frame), 1, ctx);
    }

    fn push(&mut self, frames: Bytes, events: usize, ctx: &mut WebsocketContext<Self>) {
        if self.outbox.push(frames, events).is_err() && !matches!(self.phase, Phase::Overflowed) {
            self.overflow(ctx);
        }
    }

    /// Wants every event from now on; `reason` makes the viewer start anew from a snapshot.
    fn watch(&mut self, reason: Option<ResyncReason>, ctx: &mut WebsocketContext<Self>) {
        self.unwatch();
        let watch = ViewerId(Uuid::now_v7());
        self.viewer_id = watch;
        self.phase = Phase::CatchingUp(vec![]);
        if let Some(reason) = reason {
            self.last_seq = None;
            self.say(&DashboardFrame::Resync { reason });
        }
        let (directory, org_id) = (self.state.directory.clone(), self.org_id);
        let had_one = self.last_seq.is_some();
        let finding = async move {
            if had_one { directory.next_home(org_id).await } else { directory.home(org_id).await }
        };
        ctx.spawn(finding.into_actor(self).map(move |home, session, ctx| match home {
            _ if session.viewer_id != watch => {}
            Ok(home) => session.ask(home, ctx),
            Err(_) => {
                session.close(CloseCode::GoingAway, "the hub cannot answer now; reconnect", ctx);
            }
        }));
    }

    /// Asks the home where this watch goes on.
    fn ask(&mut self, home: HomeAddr, ctx: &mut WebsocketContext<Self>) {
        let (watch, after, org_id, state) =
            (self.viewer_id, self.last_seq, self.org_id, self.state.clone());
        let (answer, answered) = oneshot::channel();
        let link = ViewerLink { viewer_id: watch, edge: ctx.address().recipient() };
        let asked = home.send(Watch { link, after, answer });
        // Known from here on: should this watch end now, the home is told after it was asked.
        self.home = Some(home);
        let answering = async move {
            asked.await.ok()?;
            match answered.await.ok()? {
                WatchAnswer::Snapshot { seq, frame } => Some(CaughtUp::Snapshot { seq, frame }),
                WatchAnswer::Resume { durable } => {
                    Some(missed(&state, org_id, after.unwrap_or(0), durable).await)
                }
            }
        };
        ctx.spawn(answering.into_actor(self).map(move |caught_up, session, ctx| match caught_up {
            // What was asked for an earlier watch says nothing about this one.
            _ if session.viewer_id != watch => {}
            Some(caught_up) => session.caught_up(caught_up, true, ctx),
            // The home fell before it answered: the directory finds the next one, or says that there is none.
            None => session.watch(None, ctx),
        }));
    }

    fn caught_up(&mut self, caught_up: CaughtUp, first: bool, ctx: &mut WebsocketContext<Self>) {
        match caught_up {
            CaughtUp::Snapshot { seq, frame } => {
                self.state.metrics.dashboard_frames_out.inc();
                self.outbox.push_anyway(on_the_wire(&frame));
                self.last_seq = Some(seq);
                self.go_live(ctx);
            }
            CaughtUp::Resumed { through, events, more } => {
                let nothing = first && events.is_empty();
                if !self.frames(&events, ctx) {
                    return;
                }
                if nothing {
                    self.say(&DashboardFrame::Ready { seq: through });
                }
                if more {
                    return self.read_on(through, ctx);
                }
                self.last_seq = Some(self.last_seq.unwrap_or(0).max(through));
                self.go_live(ctx);
            }
            CaughtUp::TooFarBehind => self.watch(Some(ResyncReason::TooFarBehind), ctx),
            CaughtUp::Failed => {
                self.close(CloseCode::GoingAway, "the store cannot answer now; reconnect", ctx);
            }
        }
    }

    /// Reads the next missed events once the viewer has read those before them.
    fn read_on(&self, durable: u64, ctx: &mut WebsocketContext<Self>) {
        let (state, org_id, after) = (self.state.clone(), self.org_id, self.last_seq.unwrap_or(0));
        let (outbox, watch) = (self.outbox.clone(), self.viewer_id);
        let reading = async move {
            outbox.drained().await;
            missed(&state, org_id, after, durable).await
        };
        ctx.spawn(reading.into_actor(self).map(move |caught_up, session, ctx| {
            if session.viewer_id == watch {
                session.caught_up(caught_up, false, ctx);
            }
        }));
    }

    fn go_live(&mut self, ctx: &mut WebsocketContext<Self>) {
        let Phase::CatchingUp(held) = &mut self.phase else { return };
        let held = std::mem::take(held);
        self.phase = Phase::Live;
        for chunk in held {
            self.chunk(&chunk, ctx);
        }
    }

    /// Takes events that were pushed.
    fn chunk(&mut self, chunk: &Arc<Chunk>, ctx: &mut WebsocketContext<Self>) {
        match &mut self.phase {
            Phase::CatchingUp(held) => {
                held.push(Arc::clone(chunk));
                let frames = || held.iter().flat_map(|chunk| &chunk.frames);
                let bytes = frames().map(|frame| frame.json.len()).sum::<usize>();
                if frames().count() > HELD_MAX || bytes > HELD_BYTES_MAX {
                    self.overflow(ctx);
                }
            }
            Phase::Overflowed => {}
            Phase::Live => self.live_chunk(chunk, ctx),
        }
    }

    fn live_chunk(&mut self, chunk: &Arc<Chunk>, ctx: &mut WebsocketContext<Self>) {
        let (Some(first), Some(last)) = (chunk.frames.first(), chunk.frames.last()) else { return };
        if self.filter.is_none() && Some(first.seq) == self.last_seq.map(|seq| seq + 1) {
            let bytes = chunk
                .on_the_wire
                .get_or_init(|| text_frames(chunk.frames.iter().map(|frame| &*frame.json)));
            self.last_seq = Some(last.seq);
            self.state.metrics.dashboard_frames_out.inc_by(chunk.frames.len() as u64);
            self.push(bytes.clone(), chunk.frames.len(), ctx);
        } else {
            self.frames(&chunk.frames, ctx);
        }
        let closes =
            |frame: &EncodedFrame| matches!(&*frame.name, "org.suspended" | "org.cancelled");
        if chunk.frames.iter().any(closes) {
            self.close(CloseCode::OrgSuspended, "the organisation is suspended or cancelled", ctx);
        }
    }

    /// Takes events one by one; says whether the watch goes on after them.
    fn frames(&mut self, frames: &[EncodedFrame], ctx: &mut WebsocketContext<Self>) -> bool {
        let watch = self.viewer_id;
        for frame in frames {
            self.frame(frame, ctx);
            if self.viewer_id != watch {
                return false;
            }
        }
        true
    }

    /// Takes one event.
    fn frame(&mut self, frame: &EncodedFrame, ctx: &mut WebsocketContext<Self>) {
        if self.last_seq.is_some_and(|last| frame.seq <= last) {
            return;
        }
        if self.last_seq.is_some_and(|last| frame.seq > last + 1) {
            // Never seen from a home that works; the store knows what is missing.
            warn!(org.id = %self.org_id, seq = frame.seq, "pushed events left a gap; reading it from the store");
            return self.watch(None, ctx);
        }
        self.last_seq = Some(frame.seq);
        let json = match &self.filter {
            Some(filter) if !filter.lets_through(frame) => return,
            Some(_) => Bytes::from(with_seq_through(frame, frame.seq)),
            None => frame.json.clone(),
        };
        self.state.metrics.dashboard_frames_out.inc();
        self.push(text_frames([&*json]), 1, ctx);
    }

    /// Drops what waits and is not read; when the viewer has read what was under way, it starts anew.
    fn overflow(&mut self, ctx: &mut WebsocketContext<Self>) {
        debug!(org.id = %self.org_id, "a viewer reads too slowly; its queue is dropped");
        self.phase = Phase::Overflowed;
        self.outbox.clear();
        self.unwatch();
        // It marks the place: once it is taken, the viewer reads again.
        self.say(&DashboardFrame::Resync { reason: ResyncReason::SlowConsumer });
        let outbox = self.outbox.clone();
        let drained = async move { outbox.drained().await };
        ctx.spawn(drained.into_actor(self).map(|(), session, ctx| {
            session.last_seq = None;
            session.watch(None, ctx);
        }));
    }

    fn unwatch(&mut self) {
        let viewer_id = std::mem::replace(&mut self.viewer_id, ViewerId(Uuid::nil()));
        if let Some(home) = self.home.take() {
            // One for each watch, and it must arrive.
            home.do_send(Unwatch(viewer_id));
        }
    }

    fn text(&mut self, text: &str, ctx: &mut WebsocketContext<Self>) {
        self.state.metrics.dashboard_frames_in.inc();
        match serde_json::from_str(text) {
            Ok(ViewerFrame::Ping { nonce }) => {
                let seq_through = self.filter.as_ref().and(self.last_seq);
                self.answer(&DashboardFrame::Pong { nonce, seq_through }, ctx);
            }
            Ok(ViewerFrame::Filter { agents, events }) => self.filter = Filter::new(agents, events),
            Err(error) => self.unreadable(text, &error, ctx),
        }
    }

    /// A frame whose type this hub does not know changes nothing; anything else that cannot be read closes.
    fn unreadable(
        &mut self,
        text: &str,
        error: &serde_json::Error,
        ctx: &mut WebsocketContext<Self>,
    ) {
        let frame: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        match frame["type"].as_str() {
            None | Some("ping" | "filter") => {
                self.close(CloseCode::Malformed, "a frame that cannot be read", ctx);
            }
            Some(_) => {
                let (code, message) = ("unknown_frame".to_owned(), error.to_string());
                self.answer(&DashboardFrame::Error { code, message }, ctx);
            }
        }
    }

    /// Pings the socket, and looks whether the viewer may still watch.
    fn look(&mut self, ctx: &mut WebsocketContext<Self>) {
        if self.heard_at.elapsed() > SILENCE_MAX {
            ctx.stop();
            return;
        }
        // In line with the frames, so that a socket that always has some to carry is pinged too.
        drop(self.outbox.push(framed([WsMessage::Ping(Bytes::new())]), 0));
        let (state, principal, org_id) = (self.state.clone(), self.principal.clone(), self.org_id);
        let looking = async move { may_watch(&state, &principal, org_id).await };
        ctx.spawn(looking.into_actor(self).map(|refusal, session, ctx| match refusal {
            Some(code @ CloseCode::MembershipEnded) => {
                session.close(code, "no member any more", ctx);
            }
            Some(code) => session.close(code, "the session ended", ctx),
            None => {}
        }));
    }
}

/// What a viewer that may not watch any more is closed with; a store that does not answer changes nothing.
async fn may_watch(state: &WebState, principal: &Principal, org_id: OrgId) -> Option<CloseCode> {
    let now = state.clock.now();
    let open = match principal.proof {
        Proof::Session { session_id, .. } => state.accounts.session_is_open(session_id, now).await,
        Proof::Token { token_id, .. } => state.accounts.token_is_good(token_id, now).await,
    };
    if matches!(open, Ok(false)) {
        return Some(CloseCode::SessionEnded);
    }
    match state.accounts.role(principal.user.id, org_id).await {
        Ok(None) => Some(CloseCode::MembershipEnded),
        Ok(Some(_)) | Err(_) => None,
    }
}

/// Reads the events after `after`, of those up to `durable`.
async fn missed(state: &WebState, org_id: OrgId, after: u64, durable: u64) -> CaughtUp {
    if durable <= after {
        return CaughtUp::Resumed { through: durable, events: vec![], more: false };
    }
    if durable - after > RESUME_MAX {
        return CaughtUp::TooFarBehind;
    }
    match state.store.events_after(org_id, after, PAGE).await {
        Ok(events) if events.first().is_none_or(|event| event.seq != after + 1) => {
            CaughtUp::TooFarBehind
        }
        Ok(events) => {
            let last = events.last().map_or(after, |event| event.seq);
            let events = events.iter().filter_map(encode).collect();
            CaughtUp::Resumed { through: durable, events, more: last < durable }
        }
        Err(error) => {
            warn!(org.id = %org_id, %error, "missed events could not be read");
            CaughtUp::Failed
        }
    }
}

/// Text frames as the socket carries them, one after another.
fn text_frames<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    // What is sent was made by the serializer, so it is UTF-8.
    framed(
        texts
            .into_iter()
            .map(|text| WsMessage::Text(String::from_utf8_lossy(text).as_ref().into())),
    )
}

fn framed(messages: impl IntoIterator<Item = WsMessage>) -> Bytes {
    let mut bytes = BytesMut::new();
    let mut codec = Codec::new();
    for message in messages {
        if let Err(error) = codec.encode(message, &mut bytes) {
            warn!(%error, "a frame could not be framed");
        }
    }
    bytes.freeze()
}

fn frame_text(frame: &DashboardFrame) -> Bytes {
    match serde_json::to_vec(frame) {
        Ok(json) => text_frames([json.as_slice()]),
        Err(error) => {
            warn!(%error, "a frame has no JSON form");
            Bytes::new()
        }
    }
}

/// The frame's form on the socket, made once for all who get it.
fn on_the_wire(frame: &SharedFrame) -> Bytes {
    frame.on_the_wire.get_or_init(|| text_frames([&*frame.json])).clone()
}

impl Actor for DashboardSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.state.metrics.dashboard_connections.inc();
        self.watch(None, ctx);
        ctx.run_interval(LOOK, Self::look);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.state.metrics.dashboard_connections.dec();
        self.unwatch();
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for DashboardSession {
    fn handle(&mut self, message: Result<ws::Message, ProtocolError>, ctx: &mut Self::Context) {
        self.heard_at = Instant::now();
        match message {
            Ok(ws::Message::Text(text)) => self.text(&text, ctx),
            Ok(ws::Message::Continuation(item)) => match self.fragments.take(item) {
                Ok(Fragment::Text(text)) => self.text(&text, ctx),
                Ok(Fragment::Part) => {}
                Err(code) => self.close(code, "fragments that make no frame", ctx),
            },
            Ok(ws::Message::Binary(_)) => self.close(CloseCode::Malformed, "frames are text", ctx),
            Ok(ws::Message::Ping(payload)) => self.push(framed([WsMessage::Pong(payload)]), 1, ctx),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Err(ProtocolError::Overflow) => {
                self.close(CloseCode::TooBig, "a frame is too big", ctx);
            }
            Err(_) => self.close(CloseCode::Malformed, "a malformed websocket frame", ctx),
        }
    }
}

impl Handler<ViewerPush> for DashboardSession {
    type Result = ();

    fn handle(&mut self, push: ViewerPush, ctx: &mut Self::Context) {
        match push {
            ViewerPush::Events(chunk) => self.chunk(&chunk, ctx),
            ViewerPush::Ephemeral(frame) => {
                if matches!(self.phase, Phase::Live) {
                    // News without a number: a viewer that cannot take it does without.
                    drop(self.outbox.push(on_the_wire(&frame), 1));
                }
            }
            // Of a watch that this session ended itself.
            ViewerPush::Lost(viewer_id, _) if viewer_id != self.viewer_id => {}
            ViewerPush::Lost(_, None) => {
                self.home = None;
                self.watch(None, ctx);
            }
            ViewerPush::Lost(_, Some(_)) => {
                if !matches!(self.phase, Phase::Overflowed) {
                    self.overflow(ctx);
                }
            }
        }
    }
}
