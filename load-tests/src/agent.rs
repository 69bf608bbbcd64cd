//! A simulated agent: it keeps its session as a real one does, and toggles its devices as it is told.
//!
//! What is not acked is resent after a reconnect, in order and with the same numbers, so an acked change that
//! the hub lost, or a resent one that it took twice, shows in the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use futures_util::{SinkExt, StreamExt};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentFrame, CheckResult, Heartbeat, HubFrame, Report};
use pulse_protocol::ids::{AgentId, CheckId};
use pulse_protocol::status::DeviceStatus;
use rand::Rng;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::checker::{Change, Fault};
use crate::crew::{Crew, Mode, full_jitter};
use crate::entrance::Entry;
use crate::scenario::part_of;
use crate::session::{Freshness, Session};
use crate::socket::{OpenError, Socket, Welcomed, json_text, open_agent};
use crate::wire::{Kind, glance};

/// State frames that may be unacked at once, by the protocol.
const WINDOW: usize = 256;

/// A device of a simulated agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimDevice {
    pub(crate) check_id: CheckId,
    /// What the hub last believed, or will believe once all is acked.
    pub(crate) online: bool,
}

/// What an agent has to show at the end.
#[derive(Debug)]
pub(crate) struct AgentRecord {
    pub(crate) id: AgentId,
    pub(crate) sent: Vec<Change>,
    /// So many of them, from the first, were acked.
    pub(crate) acked: usize,
    /// From each welcome to the end of its connection, in order.
    pub(crate) sessions: Vec<Session>,
}

#[derive(Debug)]
struct Pending {
    seq: u64,
    due: Instant,
    text: Utf8Bytes,
    changes: usize,
}

/// One agent.
#[derive(Debug)]
pub(crate) struct SimAgent {
    crew: Arc<Crew>,
    key: String,
    spool_id: String,
    devices: Vec<SimDevice>,
    turn: usize,
    last_seq: u64,
    window: VecDeque<Pending>,
    record: AgentRecord,
    freshness: Arc<Freshness>,
    started: Instant,
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    Stopped,
    Lost,
    Drained(Duration),
    Hopeless(Fault),
}

impl SimAgent {
    pub(crate) fn new(crew: Arc<Crew>, id: AgentId, key: String, devices: Vec<SimDevice>) -> Self {
        let spool_id = format!("{:032x}", rand::rng().random::<u128>());
        Self {
            crew,
            key,
            spool_id,
            devices,
            turn: 0,
            last_seq: 0,
            window: VecDeque::new(),
            record: AgentRecord { id, sent: Vec::new(), acked: 0, sessions: Vec::new() },
            freshness: Arc::default(),
            started: Instant::now(),
        }
    }

    /// How new the newest acked change is; can be looked at while the agent lives.
    pub(crate) fn freshness(&self) -> Arc<Freshness> {
        Arc::clone(&self.freshness)
    }

    /// Lives until the mode is [`Mode::Stop`].
    pub(crate) async fn run(mut self) -> AgentRecord {
        let mut backoff = full_jitter(self.crew.backoff_max);
        let mut mode = self.crew.mode.clone();
        let mut is_first = true;
        loop {
            let wait = match self.session(&mut backoff, is_first).await {
                End::Stopped => return self.record,
                End::Hopeless(fault) => {
                    self.crew.tally.fault(fault);
                    return self.record;
                }
                End::Drained(after) => after + part_of(after),
                End::Lost => backoff.next_backoff().unwrap_or(self.crew.backoff_max),
            };
            is_first = false;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = mode.wait_for(|mode| *mode == Mode::Stop) => return self.record,
            }
        }
    }

    async fn session(&mut self, backoff: &mut ExponentialBackoff, is_first: bool) -> End {
        let (mut socket, welcomed, entry) = match self.open(is_first).await {
            Ok(opened) => opened,
            Err(error) => {
                self.crew.tally.failed_attempts.fetch_add(1, Ordering::Relaxed);
                return self.turned_away(error);
            }
        };
        backoff.reset();
        self.crew.tally.online.send_modify(|online| *online += 1);
        let welcomed_at = Instant::now();
        let end = self.serve(&mut socket, welcomed).await;
        let ended_at = Instant::now();
        self.record.sessions.push(Session { address: entry.address(), welcomed_at, ended_at });
        self.crew.tally.online.send_modify(|online| *online -= 1);
        if matches!(end, End::Lost) {
            self.crew.tally.lost_connections.fetch_add(1, Ordering::Relaxed);
        }
        end
    }

    async fn open(&self, is_first: bool) -> Result<(Socket, Welcomed, Entry), OpenError> {
        let next_seq = self.window.front().map_or(self.last_seq + 1, |frame| frame.seq);
        let _door = if is_first { self.crew.doors.acquire().await.ok() } else { None };
        let entry = self.crew.entrance.enter().ok_or(OpenError::NoNode)?;
        let (socket, welcomed) =
            open_agent(entry.address(), &self.key, &self.spool_id, next_seq).await?;
        Ok((socket, welcomed, entry))
    }

    fn turned_away(&self, error: OpenError) -> End {
        match error {
            OpenError::NotNow(_) | OpenError::NoNode => End::Lost,
            OpenError::Refused(why) => End::Hopeless(Fault::Broken(format!(
                "agent {} was turned away: {why}",
                self.record.id
            ))),
            OpenError::Gap(why) => End::Hopeless(Fault::Lost {
                what: format!("frames of agent {}: {why}", self.record.id),
            }),
        }
    }

    async fn serve(&mut self, socket: &mut Socket, welcomed: Welcomed) -> End {
        self.take_ack(welcomed.acked_seq);
        if self.resend(socket).await.is_err() {
            return End::Lost;
        }
        let interval = Duration::from_millis(welcomed.heartbeat_interval_ms);
        let mut mode = self.crew.mode.clone();
        let mut now = Instant::now();
        // Spread over the interval: real agents do not beat in step.
        let mut beat_at = now + part_of(interval);
        let mut due = now;
        let timer = tokio::time::sleep_until(beat_at.into());
        tokio::pin!(timer);
        loop {
            let doing = self.able(*mode.borrow_and_update());
            let mut is_written = false;
            if now >= beat_at {
                beat_at = now + interval;
                if socket.feed(Message::Text(self.heartbeat())).await.is_err() {
                    return End::Lost;
                }
                is_written = true;
            }
            let mut wake_at = beat_at;
            match doing {
                Mode::Stop => return End::Stopped,
                Mode::Idle | Mode::Closed => due = now,
                Mode::Paced(every) => {
                    while due <= now && self.window.len() < WINDOW {
                        if self.report(socket, due).await.is_err() {
                            return End::Lost;
                        }
                        is_written = true;
                        due += every;
                    }
                    if due > now {
                        wake_at = wake_at.min(due);
                    }
                }
            }
            while doing == Mode::Closed && self.window.len() < WINDOW {
                if self.report(socket, Instant::now()).await.is_err() {
                    return End::Lost;
                }
                is_written = true;
            }
            if is_written && socket.flush().await.is_err() {
                return End::Lost;
            }
            if timer.deadline() != wake_at.into() {
                timer.as_mut().reset(wake_at.into());
            }
            tokio::select! {
                frame = socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => {
                        if let Some(end) = self.take(&text) {
                            return end;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Lost,
                    Some(Ok(_)) => {}
                },
                () = &mut timer => {}
                changed = mode.changed() => if changed.is_err() { return End::Stopped },
            }
            now = Instant::now();
        }
    }

    /// An agent without devices has nothing to report.
    fn able(&self, mode: Mode) -> Mode {
        let is_load = matches!(mode, Mode::Closed | Mode::Paced(_));
        if is_load && self.devices.is_empty() { Mode::Idle } else { mode }
    }

    fn take(&mut self, text: &Utf8Bytes) -> Option<End> {
        match glance(text.as_bytes()) {
            Ok(glance) if glance.kind == Kind::Ack => {
                self.take_ack(glance.seq);
                None
            }
            Ok(glance) if matches!(glance.kind, Kind::Config | Kind::Command) => None,
            Ok(_) => match serde_json::from_str(text) {
                Ok(HubFrame::Drain { reconnect_after_ms }) => {
                    Some(End::Drained(Duration::from_millis(reconnect_after_ms)))
                }
                Ok(HubFrame::Error(error)) => {
                    let text =
                        format!("agent {}: {} {}", self.record.id, error.code, error.message);
                    self.crew.tally.fault(Fault::Broken(text));
                    None
                }
                _ => None,
            },
            Err(error) => {
                self.crew.tally.fault(Fault::Broken(error.to_string()));
                None
            }
        }
    }

    fn take_ack(&mut self, seq: u64) {
        if seq > self.last_seq {
            let what = format!(
                "agent {}: ack of {seq}, the last sent was {}",
                self.record.id, self.last_seq
            );
            self.crew.tally.fault(Fault::NeverSent { what });
            return;
        }
        let now = Instant::now();
        let tally = &self.crew.tally;
        let mut latencies = tally.ack_latency.lock();
        while let Some(frame) = self.window.pop_front_if(|frame| frame.seq <= seq) {
            latencies.record(now - frame.due);
            self.freshness.renew(self.crew.clock.us(frame.due));
            self.record.acked += frame.changes;
            tally.acked_changes.fetch_add(frame.changes as u64, Ordering::Relaxed);
            tally.unacked_frames.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn resend(&self, socket: &mut Socket) -> Result<(), ()> {
        for frame in &self.window {
            socket.feed(Message::Text(frame.text.clone())).await.map_err(|_| ())?;
        }
        socket.flush().await.map_err(|_| ())
    }

    async fn report(&mut self, socket: &mut Socket, due: Instant) -> Result<(), ()> {
        let mark = self.crew.clock.mark(due);
        let checked_at = Timestamp::wall_clock();
        let mut reports = Vec::with_capacity(self.crew.reports_per_frame);
        for _ in 0..self.crew.reports_per_frame {
            let at = self.turn % self.devices.len();
            self.turn += 1;
            let device = &mut self.devices[at];
            device.online = !device.online;
            self.record.sent.push(Change {
                device: u16::try_from(at).unwrap_or(u16::MAX),
                online: device.online,
                mark,
            });
            reports.push(result(device, mark.as_ms(), checked_at));
        }
        self.last_seq += 1;
        let text = json_text(&AgentFrame::Report(Report { seq: self.last_seq, reports }));
        let tally = &self.crew.tally;
        tally.lag.lock().record(Instant::now() - due);
        tally.unacked_frames.fetch_add(1, Ordering::Relaxed);
        self.window.push_back(Pending {
            seq: self.last_seq,
            due,
            text: text.clone(),
            changes: self.crew.reports_per_frame,
        });
        socket.feed(Message::Text(text)).await.map_err(|_| ())
    }

    fn heartbeat(&self) -> Utf8Bytes {
        json_text(&AgentFrame::Heartbeat(Heartbeat {
            uptime_s: self.started.elapsed().as_secs(),
            spool_depth: self.window.len() as u64,
            load: None,
        }))
    }
}

fn result(device: &SimDevice, mark_ms: f64, checked_at: Timestamp) -> CheckResult {
    CheckResult {
        check_id: Some(device.check_id),
        device_id: None,
        address: None,
        check: None,
        status: if device.online { DeviceStatus::Online } else { DeviceStatus::Offline },
        response_time_ms: device.online.then_some(mark_ms),
        checked_at,
        error: None,
        tls: None,
    }
}
