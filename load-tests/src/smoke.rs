//! Agents and viewers against a hub in miniature: enough of the protocol to see that both keep to it, and that a
//! hub that loses, repeats or cuts off is found out.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use pulse_protocol::agent::AgentFrame;
use pulse_protocol::api::DeliveryState;
use pulse_protocol::ids::{AgentId, CheckId, OrgId};
use pulse_protocol::status::DeviceStatus;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::agent::{AgentRecord, SimAgent, SimDevice};
use crate::checker::{Fault, Seen, changes};
use crate::crew::{Crew, Mode, Tally};
use crate::entrance::Entrance;
use crate::receiver::{Manner, Receiver};
use crate::rest::http_client;
use crate::scenario::deliveries::verdict::{Case, Listed, judge};
use crate::viewer::{Audience, Curtain, SimViewer, ViewerRecord};
use crate::wire::{Clock, Mark};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "vp_good";

/// What the miniature does wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Tricks {
    /// Cuts the agent off, once, when this many frames came: the last was taken, but not acked.
    cut_at: Option<u64>,
    /// Acks this frame without writing it down.
    lose: Option<u64>,
    /// Sends this event twice to dashboards.
    double: Option<u64>,
    /// Forgets, when it cuts the agent off, so many frames that it acked.
    forget: u64,
}

/// One org, one agent, all in memory.
struct Miniature {
    tricks: Tricks,
    devices: Vec<CheckId>,
    journal: Mutex<Vec<(Seen, String)>>,
    written: watch::Sender<u64>,
    acked: Mutex<u64>,
}

impl Miniature {
    async fn start(tricks: Tricks, devices: Vec<CheckId>) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let miniature = Arc::new(Self {
            tricks,
            devices,
            journal: Mutex::new(Vec::new()),
            written: watch::Sender::new(0),
            acked: Mutex::new(0),
        });
        let hub = Arc::clone(&miniature);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&hub).serve(stream));
            }
        });
        (miniature, address)
    }

    #[expect(clippy::result_large_err, reason = "the library asks for this type")]
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut path = String::new();
        let upgrade = |request: &Request, mut response: Response| {
            let header = |name: &str| request.headers().get(name).cloned();
            if header("authorization").is_none_or(|bearer| bearer == "Bearer vp_bad") {
                let mut refusal = ErrorResponse::new(Some("unauthenticated".to_owned()));
                *refusal.status_mut() =
                    tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
                return Err(refusal);
            }
            path = request.uri().to_string();
            let subprotocol = header("sec-websocket-protocol").unwrap();
            response.headers_mut().insert("sec-websocket-protocol", subprotocol);
            Ok(response)
        };
        let Ok(socket) = accept_hdr_async(stream, upgrade).await else { return };
        // A client that went away is no failure of the miniature.
        let _ = match path.split_once("after=") {
            _ if path == "/ws/agent" => self.serve_agent(socket).await,
            Some((_, after)) => self.serve_dashboard(socket, after.parse().ok()).await,
            None => self.serve_dashboard(socket, None).await,
        };
    }

    async fn serve_agent(&self, mut socket: WebSocketStream<TcpStream>) -> Option<()> {
        let hello = socket.next().await?.ok()?.into_text().ok()?;
        let AgentFrame::Hello(_) = AgentFrame::parse(&hello).unwrap() else { panic!("no hello") };
        let acked = *self.acked.lock();
        let welcome = format!(
            r#"{{"type":"welcome","agent_id":"a","acked_seq":{acked},"heartbeat_interval_ms":50,"config":{{}}}}"#
        );
        socket.send(Message::text(welcome)).await.ok()?;
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let AgentFrame::Report(report) = AgentFrame::parse(&text).unwrap() else { continue };
            if report.seq > *self.acked.lock() {
                assert_eq!(report.seq, *self.acked.lock() + 1, "a gap");
                *self.acked.lock() = report.seq;
                if self.tricks.lose != Some(report.seq) {
                    self.write_down(&report.reports);
                }
                if self.tricks.cut_at == Some(report.seq) {
                    *self.acked.lock() -= self.tricks.forget;
                    return None;
                }
            }
            let ack = format!(r#"{{"type":"ack","seq":{}}}"#, report.seq);
            socket.send(Message::text(ack)).await.ok()?;
        }
        None
    }

    fn write_down(&self, results: &[pulse_protocol::agent::CheckResult]) {
        let mut journal = self.journal.lock();
        for result in results {
            let device = self.devices.iter().position(|id| Some(*id) == result.check_id).unwrap();
            let online = result.status == DeviceStatus::Online;
            let time = result.response_time_ms;
            let mark = time.map(|ms| Mark::from_ms(ms).unwrap());
            let event = format!(
                r#"{{"type":"event","seq":{},"id":"evt_x","event":"device.{}","data":{{"response_time_ms":{}}}}}"#,
                journal.len() + 1,
                if online { "online" } else { "offline" },
                serde_json::to_string(&time).unwrap()
            );
            journal.push((Seen { device: u16::try_from(device).unwrap(), online, mark }, event));
        }
        self.written.send_replace(journal.len() as u64);
    }

    async fn serve_dashboard(
        &self,
        mut socket: WebSocketStream<TcpStream>,
        after: Option<u64>,
    ) -> Option<()> {
        let mut written = self.written.subscribe();
        let mut sent = after.unwrap_or(*written.borrow());
        let first = if after.is_some() { "ready" } else { "snapshot" };
        socket.send(Message::text(format!(r#"{{"type":"{first}","seq":{sent}}}"#))).await.ok()?;
        loop {
            written.wait_for(|written| *written > sent).await.ok()?;
            let event = self.journal.lock()[usize::try_from(sent).unwrap()].1.clone();
            sent += 1;
            let times = if self.tricks.double == Some(sent) { 2 } else { 1 };
            for _ in 0..times {
                socket.send(Message::text(event.clone())).await.ok()?;
            }
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.journal.lock().iter().map(|(seen, _)| *seen).collect()
    }
}

/// What the actors of a play have to show.
struct Scene {
    record: AgentRecord,
    viewer: ViewerRecord,
    seen: Vec<Seen>,
    crew: Arc<Crew>,
    audience: Arc<Audience>,
}

/// One viewer watches while one agent toggles three devices, until `enough` changes are acked.
async fn play(tricks: Tricks, key: &str, load: Mode, enough: u64) -> Scene {
    let devices: Vec<CheckId> = (0..3).map(|_| CheckId::new()).collect();
    let (miniature, address) = Miniature::start(tricks, devices.clone()).await;
    let clock = Clock::start();
    let (mode, mode_seen) = watch::channel(Mode::Idle);
    let (curtain, curtain_seen) = watch::channel(Curtain::Open);
    let crew = Arc::new(Crew {
        entrance: Entrance::single(address),
        clock,
        mode: mode_seen,
        reports_per_frame: 2,
        backoff_max: Duration::from_millis(100),
        doors: Semaphore::new(1),
        tally: Tally::new(),
    });
    let audience = Arc::new(Audience::new(Entrance::single(address), clock, curtain_seen, 1));
    let org = OrgId::new();
    let viewer = SimViewer::new(Arc::clone(&audience), org, "vpt_x".to_owned(), 0);
    let viewer = tokio::spawn(viewer.run());
    audience.watching.subscribe().wait_for(|watching| *watching == 1).await.unwrap();

    let devices = devices.iter().map(|id| SimDevice { check_id: *id, online: false }).collect();
    let agent = SimAgent::new(Arc::clone(&crew), AgentId::new(), key.to_owned(), devices);
    let agent: JoinHandle<AgentRecord> = tokio::spawn(agent.run());
    mode.send_replace(load);
    let acked = |crew: &Crew| crew.tally.acked_changes.load(Ordering::Relaxed);
    while acked(&crew) < enough && !agent.is_finished() {
        tokio::task::yield_now().await;
    }
    mode.send_replace(Mode::Idle);
    while crew.tally.unacked_frames.load(Ordering::Relaxed) > 0 && !agent.is_finished() {
        tokio::task::yield_now().await;
    }
    mode.send_replace(Mode::Stop);
    let record = agent.await.unwrap();
    let last = *miniature.written.borrow();
    curtain.send_replace(Curtain::After(Arc::new([(org, last)].into())));
    let viewer = viewer.await.unwrap();
    Scene { record, viewer, seen: miniature.seen(), crew, audience }
}

impl Scene {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = changes("a", &self.record.sent, self.record.acked, &self.seen);
        faults.extend(self.viewer.faults.clone());
        faults.extend(self.crew.tally.take_faults());
        faults
    }
}

async fn watched(tricks: Tricks, load: Mode, enough: u64) -> Scene {
    timeout(PATIENCE, play(tricks, KEY, load, enough)).await.expect("the play ends")
}

#[tokio::test]
async fn a_closed_loop_is_acked_journalled_and_seen_whole() {
    let scene = watched(Tricks::default(), Mode::Closed, 2_000).await;
    assert_eq!(scene.faults(), []);
    assert_eq!(scene.record.acked, scene.record.sent.len());
    assert_eq!(scene.viewer.last, scene.record.sent.len() as u64);
    let online = scene.record.sent.iter().filter(|change| change.online).count();
    assert_eq!(scene.audience.take_latency().summary().count, online as u64);
    let (to_ack, _) = scene.crew.tally.take_latencies();
    assert_eq!(to_ack.summary().count, scene.record.sent.len() as u64 / 2);
}

#[tokio::test]
async fn an_open_loop_keeps_its_pace() {
    let scene = watched(Tricks::default(), Mode::Paced(Duration::from_millis(2)), 100).await;
    assert_eq!(scene.faults(), []);
    let (_, lag) = scene.crew.tally.take_latencies();
    assert!(lag.percentile_ms(50.0) < 1_000.0, "{:?}", lag.summary());
}

#[tokio::test]
async fn what_was_not_acked_is_resent_after_a_cut_and_taken_once() {
    let scene =
        watched(Tricks { cut_at: Some(40), ..Tricks::default() }, Mode::Closed, 2_000).await;
    assert_eq!(scene.faults(), []);
    assert_eq!(scene.crew.tally.lost_connections.load(Ordering::Relaxed), 1);
    assert_eq!(scene.record.acked, scene.record.sent.len());
}

#[tokio::test]
async fn a_hub_that_loses_an_acked_change_is_found_out() {
    let scene = watched(Tricks { lose: Some(40), ..Tricks::default() }, Mode::Closed, 500).await;
    let what = "agent a acked changes 78 to 79".to_owned();
    assert_eq!(scene.faults(), [Fault::Lost { what }]);
}

#[tokio::test]
async fn a_hub_that_pushes_an_event_twice_is_found_out() {
    let scene = watched(Tricks { double: Some(40), ..Tricks::default() }, Mode::Closed, 500).await;
    assert!(
        matches!(&scene.faults()[..], [Fault::Repeated { what }] if what.ends_with("number 40"))
    );
}

#[tokio::test]
async fn a_hub_that_forgets_what_it_acked_is_found_out() {
    let tricks = Tricks { cut_at: Some(600), forget: 300, ..Tricks::default() };
    let play = play(tricks, KEY, Mode::Closed, 100_000);
    let scene = timeout(PATIENCE, play).await.expect("the play ends");
    let faults = scene.faults();
    assert!(
        matches!(&faults[0], Fault::Lost { what } if what.contains("welcomed after 300")),
        "{faults:?}"
    );
}

#[tokio::test]
async fn an_agent_that_is_turned_away_gives_up_and_says_so() {
    let play = play(Tricks::default(), "vp_bad", Mode::Idle, 1);
    let scene = timeout(PATIENCE, play).await.expect("the play ends");
    let faults = scene.faults();
    assert!(matches!(&faults[..], [Fault::Broken(text)] if text.contains("401")), "{faults:?}");
}

/// Delivers three messages, each in up to three attempts, and says what became of them: the truth, or that all were
/// delivered. Returns what the verdict makes of it.
async fn deliver(manner: Manner, is_honest: bool) -> Vec<Fault> {
    let receiver = Receiver::of(manner, None).await.unwrap();
    let client = http_client(Duration::from_millis(300)).unwrap();
    let called: BTreeSet<u64> = (1..=3).collect();
    let mut listed = Vec::new();
    for &seq in &called {
        let id = format!("dlv_{seq}");
        let mut is_accepted = false;
        for _ in 0..3 {
            let post = client.post(receiver.url("/org")).header("webhook-id", &id).body("{}");
            is_accepted |= post.send().await.is_ok_and(|answer| answer.status().is_success());
        }
        let says_accepted = is_accepted || !is_honest;
        let state = if says_accepted { DeliveryState::Delivered } else { DeliveryState::Dead };
        let is_scheduled = false;
        listed.push(Listed { id, seq, state, is_scheduled, shows_acceptance: says_accepted });
    }
    let received = receiver.take();
    let nothing = HashMap::new();
    let accepted = received.by_path.get("/org").unwrap_or(&nothing);
    let always_accepts = manner.always_accepts();
    let case =
        Case { name: manner.name(), called: &called, listed: &listed, accepted, always_accepts };
    judge(&case)
}

#[tokio::test]
async fn a_hub_that_says_delivered_of_what_nobody_accepted_is_found_out() {
    let hubs = Manner::ALL.map(|manner| async move {
        (manner, deliver(manner, true).await, deliver(manner, false).await)
    });
    for (manner, truths, lies) in join_all(hubs).await {
        assert_eq!(truths, [], "{manner:?}");
        let accepts = manner.always_accepts() || manner == Manner::Throttling;
        assert_eq!(lies.len(), if accepts { 0 } else { 3 }, "{manner:?}: {lies:?}");
    }
}
