//! The thread that owns the spool: what is told to it becomes durable, in batches.
//!
//! The disk may take its time, so nothing else waits for it. While one commit runs, more results arrive; they
//! share the next frame and the next commit. When the spool is full or the disk refuses, the latest result of
//! each check waits in memory until there is room again, and a clear error is logged, once a minute.

mod outbox;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pulse_protocol::agent::{AgentFrame, CheckResult};
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use self::outbox::Outbox;
use crate::spool::{Position, Spool, SpoolError};

/// Time between two attempts while the spool takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// How long an ack may wait for a commit to ride on. Losing it costs a few repeated frames, which the hub acks again.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Time between two logs of a spool that takes nothing.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

enum Request {
    Result(Box<CheckResult>),
    Frame(Box<AgentFrame>),
    Acked { spool_id: String, seq: u64 },
    Read { after: u64, count: usize, bytes_max: usize, reply: oneshot::Sender<Batch> },
    RestartSequence,
    Settle(oneshot::Sender<()>),
}

/// Frames read from the spool, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The spool they are from: it may have been replaced since the hub was told of it.
    pub spool_id: String,
    /// Number and text of each, in order.
    pub frames: Vec<(u64, String)>,
}

/// A handle to the recorder's thread. The thread ends, with all it could store stored, when the last handle goes.
#[derive(Clone)]
pub struct Recorder {
    requests: Sender<Request>,
    backlog: Arc<AtomicUsize>,
    position: watch::Receiver<Position>,
}

impl Recorder {
    /// Starts the thread for the spool in `directory`.
    ///
    /// # Errors
    ///
    /// Returns the system's error if it gives no thread.
    pub fn start(spool: Spool, directory: PathBuf) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, receiver) = channel();
        let (sender, position) = watch::channel(spool.position().clone());
        let backlog = Arc::new(AtomicUsize::new(0));
        let clerk = Clerk {
            spool,
            directory,
            outbox: Outbox::default(),
            acked: 0,
            acked_at: None,
            blocked_since: None,
            complained_at: None,
            position: sender,
            backlog: Arc::clone(&backlog),
            settling: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || clerk.run(&receiver))?;
        Ok((Self { requests, backlog, position }, thread))
    }

    /// Records a result; those that arrive together share a `report`.
    pub fn record_result(&self, result: CheckResult) {
        self.ask(Request::Result(Box::new(result)));
    }

    /// Records a state frame; its number is given when it is stored.
    pub fn record(&self, frame: AgentFrame) {
        self.ask(Request::Frame(Box::new(frame)));
    }

    /// Tells that the hub has everything up to `seq` of the spool `spool_id`.
    pub fn acked(&self, spool_id: &str, seq: u64) {
        self.ask(Request::Acked { spool_id: spool_id.to_owned(), seq });
    }

    /// Asks for stored frames after `after`. An empty answer means that the spool cannot be read just now.
    #[must_use]
    pub fn read(&self, after: u64, count: usize, bytes_max: usize) -> oneshot::Receiver<Batch> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Read { after, count, bytes_max, reply });
        answer
    }

    /// Starts a new sequence under a new spool id; seen in [`Recorder::position`] when done.
    pub fn restart_sequence(&self) {
        self.ask(Request::RestartSequence);
    }

    /// Waits until what was recorded before is stored, or could not be.
    pub async fn settle(&self) {
        let (reply, settled) = oneshot::channel();
        self.ask(Request::Settle(reply));
        // An error means that the thread is gone, and then there is nothing to wait for.
        let _gone = settled.await;
    }

    /// Where the spool stands, as it changes.
    #[must_use]
    pub fn position(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }

    /// Requests that the thread has not taken yet; it grows while the disk hangs.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn ask(&self, request: Request) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        if self.requests.send(request).is_err() {
            error!("the spool's thread is gone; restart the agent");
        }
    }
}

struct Clerk {
    spool: Spool,
    directory: PathBuf,
    outbox: Outbox,
    acked: u64,
    /// When the oldest ack that is not stored came.
    acked_at: Option<Instant>,
    blocked_since: Option<Instant>,
    complained_at: Option<Instant>,
    position: watch::Sender<Position>,
    backlog: Arc<AtomicUsize>,
    settling: Vec<oneshot::Sender<()>>,
}

impl Clerk {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let first = match self.patience() {
                Some(patience) => requests.recv_timeout(patience),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let closing = matches!(first, Err(RecvTimeoutError::Disconnected));
            // All that waits shares one commit.
            for request in first.into_iter().chain(std::iter::from_fn(|| requests.try_recv().ok()))
            {
                self.backlog.fetch_sub(1, Ordering::Relaxed);
                self.take(request);
            }
            if closing || self.is_time_to_commit() {
                self.commit();
            }
            for settled in self.settling.drain(..) {
                // Whoever asked may have given up.
                let _gone = settled.send(());
            }
            if closing {
                return;
            }
        }
    }

    /// How long to wait for a request; for ever when nothing is left to do.
    fn patience(&self) -> Option<Duration> {
        if self.blocked_since.is_some() {
            return Some(RETRY);
        }
        self.acked_at.map(|at| ACK_WAIT.saturating_sub(at.elapsed()))
    }

    fn is_time_to_commit(&self) -> bool {
        let ack_is_old = self.acked_at.is_some_and(|at| at.elapsed() >= ACK_WAIT);
        !self.outbox.is_empty() || ack_is_old || self.blocked_since.is_some()
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Result(result) => self.outbox.push_result(*result),
            Request::Frame(frame) => self.outbox.push_frame(*frame),
            Request::Acked { spool_id, seq } => {
                if spool_id == self.spool.position().spool_id {
                    self.acked = self.acked.max(seq);
                    self.acked_at.get_or_insert_with(Instant::now);
                    self.publish();
                }
            }
            Request::Read { after, count, bytes_max, reply } => {
                let frames = self.spool.read(after, count, bytes_max).unwrap_or_else(|error| {
                    self.fail(&error);
                    Vec::new()
                });
                let spool_id = self.spool.position().spool_id.clone();
                // Whoever asked may have lost its connection.
                let _gone = reply.send(Batch { spool_id, frames });
            }
            Request::RestartSequence => match self.restart_sequence() {
                Ok(()) => self.publish(),
                Err(error) => self.fail(&error),
            },
            Request::Settle(reply) => self.settling.push(reply),
        }
    }

    fn restart_sequence(&mut self) -> Result<(), SpoolError> {
        self.spool.commit(self.acked, &[])?;
        self.spool.restart_sequence()?;
        (self.acked, self.acked_at) = (0, None);
        Ok(())
    }

    fn commit(&mut self) {
        match self.try_commit() {
            Ok(()) => {
                if let Some(since) = self.blocked_since.take() {
                    self.complained_at = None;
                    info!(
                        duration_ms = since.elapsed().as_millis(),
                        "the spool takes results again"
                    );
                }
            }
            Err(error) => {
                self.outbox.collapse();
                self.fail(&error);
            }
        }
        self.publish();
    }

    fn try_commit(&mut self) -> Result<(), SpoolError> {
        if self.spool.is_closed() {
            self.spool.reopen()?;
        }
        if self.blocked_since.is_some() {
            // Room first: together with frames that do not fit, the ack might not fit either.
            self.spool.commit(self.acked, &[])?;
        }
        let frames = self.outbox.frames();
        self.spool.commit(self.acked, &frames)?;
        self.outbox.clear();
        self.acked_at = None;
        Ok(())
    }

    /// Says what is wrong, once a minute, and sets a damaged spool aside.
    fn fail(&mut self, error: &SpoolError) {
        self.blocked_since.get_or_insert_with(Instant::now);
        if self.complained_at.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained_at = Some(Instant::now());
            error!(error = %chain(error), queue_len = self.outbox.len(), "results cannot be stored");
        }
        if matches!(error, SpoolError::Damaged(_)) {
            self.replace_spool();
        }
    }

    fn replace_spool(&mut self) {
        match Spool::replace_damaged(&self.directory, self.spool.bytes_max()) {
            Ok(spool) => {
                self.spool = spool;
                self.acked = 0;
                self.acked_at = None;
                self.publish();
            }
            Err(error) => error!(error = %chain(&error), "the damaged spool could not be replaced"),
        }
    }

    fn publish(&self) {
        let mut position = self.spool.position().clone();
        // What the hub acked is known before it is stored.
        position.acked = self.acked.clamp(position.acked, position.last);
        self.position.send_if_modified(|known| {
            let changed = *known != position;
            *known = position;
            changed
        });
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
