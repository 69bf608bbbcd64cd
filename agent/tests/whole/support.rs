//! A hub for the tests: it takes connections on a free port, and each test plays it frame by frame.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pulse_agent::config::{Args, Config};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentConfig, AgentFrame, CheckConfig, Hello, HubFrame, Welcome};
use pulse_protocol::ids::{AgentId, CheckId, DeviceId, OrgId};
use pulse_protocol::key::AgentKey;
use pulse_protocol::status::CheckKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Longer than anything in a test should take, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `event`, and fails the test rather than hang.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// The key of the agent under test.
pub(crate) fn key() -> AgentKey {
    AgentKey::from_random("demo", "0123456789ABCDEFGHIJabcdef").unwrap()
}

/// The hub's side.
pub(crate) struct FakeHub {
    listener: TcpListener,
}

impl FakeHub {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// The next connection as it comes.
    pub(crate) async fn tcp(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.unwrap().0
    }

    /// The next connection, upgraded; its first frame must be a hello.
    pub(crate) async fn greet(&self) -> (Agent, Hello) {
        let stream = self.tcp().await;
        #[allow(clippy::result_large_err, reason = "the signature is the websocket library's")]
        let callback = |request: &Request,
                        mut response: Response|
         -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/ws/agent");
            assert_eq!(request.headers()["authorization"], format!("Bearer {}", key().secret()));
            assert_eq!(request.headers()["sec-websocket-protocol"], "pulse.agent.v1");
            response
                .headers_mut()
                .insert("sec-websocket-protocol", "pulse.agent.v1".parse().unwrap());
            Ok(response)
        };
        let mut agent = Agent { socket: accept_hdr_async(stream, callback).await.unwrap() };
        match agent.next().await {
            AgentFrame::Hello(hello) => (agent, hello),
            frame => panic!("the first frame was {frame:?}"),
        }
    }

    /// The next connection, welcomed with everything up to `acked_seq` acked.
    pub(crate) async fn welcome(&self, acked_seq: u64, checks: Vec<CheckConfig>) -> (Agent, Hello) {
        let (mut agent, hello) = self.greet().await;
        agent.tell(&welcome(acked_seq, checks)).await;
        (agent, hello)
    }
}

pub(crate) fn welcome(acked_seq: u64, checks: Vec<CheckConfig>) -> HubFrame {
    HubFrame::Welcome(Box::new(Welcome {
        agent_id: AgentId::new(),
        name: "test".to_owned(),
        org_id: OrgId::new(),
        server_time: Timestamp::wall_clock(),
        heartbeat_interval_ms: 200,
        heartbeat_timeout_ms: 1000,
        acked_seq,
        config: AgentConfig { version: 1, segments: Vec::new(), checks },
        latest_agent_version: None,
    }))
}

/// The agent as the hub sees it.
pub(crate) struct Agent {
    socket: WebSocketStream<TcpStream>,
}

impl Agent {
    pub(crate) async fn tell(&mut self, frame: &HubFrame) {
        self.socket.send(Message::text(serde_json::to_string(frame).unwrap())).await.unwrap();
    }

    pub(crate) async fn message(&mut self) -> Option<Message> {
        soon("a message", self.socket.next()).await.and_then(Result::ok)
    }

    /// The next frame, of whatever kind.
    pub(crate) async fn next(&mut self) -> AgentFrame {
        loop {
            match self.message().await.expect("the agent closed the connection") {
                Message::Text(text) => return AgentFrame::parse(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                message => panic!("{message:?} came"),
            }
        }
    }

    /// The next frame that changes state.
    pub(crate) async fn next_state(&mut self) -> AgentFrame {
        loop {
            let frame = self.next().await;
            if frame.seq().is_some() {
                return frame;
            }
        }
    }

    /// State frames until `is_last` holds for one; that one.
    pub(crate) async fn until(
        &mut self,
        mut is_last: impl FnMut(&AgentFrame) -> bool,
    ) -> AgentFrame {
        let mut seq = None;
        loop {
            let frame = self.next_state().await;
            assert!(
                seq.is_none() || frame.seq() == seq.map(|seq: u64| seq + 1),
                "{frame:?} after {seq:?}"
            );
            seq = frame.seq();
            if is_last(&frame) {
                return frame;
            }
        }
    }

    pub(crate) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    /// The code the agent closes with.
    pub(crate) async fn closing(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(close) = self.message().await? {
                return close.map(|close| close.code.into());
            }
        }
    }
}

/// A running agent; it stops when told.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(hub: &FakeHub, data_dir: &Path) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let args = Args {
            hub_url: Some(hub.url()),
            agent_key: Some(key().secret().to_owned()),
            agent_key_file: None,
            data_dir: data_dir.to_owned(),
            spool_bytes_max: "2097152".to_owned(),
            networks: "on".to_owned(),
            ui: "off".to_owned(),
            upgrade: "off".to_owned(),
            log: "info".to_owned(),
        };
        let config = Config::check(&args).unwrap();
        let task = tokio::spawn(async move {
            let stop = async { stopped.await.unwrap_or(()) };
            pulse_agent::run(config, stop).await.unwrap();
        });
        Self { stop: Some(stop), task }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the agent's end.
    pub(crate) async fn ended(&mut self) {
        soon("the agent's end", &mut self.task).await.unwrap();
    }

    /// Ends the agent in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // It was aborted: an error is what is expected.
        let _aborted = self.task.await;
    }
}

/// A tcp check of `port` on this machine, every second.
pub(crate) fn tcp_check(port: u16) -> CheckConfig {
    CheckConfig {
        check_id: CheckId::new(),
        device_id: DeviceId::new(),
        address: "127.0.0.1".to_owned(),
        check: CheckKind::Tcp,
        port: Some(port),
        url: None,
        interval_s: 1,
        timeout_ms: 2000,
        failure_threshold: 1,
        expect: None,
    }
}
