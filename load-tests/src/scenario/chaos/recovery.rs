//! Whether all is well again: every node ready, every agent acked, every dashboard up to date.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::rest::http_client;
use crate::rig::Rig;
use crate::session::Freshness;
use crate::wire::Clock;

/// How often it is looked: an error of the figures.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A node that takes longer to say that it is ready is not.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// When each part was well again; none if it was not in time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    /// Every node answered `/readyz` with 200.
    pub(crate) ready_at: Option<Instant>,
    /// Every agent had a change acked that was due after the end of the fault.
    pub(crate) acked_at: Option<Instant>,
    /// Every viewer had seen such a change.
    pub(crate) seen_at: Option<Instant>,
}

impl Recovery {
    /// When all were.
    pub(crate) fn at(&self) -> Option<Instant> {
        Some(self.ready_at?.max(self.acked_at?).max(self.seen_at?))
    }

    /// What is still not well.
    pub(crate) fn missing(&self) -> String {
        let parts = [
            (self.ready_at, "a node is not ready"),
            (self.acked_at, "an agent has nothing acked"),
            (self.seen_at, "a viewer sees nothing"),
        ];
        let missing = parts.iter().filter(|(at, _)| at.is_none()).map(|(_, text)| *text);
        missing.collect::<Vec<_>>().join(", ")
    }
}

/// Looks at all there is.
pub(crate) struct Watch {
    client: reqwest::Client,
    nodes: Vec<String>,
    clock: Clock,
    agents: Vec<Arc<Freshness>>,
    viewers: Vec<Arc<Freshness>>,
}

impl Watch {
    pub(crate) fn new(rig: &Rig, nodes: &[SocketAddr]) -> Result<Self> {
        Ok(Self {
            client: http_client(READY_WITHIN)?,
            nodes: nodes.iter().map(|address| format!("http://{address}/readyz")).collect(),
            clock: rig.crew.clock,
            agents: rig.acked.clone(),
            viewers: rig.seen.clone(),
        })
    }

    /// Waits until all that was sent after `ended_at` arrives, at most for `patience`.
    pub(crate) async fn recovered(&self, ended_at: Instant, patience: Duration) -> Recovery {
        let since = self.clock.us(ended_at);
        let is_fresh = |all: &[Arc<Freshness>]| all.iter().all(|one| one.is_after(since));
        let mut recovery = Recovery::default();
        while recovery.at().is_none() && ended_at.elapsed() < patience {
            // A node may be ready, and then not when its past catches up with it: only what holds at once counts.
            let ready = self.all_ready().await;
            let now = Instant::now();
            note(&mut recovery.ready_at, ready, now);
            note(&mut recovery.acked_at, is_fresh(&self.agents), now);
            note(&mut recovery.seen_at, is_fresh(&self.viewers), now);
            sleep(LOOK_EVERY).await;
        }
        recovery
    }

    async fn all_ready(&self) -> bool {
        let one = async |url: &String| {
            let answer = self.client.get(url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        join_all(self.nodes.iter().map(one)).await.into_iter().all(|ready| ready)
    }
}

/// Remembers since when something holds.
fn note(since: &mut Option<Instant>, holds: bool, now: Instant) {
    *since = if holds { since.or(Some(now)) } else { None };
}
