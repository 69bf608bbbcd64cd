//! A simulated dashboard: it counts, follows the numbers, and times one frame in so many.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use futures_util::StreamExt;
use parking_lot::Mutex;
use pulse_protocol::ids::OrgId;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::checker::{Fault, Sequence};
use crate::entrance::Entrance;
use crate::session::Freshness;
use crate::socket::{OpenError, Socket, open_dashboard};
use crate::stats::Latencies;
use crate::wire::{Clock, Kind, glance, mark_in_event};

/// When viewers leave.
#[derive(Clone, Debug)]
pub(crate) enum Curtain {
    /// Not yet.
    Open,
    /// Once they have seen the last number of their org.
    After(Arc<HashMap<OrgId, u64>>),
    /// At once.
    Now,
}

/// What all viewers of a run share.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) clock: Clock,
    pub(crate) curtain: watch::Receiver<Curtain>,
    /// One event in so many is timed.
    pub(crate) sample_every: u64,
    pub(crate) watching: watch::Sender<usize>,
    pub(crate) deliveries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) resyncs: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    /// From the moment a change was due to be sent to its arrival at a viewer.
    pub(crate) latency: Mutex<Latencies>,
}

impl Audience {
    pub(crate) fn new(
        entrance: Arc<Entrance>,
        clock: Clock,
        curtain: watch::Receiver<Curtain>,
        sample_every: u64,
    ) -> Self {
        Self {
            entrance,
            clock,
            curtain,
            sample_every: sample_every.max(1),
            watching: watch::Sender::new(0),
            deliveries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            latency: Mutex::new(Latencies::new()),
        }
    }

    /// Starts the distribution anew and returns what was in it.
    pub(crate) fn take_latency(&self) -> Latencies {
        std::mem::replace(&mut *self.latency.lock(), Latencies::new())
    }
}

/// What a viewer has to show at the end.
#[derive(Debug)]
pub(crate) struct ViewerRecord {
    pub(crate) org: OrgId,
    pub(crate) last: u64,
    pub(crate) faults: Vec<Fault>,
}

/// One dashboard.
#[derive(Debug)]
pub(crate) struct SimViewer {
    audience: Arc<Audience>,
    org: OrgId,
    token: String,
    name: String,
    /// None until the first snapshot.
    sequence: Option<Sequence>,
    freshness: Arc<Freshness>,
    faults: Vec<Fault>,
}

/// Longest wait between two attempts: a person watches.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

enum End {
    Done,
    Lost,
    Hopeless(String),
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotNow(_) | OpenError::NoNode => Self::Lost,
            OpenError::Refused(why) | OpenError::Gap(why) => Self::Hopeless(why),
        }
    }
}

impl SimViewer {
    pub(crate) fn new(audience: Arc<Audience>, org: OrgId, token: String, number: usize) -> Self {
        let name = format!("viewer {number} of {org}");
        let freshness = Arc::default();
        Self { audience, org, token, name, sequence: None, freshness, faults: Vec::new() }
    }

    /// How new the newest change is that it has seen; can be looked at while the viewer watches.
    pub(crate) fn freshness(&self) -> Arc<Freshness> {
        Arc::clone(&self.freshness)
    }

    /// Watches until the curtain falls; after a lost connection it goes on where it was.
    pub(crate) async fn run(mut self) -> ViewerRecord {
        let mut backoff = ExponentialBackoff {
            initial_interval: BACKOFF_MAX / 10,
            current_interval: BACKOFF_MAX / 10,
            max_interval: BACKOFF_MAX,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut curtain = self.audience.curtain.clone();
        loop {
            match self.session(&mut backoff).await {
                End::Done => return self.into_record(),
                End::Hopeless(why) => {
                    self.faults
                        .push(Fault::Broken(format!("{} was turned away: {why}", self.name)));
                    return self.into_record();
                }
                End::Lost => {}
            }
            self.audience.reconnects.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(backoff.next_backoff().unwrap_or(BACKOFF_MAX)) => {}
                _ = curtain.wait_for(|curtain| matches!(curtain, Curtain::Now)) => return self.into_record(),
            }
        }
    }

    fn into_record(mut self) -> ViewerRecord {
        let last = self.last().unwrap_or(0);
        if let Some(sequence) = self.sequence {
            self.faults.extend(sequence.finish());
        }
        ViewerRecord { org: self.org, last, faults: self.faults }
    }

    fn last(&self) -> Option<u64> {
        self.sequence.as_ref().map(Sequence::last)
    }

    async fn session(&mut self, backoff: &mut ExponentialBackoff) -> End {
        let Some(entry) = self.audience.entrance.enter() else { return End::Lost };
        let opened = open_dashboard(entry.address(), self.org, &self.token, self.last()).await;
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(error) => return error.into(),
        };
        backoff.reset();
        let mut is_counted = false;
        let end = self.watch(&mut socket, &mut is_counted).await;
        if is_counted {
            self.audience.watching.send_modify(|watching| *watching -= 1);
        }
        end
    }

    async fn watch(&mut self, socket: &mut Socket, is_counted: &mut bool) -> End {
        let mut curtain = self.audience.curtain.clone();
        let mut goal = self.goal(&curtain.borrow_and_update());
        loop {
            if self.last().is_some_and(|last| goal.is_some_and(|goal| last >= goal)) {
                return End::Done;
            }
            tokio::select! {
                frame = socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => {
                        self.take(text.as_bytes());
                        if !*is_counted {
                            *is_counted = true;
                            self.audience.watching.send_modify(|watching| *watching += 1);
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Lost,
                    Some(Ok(_)) => {}
                },
                changed = curtain.changed() => {
                    if changed.is_err() || matches!(*curtain.borrow(), Curtain::Now) {
                        return End::Done;
                    }
                    goal = self.goal(&curtain.borrow_and_update());
                }
            }
        }
    }

    fn goal(&self, curtain: &Curtain) -> Option<u64> {
        match curtain {
            Curtain::Open => None,
            Curtain::After(lasts) => lasts.get(&self.org).copied(),
            Curtain::Now => Some(0),
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let Ok(glance) = glance(frame) else {
            self.faults.push(Fault::Broken(format!("{} got an unreadable frame", self.name)));
            return;
        };
        match (glance.kind, &mut self.sequence) {
            (Kind::Event, Some(sequence)) => {
                sequence.see(glance.seq);
                self.count(frame, glance.seq);
            }
            (Kind::Snapshot, Some(sequence)) => sequence.jump_to(glance.seq),
            (Kind::Snapshot, none) => *none = Some(Sequence::after(self.name.as_str(), glance.seq)),
            // Nothing was missed: what it names must be where this viewer stands.
            (Kind::Ready, Some(sequence)) if glance.seq != sequence.last() => {
                let what =
                    format!("{}: ready at {} after {}", self.name, glance.seq, sequence.last());
                self.faults.push(Fault::Lost { what });
            }
            (Kind::Resync, _) => {
                self.audience.resyncs.fetch_add(1, Ordering::Relaxed);
            }
            (Kind::Event, None) => {
                let text = format!("{} got an event before any snapshot", self.name);
                self.faults.push(Fault::Broken(text));
            }
            _ => {}
        }
    }

    fn count(&self, frame: &[u8], seq: u64) {
        let audience = &self.audience;
        audience.deliveries.fetch_add(1, Ordering::Relaxed);
        audience.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        if seq.is_multiple_of(audience.sample_every)
            && let Some(mark) = mark_in_event(frame)
        {
            let now = Instant::now();
            let age = audience.clock.age(mark, now);
            audience.latency.lock().record(age);
            self.freshness.renew(audience.clock.us(now).saturating_sub(crate::wire::us(age)));
        }
    }
}
