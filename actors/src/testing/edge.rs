//! Sessions without a socket.

use std::sync::Arc;

use actix::prelude::*;
use parking_lot::Mutex;

use crate::link::{AgentPush, Chunk, Shared, ViewerPush};

/// Notes what an agent's socket would carry.
#[derive(Clone, Default)]
pub struct RecordingAgent {
    /// What it shares with its home.
    pub shared: Arc<Shared>,
    told: Arc<Mutex<Vec<AgentPush>>>,
}

impl RecordingAgent {
    /// What it was told, in order.
    #[must_use]
    pub fn told(&self) -> Vec<AgentPush> {
        self.told.lock().clone()
    }

    /// What it was told, in a word each: `welcome`, `ack 7`, `error seq_gap`, `close 1001`, …
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        self.told.lock().iter().map(word).collect()
    }
}

fn word(push: &AgentPush) -> String {
    match push {
        AgentPush::Welcome(_) => "welcome".to_owned(),
        AgentPush::Ack(seq) => format!("ack {seq}"),
        AgentPush::Config(_) => "config".to_owned(),
        AgentPush::Command(_) => "command".to_owned(),
        AgentPush::Error(error, None) => format!("error {}", error.code),
        AgentPush::Error(error, Some(code)) => {
            format!("error {}, close {}", error.code, code.code())
        }
        AgentPush::Drain(_) => "drain".to_owned(),
        AgentPush::Close(code) => format!("close {}", code.code()),
        AgentPush::HomeLost => "home lost".to_owned(),
    }
}

impl Actor for RecordingAgent {
    type Context = Context<Self>;
}

impl Handler<AgentPush> for RecordingAgent {
    type Result = ();

    fn handle(&mut self, push: AgentPush, _: &mut Context<Self>) {
        self.told.lock().push(push);
    }
}

/// Notes what a dashboard's socket would carry.
#[derive(Clone)]
pub struct RecordingViewer {
    told: Arc<Mutex<Vec<ViewerPush>>>,
    reads: bool,
}

impl RecordingViewer {
    /// A viewer that reads everything.
    #[must_use]
    pub fn new() -> Self {
        Self { told: Arc::default(), reads: true }
    }

    /// A viewer whose mailbox is never looked into.
    #[must_use]
    pub fn that_does_not_read() -> Self {
        Self { told: Arc::default(), reads: false }
    }

    /// What it was told, in order.
    #[must_use]
    pub fn told(&self) -> Vec<ViewerPush> {
        self.told.lock().clone()
    }

    /// The pushes of events it was told, in order.
    #[must_use]
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        let told = self.told.lock();
        let chunks = told.iter().filter_map(|push| match push {
            ViewerPush::Events(chunk) => Some(Arc::clone(chunk)),
            ViewerPush::Ephemeral(_) | ViewerPush::Lost(..) => None,
        });
        chunks.collect()
    }

    /// The frames without a number it was told, in order.
    #[must_use]
    pub fn ephemerals(&self) -> Vec<serde_json::Value> {
        let told = self.told.lock();
        let frames = told.iter().filter_map(|push| match push {
            ViewerPush::Ephemeral(frame) => serde_json::from_slice(&frame.json).ok(),
            ViewerPush::Events(_) | ViewerPush::Lost(..) => None,
        });
        frames.collect()
    }

    /// Numbers of the events it was told, in order.
    #[must_use]
    pub fn seqs(&self) -> Vec<u64> {
        let chunks = self.chunks();
        chunks.iter().flat_map(|chunk| chunk.frames.iter().map(|frame| frame.seq)).collect()
    }
}

impl Default for RecordingViewer {
    fn default() -> Self {
        Self::new()
    }
}

impl Actor for RecordingViewer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if !self.reads {
            ctx.wait(std::future::pending::<()>().into_actor(self));
        }
    }
}

impl Handler<ViewerPush> for RecordingViewer {
    type Result = ();

    fn handle(&mut self, push: ViewerPush, _: &mut Context<Self>) {
        self.told.lock().push(push);
    }
}
