//! Pushing events to an org's viewers: encoded once, several in one push when there are many viewers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use pulse_domain::org::Org;
use pulse_domain::record::JournalEvent;
use pulse_protocol::Timestamp;
use pulse_protocol::dashboard::{DashboardFrame, EncodedEvent, EphemeralName, ResyncReason};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::link::{Chunk, EncodedFrame, SharedFrame, ViewerId, ViewerLink, ViewerPush};
use crate::metrics::Metrics;

/// Viewers whose sockets a node can write once a millisecond. With more of them events wait for company.
const WRITES_PER_MS: usize = 50;
/// Events never wait longer for company.
const DELAY_MAX: Duration = Duration::from_millis(20);

/// What is no event (when an agent was last heard) may be this old in a snapshot.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(250);

struct CachedSnapshot {
    seq: u64,
    made_at: Instant,
    frame: Arc<SharedFrame>,
}

/// The viewers of one org, and what is to be pushed to them.
pub(super) struct Fanout {
    viewers: BTreeMap<ViewerId, ViewerLink>,
    frames: Vec<EncodedFrame>,
    oldest: Option<Instant>,
    flushed_at: Option<Instant>,
    delayed: bool,
    snapshot: Option<CachedSnapshot>,
    metrics: Metrics,
    viewers_here: Arc<AtomicUsize>,
}

impl Fanout {
    pub(super) fn new(metrics: Metrics, viewers_here: Arc<AtomicUsize>) -> Self {
        Self {
            viewers: BTreeMap::new(),
            frames: Vec::new(),
            oldest: None,
            flushed_at: None,
            delayed: false,
            snapshot: None,
            metrics,
            viewers_here,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    pub(super) fn add(&mut self, link: ViewerLink) {
        self.flush();
        if self.viewers.insert(link.viewer_id, link).is_none() {
            self.viewers_here.fetch_add(1, Ordering::Relaxed);
            self.metrics.viewers.inc();
        }
    }

    pub(super) fn remove(&mut self, viewer_id: ViewerId) {
        if self.viewers.remove(&viewer_id).is_some() {
            self.viewers_here.fetch_sub(1, Ordering::Relaxed);
            self.metrics.viewers.dec();
        }
        if self.viewers.is_empty() {
            // It may be large, and nobody may come for long.
            self.snapshot = None;
        }
    }

    /// Adds events that are durable to the next push.
    pub(super) fn push(&mut self, events: &[JournalEvent], decided_at: Instant) {
        if self.viewers.is_empty() || events.is_empty() {
            return;
        }
        self.oldest.get_or_insert(decided_at);
        self.frames.extend(events.iter().filter_map(encode));
    }

    /// Pushes now, or says after what delay to push: when the last push was a moment ago and there are many viewers.
    pub(super) fn flush_or_delay(&mut self) -> Option<Duration> {
        if self.frames.is_empty() || self.delayed {
            return None;
        }
        let viewers = self.viewers_here.load(Ordering::Relaxed);
        let pace = Duration::from_millis((viewers / WRITES_PER_MS) as u64).min(DELAY_MAX);
        let since = self.flushed_at.map_or(DELAY_MAX, |at| at.elapsed());
        if since >= pace {
            self.flush();
            return None;
        }
        self.delayed = true;
        Some(pace - since)
    }

    pub(super) fn flush(&mut self) {
        self.delayed = false;
        self.flushed_at = Some(Instant::now());
        if self.frames.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.frames);
        if let Some(decided_at) = self.oldest.take() {
            self.metrics.push_lag.observe(decided_at.elapsed().as_secs_f64());
        }
        self.metrics.pushed.inc_by((frames.len() * self.viewers.len()) as u64);
        for frame in &frames {
            debug!(change.id = %frame.id, seq = frame.seq, event = %frame.name, viewers = self.viewers.len(), "pushed");
        }
        let chunk = Arc::new(Chunk { frames, on_the_wire: OnceLock::new() });
        let slow: Vec<ViewerId> = self
            .viewers
            .iter()
            .filter(|(_, link)| link.edge.try_send(ViewerPush::Events(Arc::clone(&chunk))).is_err())
            .map(|(id, _)| *id)
            .collect();
        for viewer_id in slow {
            // Its session cannot even take the pointer: it starts anew when it can.
            if let Some(link) = self.viewers.get(&viewer_id) {
                link.edge.do_send(ViewerPush::Lost(viewer_id, Some(ResyncReason::SlowConsumer)));
            }
            self.remove(viewer_id);
        }
    }

    /// Pushes news without a number; those that cannot take it at once do without.
    pub(super) fn ephemeral(&self, event: EphemeralName, at: Timestamp, data: serde_json::Value) {
        if self.viewers.is_empty() {
            return;
        }
        let frame = DashboardFrame::Ephemeral { event, at, data };
        let Ok(json) = serde_json::to_vec(&frame) else { return };
        let frame = SharedFrame::new(Bytes::from(json));
        for link in self.viewers.values() {
            drop(link.edge.try_send(ViewerPush::Ephemeral(Arc::clone(&frame))));
        }
    }

    /// Notes that the org is not as the last snapshot shows it, although no event says so.
    pub(super) fn outdate_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// The `snapshot` frame of the org as it is; made once for all who come before the next change.
    pub(super) fn snapshot(&mut self, org: &Org) -> Arc<SharedFrame> {
        if let Some(cached) = &self.snapshot
            && cached.seq == org.seq()
            && cached.made_at.elapsed() < SNAPSHOT_AGE_MAX
        {
            return Arc::clone(&cached.frame);
        }
        let frame = DashboardFrame::Snapshot(Box::new(org.snapshot()));
        let json = Bytes::from(serde_json::to_vec(&frame).unwrap_or_else(|error| {
            error!(org.id = %org.id(), %error, "a snapshot has no JSON form");
            b"{\"type\":\"resync\",\"reason\":\"too_far_behind\"}".to_vec()
        }));
        let frame = SharedFrame::new(json);
        let cached =
            CachedSnapshot { seq: org.seq(), made_at: Instant::now(), frame: Arc::clone(&frame) };
        self.snapshot = Some(cached);
        frame
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        self.viewers_here.fetch_sub(self.viewers.len(), Ordering::Relaxed);
        self.metrics.viewers.sub(i64::try_from(self.viewers.len()).unwrap_or(0));
    }
}

/// An event as every viewer gets it.
#[must_use]
pub fn encode(event: &JournalEvent) -> Option<EncodedFrame> {
    let data: &RawValue = serde_json::from_str(&event.data).ok()?;
    let frame = EncodedEvent {
        kind: "event",
        seq: event.seq,
        id: event.id,
        event: &event.name,
        at: event.at,
        data,
        seq_through: None,
    };
    let json = Bytes::from(serde_json::to_vec(&frame).ok()?);
    Some(EncodedFrame { seq: event.seq, id: event.id, name: Arc::clone(&event.name), json })
}
