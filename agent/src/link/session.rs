//! One connection: hello, welcome, then frames, acks, heartbeats and pings until it ends.

use std::future::pending;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pulse_protocol::agent::{
    AgentError, AgentFrame, Bye, CloseCode, Heartbeat, HubFrame, ScanProgress, Welcome,
};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::{debug, error, info, warn};

use super::pause::Ending;
use super::window::{Pace, Window};
use super::{Link, News, Socket};
use crate::recorder::Batch;

/// Time for the hub to answer `hello`, and for any write before it has said how patient it is.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of what a hub may ask for, so that a mistaken value neither spins nor sleeps for ever.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 50..=300_000;
/// Frames read from the spool at once.
const BATCH_FRAMES: u64 = 64;
/// About how many bytes are read from the spool at once.
const BATCH_BYTES: usize = 256 * 1024;
/// Time until the spool is asked again when it could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Time for what is stored to be sent and acked before the agent leaves.
const FAREWELL: Duration = Duration::from_millis(700);
/// Time for the hub to answer the closing.
const CLOSING: Duration = Duration::from_millis(400);

/// One connection.
pub(super) struct Session<'a> {
    link: &'a mut Link,
    socket: Socket,
    spool_id: String,
    last: u64,
    window: Window,
    pace: Pace,
    welcomed_at: Option<Instant>,
    heard_at: Instant,
    timeout: Duration,
    /// The answer of the spool that is waited for.
    reading: Option<oneshot::Receiver<Batch>>,
    /// Not before this is the spool read again.
    resume_at: Option<Instant>,
    leaving: Option<(Bye, Instant)>,
    /// The node leaves; the time at which to go elsewhere.
    drain_at: Option<Instant>,
    hub_misses_frames: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(link: &'a mut Link, socket: Socket) -> Self {
        let now = Instant::now();
        Self {
            link,
            socket,
            spool_id: String::new(),
            last: 0,
            window: Window::new(0),
            pace: Pace::new(now),
            welcomed_at: None,
            heard_at: now,
            timeout: WELCOME_TIMEOUT,
            reading: None,
            resume_at: None,
            leaving: None,
            drain_at: None,
            hub_misses_frames: false,
        }
    }

    /// When the hub welcomed the agent.
    pub(super) fn welcomed_at(&self) -> Option<Instant> {
        self.welcomed_at
    }

    /// Whether the hub no longer has what it had acked, or has more than this spool ever held: then the
    /// numbers of the spool can never fit again.
    pub(super) fn does_hub_miss_frames(&self) -> bool {
        self.hub_misses_frames
    }

    /// Runs the connection to its end.
    pub(super) async fn run(&mut self) -> Ending {
        let ended = match self.greet().await {
            Ok(heartbeat_interval) => self.converse(heartbeat_interval).await,
            Err(ending) => Err(ending),
        };
        match ended {
            Ok(bye) => {
                self.part(bye).await;
                Ending::Left
            }
            Err(ending) => {
                if self.welcomed_at.is_none() && is_gap(&ending) {
                    self.hub_misses_frames = true;
                }
                if matches!(
                    ending,
                    Ending::Closed { .. } | Ending::Drained { .. } | Ending::SpoolChanged
                ) {
                    self.close().await;
                }
                self.drain_at.map_or(ending, |at| Ending::Drained {
                    reconnect_after: at.saturating_duration_since(Instant::now()),
                })
            }
        }
    }

    /// Says hello and waits for the welcome; gives the heartbeat's interval.
    async fn greet(&mut self) -> Result<Duration, Ending> {
        let position = self.link.recorder.position().borrow().clone();
        let hello = self.link.host.hello(&position);
        self.send_frame(&AgentFrame::Hello(hello)).await?;
        self.spool_id.clone_from(&position.spool_id);
        let deadline = Instant::now() + WELCOME_TIMEOUT;
        let welcome = loop {
            let received =
                timeout_at(deadline, self.socket.next()).await.map_err(|_| Ending::Silent)?;
            match self.read(received)? {
                Some(HubFrame::Welcome(welcome)) => break welcome,
                Some(HubFrame::Error(error)) => log_error(&error),
                _ => {}
            }
        };
        if !(position.acked..=position.last).contains(&welcome.acked_seq) {
            self.hub_misses_frames = true;
            return Err(Ending::SpoolChanged);
        }
        self.welcome(*welcome).await
    }

    async fn welcome(&mut self, welcome: Welcome) -> Result<Duration, Ending> {
        let bounded =
            |ms: u64| Duration::from_millis(ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end()));
        self.timeout = bounded(welcome.heartbeat_timeout_ms);
        self.window = Window::new(welcome.acked_seq);
        self.welcomed_at = Some(Instant::now());
        self.link.recorder.acked(&self.spool_id, welcome.acked_seq);
        info!(agent.id = %welcome.agent_id, org.id = %welcome.org_id, "welcomed by the hub");
        self.tell(News::Welcome { server_time: welcome.server_time }).await;
        self.tell(News::Config(welcome.config)).await;
        Ok(bounded(welcome.heartbeat_interval_ms))
    }

    /// All after the welcome, until the connection ends or it is time to say bye.
    async fn converse(&mut self, heartbeat_interval: Duration) -> Result<Bye, Ending> {
        let mut beat = interval_at(Instant::now() + heartbeat_interval, heartbeat_interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut position = self.link.recorder.position();
        position.mark_changed();
        loop {
            if let Some((bye, by)) = self.leaving
                && (self.window.is_done(self.last) || Instant::now() >= by)
            {
                return Ok(bye);
            }
            self.read_more();
            let silent_at = self.heard_at + self.timeout;
            tokio::select! {
                received = self.socket.next() => {
                    if let Some(frame) = self.read(received)? {
                        self.take(frame).await;
                    }
                }
                batch = answer(&mut self.reading) => self.send_batch(batch).await?,
                Ok(()) = position.changed() => {
                    let position = position.borrow_and_update();
                    if position.spool_id != self.spool_id {
                        return Err(Ending::SpoolChanged);
                    }
                    self.last = position.last;
                }
                _ = beat.tick() => self.beat().await?,
                Some(progress) = self.link.progress.recv() => self.send_progress(progress).await?,
                bye = told_to_leave(&mut self.link.leave), if self.leaving.is_none() => {
                    self.leaving = Some((bye, Instant::now() + FAREWELL));
                }
                () = sleep_until(silent_at) => return Err(Ending::Silent),
                () = sleep_to(self.resume_at) => self.resume_at = None,
                () = sleep_to(self.leaving.map(|(_, by)| by)) => {}
                () = sleep_to(self.drain_at) => {
                    return Err(Ending::Drained { reconnect_after: Duration::ZERO });
                }
            }
        }
    }

    /// One message of the socket; a frame if it holds one that this version knows.
    fn read(
        &mut self,
        received: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<HubFrame>, Ending> {
        let message = match received {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(Ending::Lost { error: error.to_string() }),
            None => return Err(Ending::Lost { error: "the connection ended".to_owned() }),
        };
        self.heard_at = Instant::now();
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(frame) => Ok(Some(frame)),
                Err(error) => {
                    // A newer hub may say more than this agent knows.
                    debug!(%error, "a frame of the hub was not understood");
                    Ok(None)
                }
            },
            Message::Close(close) => {
                Err(Ending::Closed { code: close.map(|close| close.code.into()) })
            }
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                Ok(None)
            }
        }
    }

    async fn take(&mut self, frame: HubFrame) {
        match frame {
            HubFrame::Ack { seq } => {
                if let Some(acked) = self.window.ack(seq) {
                    self.link.recorder.acked(&self.spool_id, acked);
                }
            }
            HubFrame::Config(config) => self.tell(News::Config(config)).await,
            HubFrame::Command(command) => self.tell(News::Command(command)).await,
            HubFrame::Error(error) => log_error(&error),
            HubFrame::Drain { reconnect_after_ms } => {
                let after = Duration::from_millis(reconnect_after_ms.min(*HEARTBEAT_MS.end()));
                // Jitter, so that not all agents of the node arrive at its neighbour at once.
                let jitter =
                    after.max(Duration::from_millis(500)).mul_f64(rand::random_range(0.0..0.25));
                self.drain_at.get_or_insert(Instant::now() + after + jitter);
            }
            HubFrame::Welcome(_) => debug!("a second welcome was ignored"),
        }
    }

    /// Asks the spool for what may be sent now.
    fn read_more(&mut self) {
        let wanted = self.window.room(self.last);
        if self.reading.is_some() || self.resume_at.is_some() || wanted == 0 {
            return;
        }
        let paced = self.pace.room(Instant::now());
        if paced == 0 {
            self.resume_at = Some(self.pace.refilled_at());
            return;
        }
        let count = usize::try_from(wanted.min(paced).min(BATCH_FRAMES)).unwrap_or(usize::MAX);
        self.reading = Some(self.link.recorder.read(self.window.sent(), count, BATCH_BYTES));
    }

    async fn send_batch(&mut self, batch: Option<Batch>) -> Result<(), Ending> {
        let batch = batch.ok_or(Ending::SpoolChanged)?;
        if batch.spool_id != self.spool_id {
            return Err(Ending::SpoolChanged);
        }
        if batch.frames.is_empty() {
            self.resume_at = Some(Instant::now() + READ_AGAIN);
        }
        let mut messages = Vec::with_capacity(batch.frames.len());
        for (seq, text) in batch.frames {
            if !self.window.send(seq) {
                return Err(Ending::SpoolChanged);
            }
            self.pace.take(Instant::now());
            messages.push(Message::text(text));
        }
        self.send(messages).await
    }

    /// A sign of life, and a ping: its pong tells that the hub lives.
    async fn beat(&mut self) -> Result<(), Ending> {
        let spool_depth = self.last.saturating_sub(self.link.recorder.position().borrow().acked);
        let host = &mut self.link.host;
        let beat = Heartbeat { uptime_s: host.uptime_s(), spool_depth, load: host.load() };
        let text = encode(&AgentFrame::Heartbeat(beat))?;
        self.send(vec![text, Message::Ping(Vec::new().into())]).await
    }

    async fn send_progress(&mut self, progress: ScanProgress) -> Result<(), Ending> {
        self.send_frame(&AgentFrame::ScanProgress(progress)).await
    }

    /// Says bye and closes, as politely as the time allows.
    async fn part(&mut self, bye: Bye) {
        if self.send_frame(&AgentFrame::Bye(bye)).await.is_ok() {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        let normal = CloseFrame { code: WsCloseCode::Normal, reason: "".into() };
        let closing = async {
            // Errors mean that the connection is gone already.
            let _gone = self.socket.close(Some(normal)).await;
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        // Past its time the connection is simply dropped.
        let _late = timeout(CLOSING, closing).await;
    }

    async fn send_frame(&mut self, frame: &AgentFrame) -> Result<(), Ending> {
        let message = encode(frame)?;
        self.send(vec![message]).await
    }

    /// Sends messages with one flush. A hub that takes nothing for the heartbeat timeout counts as silent.
    async fn send(&mut self, messages: Vec<Message>) -> Result<(), Ending> {
        let sending = async {
            for message in messages {
                self.socket.feed(message).await?;
            }
            self.socket.flush().await
        };
        match timeout(self.timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ending::Lost { error: error.to_string() }),
            Err(_) => Err(Ending::Silent),
        }
    }

    async fn tell(&self, news: News) {
        if self.link.news.send(news).await.is_err() {
            debug!("the agent stops and hears no more news");
        }
    }
}

fn is_gap(ending: &Ending) -> bool {
    *ending == Ending::Closed { code: Some(CloseCode::SequenceGap.code()) }
}

fn encode(frame: &AgentFrame) -> Result<Message, Ending> {
    serde_json::to_string(frame)
        .map(Message::text)
        .map_err(|error| Ending::Lost { error: error.to_string() })
}

fn log_error(error: &AgentError) {
    if error.fatal {
        error!(error = %error.message, code = %error.code, "the hub reports a fatal error");
    } else {
        warn!(error = %error.message, code = %error.code, seq = error.seq, "the hub reports an error");
    }
}

/// The spool's answer; nothing if its thread is gone. Waits for ever if none is asked for.
async fn answer(reading: &mut Option<oneshot::Receiver<Batch>>) -> Option<Batch> {
    match reading {
        Some(receiver) => {
            let batch = receiver.await.ok();
            *reading = None;
            batch
        }
        None => pending().await,
    }
}

/// The order to leave, when it comes.
async fn told_to_leave(leave: &mut watch::Receiver<Option<Bye>>) -> Bye {
    let told = leave.wait_for(Option::is_some).await.ok().and_then(|bye| *bye);
    match told {
        Some(bye) => bye,
        // The agent is gone without a word; this task ends with it.
        None => pending().await,
    }
}

async fn sleep_to(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
