//! Sorts what the bus brings: each message to its line.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use parking_lot::Mutex;
use pulse_protocol::ids::OrgId;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::line::{Body, Envelope, SILENT_AFTER};
use super::{Bus, Inbox, NodeId};

/// One message of a line, for the actor at its end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Heard {
    pub(super) number: u64,
    pub(super) body: Body,
}

/// Somebody opens a line to one of this node's homes.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The other node.
    pub(crate) node: NodeId,
    /// The line.
    pub(crate) line: Uuid,
    /// The org it asks for.
    pub(crate) org_id: OrgId,
}

struct Inner {
    me: NodeId,
    bus: Arc<dyn Bus>,
    lines: Mutex<HashMap<Uuid, Recipient<Heard>>>,
    echo_at: Mutex<Instant>,
}

/// This node's end of the bus; cheap to clone.
#[derive(Clone)]
pub struct Post {
    inner: Arc<Inner>,
}

impl Post {
    /// The end of `bus` that is called `me`.
    #[must_use]
    pub fn new(me: NodeId, bus: Arc<dyn Bus>) -> Self {
        Self {
            inner: Arc::new(Inner {
                me,
                bus,
                lines: Mutex::default(),
                echo_at: Mutex::new(Instant::now()),
            }),
        }
    }

    /// Sends one message of a line.
    pub(super) fn send(&self, to: &NodeId, line: Uuid, number: u64, body: Body) {
        let envelope = Envelope { from: self.inner.me.clone(), line, number, body };
        match serde_json::to_vec(&envelope) {
            Ok(json) => self.inner.bus.send(to, Bytes::from(json)),
            Err(error) => warn!(%error, "a message between nodes has no JSON form"),
        }
    }

    /// Sends this node a message; that it arrives shows [`is_deaf`](Self::is_deaf) that the bus works both ways.
    pub(super) fn call_out(&self) {
        self.send(&self.inner.me, Uuid::nil(), 0, Body::Echo);
    }

    /// Whether nothing that this node sent itself has arrived for [`SILENT_AFTER`].
    pub(super) fn is_deaf(&self) -> bool {
        self.inner.echo_at.lock().elapsed() > SILENT_AFTER
    }

    pub(super) fn open(&self, line: Uuid, end: Recipient<Heard>) {
        self.inner.lines.lock().insert(line, end);
    }

    pub(super) fn close(&self, line: Uuid) {
        self.inner.lines.lock().remove(&line);
    }

    /// Sorts until the bus ends. `accept` starts the end of a line that another node opens, before it returns.
    pub(crate) async fn sort(&self, mut inbox: Inbox, accept: impl Fn(Opening)) {
        while let Some(message) = inbox.recv().await {
            match serde_json::from_slice::<Envelope>(&message) {
                Ok(envelope) => self.deliver(envelope, &accept),
                // From a node of another version: its line breaks, and its edges try again.
                Err(error) => warn!(%error, "a message between nodes cannot be read"),
            }
        }
    }

    fn deliver(&self, envelope: Envelope, accept: &impl Fn(Opening)) {
        let Envelope { from, line, number, body } = envelope;
        if matches!(body, Body::Echo) {
            *self.inner.echo_at.lock() = Instant::now();
            return;
        }
        let is_known = self.inner.lines.lock().contains_key(&line);
        if let (false, Body::Open(org_id), 1) = (is_known, &body, number) {
            accept(Opening { node: from.clone(), line, org_id: *org_id });
        }
        let broken = matches!(body, Body::Broken);
        let taken = match self.inner.lines.lock().get(&line) {
            Some(end) => end.try_send(Heard { number, body }).is_ok(),
            None => false,
        };
        if !taken && !broken {
            // Unknown here, or too busy to take it: the other side must not wait for what never comes.
            debug!(%line, number, "no line takes this");
            self.close(line);
            self.send(&from, line, 0, Body::Broken);
        }
    }
}
