//! What a home says to the edges that hold its sockets.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use actix::prelude::*;
use bytes::Bytes;
use pulse_domain::presence::ConnectionId;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentCommand, AgentConfig, AgentError, CloseCode, Welcome};
use pulse_protocol::dashboard::ResyncReason;
use pulse_protocol::ids::{AgentId, EventId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Something for an agent's socket. All of it is durable already.
#[derive(Clone, Debug, Serialize, Deserialize, Message)]
#[rtype(result = "()")]
pub enum AgentPush {
    /// The answer to `hello`.
    Welcome(Box<Welcome>),
    /// Everything up to and including this number may be forgotten.
    Ack(u64),
    /// What the agent is to watch.
    Config(Box<AgentConfig>),
    /// Something to do.
    Command(Box<AgentCommand>),
    /// Something was wrong; with a code the socket is closed after it.
    Error(AgentError, Option<CloseCode>),
    /// This node is leaving: reconnect after this many milliseconds.
    Drain(u64),
    /// Close the socket.
    Close(CloseCode),
    /// The home is gone: attach to it again.
    HomeLost,
}

impl AgentPush {
    /// Whether the socket ends with it.
    const fn closes(&self) -> bool {
        matches!(self, Self::Close(_) | Self::Error(_, Some(_)))
    }
}

/// What a connection and its home share: how far the window is, and when the agent was last heard.
#[derive(Debug, Default)]
pub struct Shared {
    acked: AtomicU64,
    seen_ms: AtomicI64,
    is_lost: AtomicBool,
    /// Frames that may wait for their ack on the way to this home; 0 for any number.
    window: AtomicU64,
    changed: Notify,
}

impl Shared {
    /// Notes the last number that is durable.
    pub fn ack(&self, seq: u64) {
        self.acked.fetch_max(seq, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// The last number that is durable.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// Starts counting anew, from a `welcome`.
    pub fn reset(&self, acked: u64) {
        self.acked.store(acked, Ordering::Release);
        self.is_lost.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Notes that nothing more will be acked through this link: the home is gone, or it closed the socket.
    fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Bounds the frames that may wait for their ack.
    pub fn narrow(&self, window: Option<NonZeroU64>) {
        self.window.store(window.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    /// How many frames may wait for their ack on the way to this home.
    #[must_use]
    pub fn window(&self) -> Option<u64> {
        Some(self.window.load(Ordering::Relaxed)).filter(|window| *window > 0)
    }

    /// Waits until at least `seq` is durable, or nothing more will be acked.
    pub async fn acked_at_least(&self, seq: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if self.acked() >= seq || self.is_lost.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }

    /// Notes that the agent was heard.
    pub fn seen(&self, at: Timestamp) {
        self.seen_ms.store(at.unix_ms(), Ordering::Relaxed);
    }

    /// When the agent was last heard.
    #[must_use]
    pub fn last_seen_at(&self) -> Option<Timestamp> {
        match self.seen_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Timestamp::from_unix_ms(ms)),
        }
    }
}

/// A home's way to one agent's socket. Dropped with the home, it tells the edge that the home is gone.
#[derive(Debug)]
pub struct AgentLink {
    /// Whose socket.
    pub agent_id: AgentId,
    /// Which socket.
    pub connection: ConnectionId,
    /// The session actor.
    pub edge: Recipient<AgentPush>,
    /// What both sides know.
    pub shared: Arc<Shared>,
    /// Whether the socket is on another node: it stays when this one leaves.
    pub is_remote: bool,
}

impl AgentLink {
    /// Says something to the agent's socket. Never waits: what is said is bounded by what the agent sent.
    pub fn tell(&self, push: AgentPush) {
        let closes = push.closes();
        self.edge.do_send(push);
        if closes {
            // A session that waits for an ack reads no mail: it must not wait for one that will never come.
            self.shared.lose();
        }
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.shared.lose();
        self.edge.do_send(AgentPush::HomeLost);
    }
}

/// A frame that many viewers get. Shared by them, and so is its form on the socket.
#[derive(Debug)]
pub struct SharedFrame {
    /// The frame as JSON text.
    pub json: Bytes,
    /// The frame as the socket carries it, made by the first edge that needs it.
    pub on_the_wire: OnceLock<Bytes>,
}

impl SharedFrame {
    /// A frame that no edge has needed yet.
    #[must_use]
    pub fn new(json: Bytes) -> Arc<Self> {
        Arc::new(Self { json, on_the_wire: OnceLock::new() })
    }
}

/// One event, encoded for every viewer.
#[derive(Debug)]
pub struct EncodedFrame {
    /// Its number.
    pub seq: u64,
    /// Its id, by which a change is followed from frame to push.
    pub id: EventId,
    /// Its name.
    pub name: Arc<str>,
    /// The `event` frame as JSON text.
    pub json: Bytes,
}

/// Events that are pushed together. Shared by all viewers, and so is their form on the socket.
#[derive(Debug)]
pub struct Chunk {
    /// In order of their numbers, at least one.
    pub frames: Vec<EncodedFrame>,
    /// The frames as the socket carries them, made by the first edge that needs it.
    pub on_the_wire: OnceLock<Bytes>,
}

/// Something for a dashboard's socket.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum ViewerPush {
    /// The next events.
    Events(Arc<Chunk>),
    /// News without a number.
    Ephemeral(Arc<SharedFrame>),
    /// Nothing more will come of this watch: watch again, from a snapshot if there is a reason.
    Lost(ViewerId, Option<ResyncReason>),
}

/// Names one watch of an org by one viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewerId(pub uuid::Uuid);

/// A home's way to one dashboard's socket.
#[derive(Debug)]
pub struct ViewerLink {
    /// Which watch of it.
    pub viewer_id: ViewerId,
    /// The session actor.
    pub edge: Recipient<ViewerPush>,
}

impl Drop for ViewerLink {
    fn drop(&mut self) {
        self.edge.do_send(ViewerPush::Lost(self.viewer_id, None));
    }
}
