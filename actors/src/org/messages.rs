//! What an org's home can be told and asked.

use std::sync::Arc;

use actix::prelude::*;
use pulse_domain::org::{Attempted, GivenUp, Input};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{ChannelRecord, DeliveryRecord, Standing};
use pulse_domain::request::{DeliveryChange, Query, Reply, Request};
use pulse_protocol::agent::Hello;
use pulse_protocol::dashboard::EphemeralName;
use pulse_protocol::ids::{AgentId, ChannelId, RuleId};
use tokio::sync::oneshot;

use super::confirm::Position;
use crate::directory::AskError;
use crate::link::{AgentLink, SharedFrame, ViewerId, ViewerLink};

/// An agent's socket said `hello`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Attach {
    /// What it said.
    pub hello: Hello,
    /// The way to it.
    pub link: AgentLink,
}

/// Takes an input. Answered, once it is durable, through the sender's link.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Take(pub Input);

/// The way to a connection on another node is gone: whether the agent is, is not known. It has its heartbeat's timeout to
/// be heard again, there or elsewhere.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Orphaned {
    /// Whose.
    pub(crate) agent_id: AgentId,
    /// Which.
    pub(crate) connection: ConnectionId,
}

/// News without a number, for those who watch now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct News {
    /// Its name.
    pub name: EphemeralName,
    /// The payload, by name.
    pub data: serde_json::Value,
}

/// Asks for a change; answered once it is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ask {
    /// The change.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, AskError>>,
}

/// Asks a question; answered once everything the answer tells is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Read {
    /// The question.
    pub query: Query,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, AskError>>,
}

/// A channel is about to try a delivery. Answered once everything the answer tells is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MayTry {
    /// The channel.
    pub channel_id: ChannelId,
    /// The rule that called for the delivery; none if the channel is only asked for.
    pub rule_id: Option<RuleId>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Permit>,
}

/// What an attempt depends on.
#[derive(Clone, Debug)]
pub struct Permit {
    /// The channel; none if it was removed.
    pub channel: Option<ChannelRecord>,
    /// Whether the rule is still applied; true where none was asked for.
    pub rule_applies: bool,
}

/// A channel tried a delivery; `done` is sent once that is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tried {
    /// What was tried.
    pub attempted: Attempted,
    /// Sent once it is durable.
    pub done: oneshot::Sender<AfterAttempt>,
}

/// How things are after an attempt.
#[derive(Clone, Debug)]
pub struct AfterAttempt {
    /// The delivery.
    pub delivery: Option<DeliveryRecord>,
    /// The channel; none if it was removed.
    pub channel: Option<ChannelRecord>,
}

/// A channel does not try these any more; `done` is sent once that is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GiveUpAll {
    /// Which, and why.
    pub given_up: Vec<GivenUp>,
    /// Sent once it is durable.
    pub done: oneshot::Sender<()>,
}

/// A channel was asked to change a delivery, and hands over its row. Answered once the change is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Decide {
    /// The delivery as it is stored; nobody tries it.
    pub delivery: DeliveryRecord,
    /// What is to be done with it.
    pub change: DeliveryChange,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, AskError>>,
}

/// A dashboard wants every event after `after`, or a snapshot and every event after that.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// The way to it. Events may come before the answer does.
    pub link: ViewerLink,
    /// The last number it has.
    pub after: Option<u64>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<WatchAnswer>,
}

/// As [`Watch`], for one more dashboard behind a link that watches already.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct CatchUp {
    /// The last number it has.
    pub(crate) after: Option<u64>,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<WatchAnswer>,
}

/// From where the pushed events go on.
#[derive(Clone, Debug)]
pub enum WatchAnswer {
    /// Every event after `durable` is pushed; those up to it are in the store.
    Resume {
        /// The last number that is durable.
        durable: u64,
    },
    /// Every event after `seq` is pushed.
    Snapshot {
        /// The number that the snapshot is of.
        seq: u64,
        /// The `snapshot` frame.
        frame: Arc<SharedFrame>,
    },
}

/// A dashboard went away.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unwatch(pub ViewerId);

/// What the hub's operators decided about the org was read again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reload(pub Standing);

/// This node is leaving: take nothing more, tell what is durable, send the sockets away, stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// When the agents of this node's sockets are to reconnect, in milliseconds. None when only the home leaves: then
    /// their edges find the next one.
    pub reconnect_after_ms: Option<u64>,
    /// Dropped when the home has stopped.
    pub stopped: oneshot::Sender<()>,
}

/// The journal has made more durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Durable(pub(super) Arc<Position>);

/// The journal could not make something durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Failed {
    /// Why.
    pub(super) error: String,
    /// Whether the home's epoch is over.
    pub(super) is_fenced: bool,
}
