//! The connection to the hub: made, kept, and made again.
//!
//! - In: what the recorder stored, scan progress, the order to leave.
//! - Out: [`News`] from the hub to the agent; acks to the recorder.
//!
//! Nothing that matters lives here: a connection can be lost at any moment, and the next one goes on from what
//! the hub says it has.

mod pause;
mod session;
mod window;

use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AGENT_SUBPROTOCOL, AgentCommand, AgentConfig, Bye, FRAME_BYTES_MAX, ScanProgress,
};
use pulse_protocol::key::AgentKey;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::http::{self, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};
use tracing::{info, warn};
use url::Url;

pub use self::pause::{Ending, Pause, Waits, pause_after};
use self::session::Session;
pub use self::window::{Pace, WINDOW, Window};
use crate::host::Host;
use crate::recorder::Recorder;

/// Time for the connection, its TLS and its upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the hub told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A connection was welcomed at this time of the hub's clock.
    Welcome {
        /// The hub's clock.
        server_time: Timestamp,
    },
    /// What to watch.
    Config(AgentConfig),
    /// Something to do.
    Command(AgentCommand),
}

/// What the link needs of its surroundings.
pub struct Link {
    /// Address of the agent's websocket.
    pub session_url: Url,
    /// Who the agent is.
    pub key: AgentKey,
    /// Trust in the hub's certificate.
    pub tls: Arc<ClientConfig>,
    /// The machine.
    pub host: Host,
    /// The owner of the spool.
    pub recorder: Recorder,
    /// To the agent.
    pub news: mpsc::Sender<News>,
    /// Frames that are told now or never.
    pub progress: mpsc::Receiver<ScanProgress>,
    /// The order to leave.
    pub leave: watch::Receiver<Option<Bye>>,
}

impl Link {
    /// Keeps the connection until it is told to leave.
    pub async fn run(mut self) {
        let mut waits = Waits::default();
        while self.leave.borrow().is_none() {
            let (ending, welcomed_for) = self.connect_once().await;
            if ending == Ending::Left {
                return;
            }
            let wait = waits.next(&ending, welcomed_for);
            let seconds = wait.as_secs_f64();
            warn!("not connected to the hub: {ending}; next attempt in {seconds:.1} s");
            tokio::select! {
                () = sleep(wait) => {}
                // An error means that the agent is gone, and then the loop's condition has no say either.
                _ = self.leave.changed() => return,
            }
        }
    }

    /// One connection from its beginning to its end, and how long it lived after its welcome.
    async fn connect_once(&mut self) -> (Ending, Option<Duration>) {
        let mut leave = self.leave.clone();
        let connected = tokio::select! {
            connected = self.connect() => connected,
            _ = leave.wait_for(Option::is_some) => return (Ending::Left, None),
        };
        let socket = match connected {
            Ok(socket) => socket,
            Err(ending) => return (ending, None),
        };
        let mut session = Session::new(self, socket);
        let ending = session.run().await;
        let welcomed_for = session.welcomed_at().map(|at| Instant::now().duration_since(at));
        if session.does_hub_miss_frames() {
            warn!(
                "the hub and the spool disagree on what was acked: a new sequence begins, nothing is dropped"
            );
            self.recorder.restart_sequence();
        }
        (ending, welcomed_for)
    }

    async fn connect(&self) -> Result<Socket, Ending> {
        let limits = WebSocketConfig::default()
            .read_buffer_size(8 * 1024)
            .write_buffer_size(8 * 1024)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let connector = Connector::Rustls(Arc::clone(&self.tls));
        let request = self.request()?;
        let connecting =
            connect_async_tls_with_config(request, Some(limits), true, Some(connector));
        match timeout(CONNECT_TIMEOUT, Box::pin(connecting)).await {
            Ok(Ok((socket, _))) => {
                info!("connected to the hub");
                Ok(socket)
            }
            Ok(Err(tungstenite::Error::Http(response))) => Err(refusal(&response)),
            Ok(Err(error)) => Err(Ending::Lost { error: error.to_string() }),
            Err(_) => Err(Ending::Lost { error: "the hub did not answer in time".to_owned() }),
        }
    }

    fn request(&self) -> Result<Request, Ending> {
        let lost = |error: String| Ending::Lost { error };
        let mut request = self
            .session_url
            .as_str()
            .into_client_request()
            .map_err(|error| lost(error.to_string()))?;
        let bearer = format!("Bearer {}", self.key.secret());
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|error| lost(error.to_string()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(AGENT_SUBPROTOCOL));
        Ok(request)
    }
}

fn refusal(response: &http::Response<Option<Vec<u8>>>) -> Ending {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Ending::Refused {
        status: response.status().as_u16(),
        retry_after: seconds.map(Duration::from_secs),
    }
}
