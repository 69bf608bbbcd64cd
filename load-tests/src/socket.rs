//! Opening the two kinds of session.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AGENT_SUBPROTOCOL, AgentErrorCode, AgentFrame, Hello, HubFrame, PROTOCOL_VERSION,
};
use pulse_protocol::dashboard::DASHBOARD_SUBPROTOCOL;
use pulse_protocol::ids::OrgId;
use pulse_protocol::status::Platform;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A websocket over plain TCP: the harness runs on the hub's own machine.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Acks are short, and ten thousand of these buffers are held at once.
const AGENT_BUFFER_BYTES: usize = 2 * 1024;
/// Room for a few hundred events in one read.
const DASHBOARD_BUFFER_BYTES: usize = 64 * 1024;
/// Nobody waits longer to be let in, or for a welcome; a real agent neither.
const WELCOME_PATIENCE: Duration = Duration::from_secs(10);

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Try again: the hub is away, busy, or went away meanwhile.
    #[error("not now: {0}")]
    NotNow(String),
    /// Try again: the load balancer has no node to send anybody to.
    #[error("no node is up")]
    NoNode,
    /// Trying again is pointless.
    #[error("refused: {0}")]
    Refused(String),
    /// The hub does not know what it acked.
    #[error("a gap: {0}")]
    Gap(String),
}

impl From<WsError> for OpenError {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Http(answer) => {
                let status = answer.status();
                let body =
                    answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let text = format!("{status} {body}");
                let is_passing = status.is_server_error() || status.as_u16() == 429;
                if is_passing { Self::NotNow(text) } else { Self::Refused(text) }
            }
            WsError::Url(_) | WsError::HttpFormat(_) => Self::Refused(error.to_string()),
            other => Self::NotNow(other.to_string()),
        }
    }
}

/// What the harness reads of a `welcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Welcomed {
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) acked_seq: u64,
}

/// Connects an agent and waits for its `welcome`.
pub(crate) async fn open_agent(
    address: SocketAddr,
    key: &str,
    spool_id: &str,
    next_seq: u64,
) -> Result<(Socket, Welcomed), OpenError> {
    let path = format!("ws://{address}/ws/agent");
    let mut socket = upgrade(address, &path, key, AGENT_SUBPROTOCOL, AGENT_BUFFER_BYTES).await?;
    let hello = AgentFrame::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: "load".to_owned(),
        platform: Platform::Linux,
        arch: std::env::consts::ARCH.to_owned(),
        boot_id: spool_id.to_owned(),
        spool_id: spool_id.to_owned(),
        next_seq,
        sent_at: Timestamp::wall_clock(),
    });
    socket.send(Message::Text(json_text(&hello))).await?;
    let first = tokio::time::timeout(WELCOME_PATIENCE, first_text(&mut socket)).await;
    let text =
        first.map_err(|_| OpenError::NotNow(format!("no welcome in {WELCOME_PATIENCE:?}")))??;
    if let Ok(HubFrame::Error(error)) = serde_json::from_str(&text) {
        let said = format!("{}: {}", error.code, error.message);
        let is_gap = error.code == AgentErrorCode::SeqGap;
        return Err(if is_gap { OpenError::Gap(said) } else { OpenError::NotNow(said) });
    }
    let welcomed: Welcomed = serde_json::from_str(&text)
        .map_err(|_| OpenError::NotNow("the first frame was no welcome".to_owned()))?;
    if welcomed.acked_seq + 1 < next_seq {
        let text = format!("welcomed after {}, and {} was acked", welcomed.acked_seq, next_seq - 1);
        return Err(OpenError::Gap(text));
    }
    Ok((socket, welcomed))
}

/// Connects a dashboard that has seen everything up to `after`, or nothing yet.
pub(crate) async fn open_dashboard(
    address: SocketAddr,
    org: OrgId,
    token: &str,
    after: Option<u64>,
) -> Result<Socket, OpenError> {
    let after = after.map(|seq| format!("&after={seq}")).unwrap_or_default();
    let path = format!("ws://{address}/ws/dashboard?org={org}{after}");
    upgrade(address, &path, token, DASHBOARD_SUBPROTOCOL, DASHBOARD_BUFFER_BYTES).await
}

async fn upgrade(
    address: SocketAddr,
    path: &str,
    bearer: &str,
    subprotocol: &str,
    buffer_bytes: usize,
) -> Result<Socket, OpenError> {
    let uri: Uri =
        path.parse().map_err(|_| OpenError::Refused(format!("`{path}` is no address")))?;
    let stream = TcpStream::connect(address).await.map_err(|e| OpenError::NotNow(e.to_string()))?;
    // A frame is a message of its own: it must not wait for the next one.
    stream.set_nodelay(true).map_err(|error| OpenError::NotNow(error.to_string()))?;
    let request = ClientRequestBuilder::new(uri)
        .with_header("authorization", format!("Bearer {bearer}"))
        .with_sub_protocol(subprotocol);
    let config = WebSocketConfig::default().read_buffer_size(buffer_bytes);
    let opening = client_async_with_config(request, stream, Some(config));
    let opened = tokio::time::timeout(WELCOME_PATIENCE, Box::pin(opening)).await;
    let (socket, _) =
        opened.map_err(|_| OpenError::NotNow("no answer to the upgrade".to_owned()))??;
    Ok(socket)
}

/// The next text frame; an end of the connection is an error.
pub(crate) async fn first_text(socket: &mut Socket) -> Result<Utf8Bytes, OpenError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                return Err(OpenError::NotNow(format!("closed with {code}")));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(OpenError::NotNow("the connection ended".to_owned())),
        }
    }
}

/// A frame as text.
#[expect(clippy::expect_used, reason = "frames have string keys and finite numbers only")]
pub(crate) fn json_text(frame: &AgentFrame) -> Utf8Bytes {
    serde_json::to_string(frame).expect("a frame is always representable").into()
}
