//! A hub's edge on a free port, and clients that speak to it as anybody could.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use prometheus::Registry;
use pulse_actors::mailer::Courier;
use pulse_actors::ports::{Accounts, AgentLogin, SessionLogin, StoreError, TokenLogin};
use pulse_actors::testing::{MemoryMails, ScriptedMailSender, World};
use pulse_domain::record::SecretHash;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AGENT_SUBPROTOCOL, AgentFrame};
use pulse_protocol::api::{Membership, OrgStatus, Role, User};
use pulse_protocol::dashboard::DASHBOARD_SUBPROTOCOL;
use pulse_protocol::ids::{AgentId, OrgId, SessionId, TokenId, UserId};
use pulse_protocol::key::AgentKey;
use pulse_web::links::Links;
use pulse_web::metrics::Metrics;
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::kind::Kinds;
use pulse_web::secrets::{hash_secret, new_api_token};
use pulse_web::socket::limits::{LimitSettings, Limits};
use pulse_web::{Attempts, Passwords, WebSettings, WebState};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct TestAccounts {
    agents: Mutex<HashMap<SecretHash, AgentLogin>>,
    tokens: Mutex<HashMap<SecretHash, TokenLogin>>,
    roles: Mutex<HashMap<(UserId, OrgId), Role>>,
}

#[async_trait]
impl Accounts for TestAccounts {
    async fn agent_by_key(
        &self,
        key_hash: &SecretHash,
        _: Timestamp,
    ) -> Result<Option<AgentLogin>, StoreError> {
        Ok(self.agents.lock().get(key_hash).copied())
    }

    async fn user_by_email(&self, _: &str) -> Result<Option<(User, String)>, StoreError> {
        Ok(None)
    }

    async fn memberships(&self, _: UserId) -> Result<Vec<Membership>, StoreError> {
        Ok(vec![])
    }

    async fn role(&self, user_id: UserId, org_id: OrgId) -> Result<Option<Role>, StoreError> {
        Ok(self.roles.lock().get(&(user_id, org_id)).copied())
    }

    async fn create_session(
        &self,
        _: &SecretHash,
        _: &SessionLogin,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn session(
        &self,
        _: &SecretHash,
        _: Timestamp,
    ) -> Result<Option<SessionLogin>, StoreError> {
        Ok(None)
    }

    async fn end_session(&self, _: SessionId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn session_is_open(&self, _: SessionId, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn api_token(
        &self,
        token_hash: &SecretHash,
        _: Timestamp,
    ) -> Result<Option<TokenLogin>, StoreError> {
        Ok(self.tokens.lock().get(token_hash).cloned())
    }

    async fn token_is_good(&self, token_id: TokenId, _: Timestamp) -> Result<bool, StoreError> {
        Ok(self.tokens.lock().values().any(|token| token.token_id == token_id))
    }
}

/// A running edge with one org, its agent and a member.
pub(crate) struct Hub {
    pub(crate) world: Arc<World>,
    pub(crate) org_id: OrgId,
    pub(crate) agent_id: AgentId,
    pub(crate) key: String,
    pub(crate) token: String,
    pub(crate) metrics: Metrics,
    accounts: Arc<TestAccounts>,
    ready: Arc<AtomicBool>,
    address: SocketAddr,
}

/// A thread for the homes, as in the hub: not the one that holds the sockets, nor the test's.
fn thread_for_homes() -> ArbiterHandle {
    Arbiter::new().handle()
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::with_limits(LimitSettings::default()).await
    }

    pub(crate) async fn with_limits(limits: LimitSettings) -> Self {
        let world = Arc::new(World::on(vec![thread_for_homes()]).unwrap());
        let org_id = world.org();
        let agent_id = world.agent(org_id).await.unwrap();
        let accounts = Arc::new(TestAccounts::default());
        let ready = Arc::new(AtomicBool::new(true));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let courier = Courier {
            clock: world.clock.clone(),
            store: MemoryMails::new(),
            sender: ScriptedMailSender::new(),
            metrics: world.metrics.clone(),
            jitter: rand::random,
        };
        let state = WebState {
            directory: world.directory.clone(),
            store: world.store.clone(),
            accounts: accounts.clone(),
            clock: world.clock.clone(),
            kinds: Kinds::default(),
            sender: Arc::new(Kinds::default()),
            courier,
            links: Links::new("https://hub.example".parse().unwrap(), vec![[7; 32]]),
            settings: Arc::new(WebSettings {
                public_url: "https://hub.example".parse().unwrap(),
                trusted_proxies: vec![],
                egress: Egress::default(),
            }),
            metrics: metrics.clone(),
            attempts: Arc::new(Attempts::default()),
            passwords: Arc::new(Passwords::default()),
            limits: Arc::new(Limits::new(limits)),
            ready: ready.clone(),
        };
        let address = serve(state);
        let (key, token) = (String::new(), String::new());
        let mut hub =
            Self { world, org_id, agent_id, key, token, metrics, accounts, ready, address };
        hub.key = hub.key_of(agent_id, OrgStatus::Active, true);
        hub.token = hub.token_of(Some(Role::Viewer));
        hub
    }

    /// A key that lets this agent in, or not.
    pub(crate) fn key_of(&self, agent_id: AgentId, org_status: OrgStatus, enabled: bool) -> String {
        let random: String = new_api_token().chars().skip(4).take(26).collect();
        let key = AgentKey::from_random("acme", &random).unwrap();
        let login = AgentLogin { agent_id, org_id: self.org_id, enabled, org_status };
        self.accounts.agents.lock().insert(hash_secret(key.secret()), login);
        key.secret().to_owned()
    }

    /// A token of somebody with this role in the org.
    pub(crate) fn token_of(&self, role: Option<Role>) -> String {
        let user = User { id: UserId::new(), email: "ada@example.com".into(), name: "Ada".into() };
        if let Some(role) = role {
            self.accounts.roles.lock().insert((user.id, self.org_id), role);
        }
        let token = new_api_token();
        let login = TokenLogin { token_id: TokenId::new(), user, org_id: None };
        self.accounts.tokens.lock().insert(hash_secret(&token), login);
        token
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }

    pub(crate) fn request(&self, path: &str) -> ClientRequestBuilder {
        ClientRequestBuilder::new(format!("ws://{}{path}", self.address).parse().unwrap())
    }

    /// Opens a socket; refused with a status, the value of `code` and the headers.
    pub(crate) async fn open(&self, request: ClientRequestBuilder) -> Result<Client, Refused> {
        self.open_with_buffer(request, None).await
    }

    /// Opens a socket whose kernel buffer holds about `bytes`.
    pub(crate) async fn open_with_buffer(
        &self,
        request: ClientRequestBuilder,
        bytes: Option<u32>,
    ) -> Result<Client, Refused> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(self.address).await.unwrap();
        let config = WebSocketConfig::default()
            .max_message_size(Some(64 << 20))
            .max_frame_size(Some(64 << 20))
            .write_buffer_size(0);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(WsError::Http(answer)) => Err(Refused::new(&answer)),
            Err(error) => panic!("neither opened nor refused: {error}"),
        }
    }

    pub(crate) fn agent_request(&self, key: &str) -> ClientRequestBuilder {
        self.request("/ws/agent")
            .with_header("authorization", format!("Bearer {key}"))
            .with_sub_protocol(AGENT_SUBPROTOCOL)
    }

    /// An agent's socket on which nothing was said yet.
    pub(crate) async fn agent(&self) -> Client {
        self.open(self.agent_request(&self.key)).await.unwrap()
    }

    /// An agent that was welcomed.
    pub(crate) async fn welcomed(&self, next_seq: u64) -> Client {
        let mut agent = self.agent().await;
        agent.say(&AgentFrame::Hello(pulse_actors::testing::hello(next_seq))).await;
        assert_eq!(agent.frame().await["type"], "welcome");
        agent
    }

    pub(crate) fn dashboard_request(&self, query: &str) -> ClientRequestBuilder {
        self.request(&format!("/ws/dashboard?org={}{query}", self.org_id))
            .with_header("authorization", format!("Bearer {}", self.token))
            .with_sub_protocol(DASHBOARD_SUBPROTOCOL)
    }

    /// A dashboard; `query` is what comes after its org.
    pub(crate) async fn dashboard(&self, query: &str) -> Client {
        self.open(self.dashboard_request(query)).await.unwrap()
    }

    /// The number of the org's last durable event.
    pub(crate) fn seq(&self) -> u64 {
        self.world.store.image(self.org_id).unwrap().seq
    }
}

fn serve(state: WebState) -> SocketAddr {
    loop {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        // Somebody else may be quicker; there are many more.
        if let Ok(server) = pulse_web::server::listen(address, None, 1, 1_000, state.clone()) {
            actix_web::rt::spawn(server);
            return address;
        }
    }
}

/// An answer that is no websocket.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) retry_after: Option<String>,
}

impl Refused {
    fn new(answer: &tokio_tungstenite::tungstenite::http::Response<Option<Vec<u8>>>) -> Self {
        let body = answer.body().as_deref().unwrap_or_default();
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let retry_after = answer.headers().get("retry-after");
        Self {
            status: answer.status().as_u16(),
            code: problem["code"].as_str().unwrap_or("no problem").to_owned(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
        }
    }
}

/// One end of a socket.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) Socket);

impl Client {
    pub(crate) async fn say(&mut self, frame: &AgentFrame) {
        self.text(&serde_json::to_string(frame).unwrap()).await;
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        let sent = tokio::time::timeout(PATIENCE, self.0.send(message)).await;
        sent.expect("the hub does not read").unwrap();
    }

    async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.expect("the hub says nothing").expect("the hub closed without a word") {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("the socket broke: {error}"),
            }
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no frame: {other:?}"),
        }
    }

    /// The next frame that is no news without a number.
    pub(crate) async fn numbered(&mut self) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] != "ephemeral" {
                return frame;
            }
        }
    }

    /// Reads events until `through`; says their numbers.
    pub(crate) async fn events(&mut self, through: u64) -> Vec<u64> {
        let mut seqs = vec![];
        while seqs.last().is_none_or(|last| *last < through) {
            let frame = self.numbered().await;
            assert_eq!(frame["type"], "event", "{frame}");
            seqs.push(frame["seq"].as_u64().unwrap());
        }
        seqs
    }

    /// Reads until the socket is closed; says with which code, and the frames before.
    pub(crate) async fn closed(&mut self) -> (u16, Vec<Value>) {
        let mut frames = vec![];
        loop {
            match self.next().await {
                Message::Text(text) => frames.push(serde_json::from_str(&text).unwrap()),
                Message::Close(Some(reason)) => return (reason.code.into(), frames),
                other => panic!("no close: {other:?}"),
            }
        }
    }
}
