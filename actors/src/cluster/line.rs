//! What travels between an edge and a home on another node.
//!
//! A line joins one node's edges to one org's home. Each side numbers what it says from 1; a number out of turn, or
//! silence for [`SILENT_AFTER`], breaks the line. Breaking is always safe: the edges attach anew, and what was not
//! acked is sent again.

use std::time::Duration;

use bytes::Bytes;
use pulse_domain::presence::ConnectionId;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::agent::{Bye, Hello};
use pulse_protocol::dashboard::{EphemeralName, ResyncReason};
use pulse_protocol::ids::{AgentId, EventId, OrgId};
use pulse_protocol::status::Cause;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NodeId;
use crate::directory::AskError;
use crate::link::{AgentPush, ViewerId};

/// How often each side says that it is there.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A side that said nothing for this long is gone.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(4);

/// One message of a line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// Who sends.
    pub(super) from: NodeId,
    /// On which line.
    pub(super) line: Uuid,
    /// 1, 2, 3, … in each direction; 0 for [`Body::Broken`], which is no part of the order.
    pub(super) number: u64,
    /// What is said.
    pub(super) body: Body,
}

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// The edge's first word: which org it means.
    Open(OrgId),
    /// From the edge to the home.
    ToHome(ToHome),
    /// From the home to the edge.
    ToEdge(ToEdge),
    /// The line is no more.
    Broken,
    /// From a node to itself: whether the bus carries anything.
    Echo,
}

/// From the edge to the home.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToHome {
    Attach {
        agent_id: AgentId,
        connection: ConnectionId,
        hello: Hello,
    },
    /// A frame as the agent sent it.
    Frame {
        connection: ConnectionId,
        text: String,
    },
    Unreadable {
        connection: ConnectionId,
        seq: u64,
        reason: String,
    },
    Bye {
        connection: ConnectionId,
        bye: Bye,
    },
    HangUp {
        connection: ConnectionId,
        cause: Cause,
    },
    News {
        name: EphemeralName,
        data: serde_json::Value,
    },
    Ask {
        question: u64,
        request: Box<Request>,
    },
    Read {
        question: u64,
        query: Query,
    },
    Watch {
        viewer_id: ViewerId,
        after: Option<u64>,
    },
    Unwatch {
        viewer_id: ViewerId,
    },
    /// The edge is there, and these connections were heard since the last beat.
    Beat {
        heard: Vec<ConnectionId>,
    },
}

/// From the home to the edge.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToEdge {
    Agent {
        connection: ConnectionId,
        push: AgentPush,
    },
    Answer {
        question: u64,
        answer: Result<Reply, AskError>,
    },
    Resume {
        viewer_id: ViewerId,
        durable: u64,
    },
    Snapshot {
        viewer_id: ViewerId,
        seq: u64,
        json: String,
    },
    /// For every dashboard behind the line.
    Events {
        events: Vec<Event>,
    },
    /// The same.
    Ephemeral {
        json: String,
    },
    ViewerLost {
        viewer_id: ViewerId,
        reason: Option<ResyncReason>,
    },
    /// The home is there, and says whether anybody, on any node, watches the org.
    Beat {
        is_watched: bool,
    },
}

/// One event, as every viewer gets it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) seq: u64,
    pub(super) id: EventId,
    pub(super) name: String,
    pub(super) json: String,
}

/// Text that is JSON, as bytes and back. All of it was made by this program.
pub(super) fn text(json: &Bytes) -> String {
    String::from_utf8_lossy(json).into_owned()
}

/// One direction's numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    said: u64,
    heard: u64,
}

/// What a number says of the message that bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the next.
    Next,
    /// It was heard before.
    Again,
    /// One before it is missing.
    Gap,
}

impl Numbers {
    /// The number of the next message to say.
    pub(super) fn say(&mut self) -> u64 {
        self.said += 1;
        self.said
    }

    /// Notes a message that was heard.
    pub(super) fn hear(&mut self, number: u64) -> Turn {
        match number.checked_sub(self.heard + 1) {
            Some(0) => {
                self.heard = number;
                Turn::Next
            }
            Some(_) => Turn::Gap,
            None => Turn::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_each_message_once_and_see_what_is_missing() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.hear(1), Turn::Next);
        assert_eq!(numbers.hear(1), Turn::Again);
        assert_eq!(numbers.hear(2), Turn::Next);
        assert_eq!(numbers.hear(4), Turn::Gap);
        assert_eq!(numbers.hear(3), Turn::Next);
        assert_eq!((numbers.say(), numbers.say()), (1, 2));
    }

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        let body = Body::ToEdge(ToEdge::Answer {
            question: 7,
            answer: Err(AskError::Refused(pulse_domain::request::Refusal::NotFound {
                what: "agent".into(),
            })),
        });
        let envelope =
            Envelope { from: NodeId("a".to_owned()), line: Uuid::nil(), number: 3, body };
        let json = serde_json::to_string(&envelope).unwrap();
        let back: Envelope = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        assert!(json.contains("agent"));
    }
}
