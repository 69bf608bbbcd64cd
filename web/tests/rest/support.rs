//! A hub's edge on a free port, with everything behind it in memory.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use actix::Arbiter;
use actix_web::{App, HttpServer, web};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use prometheus::Registry;
use pulse_actors::directory::{Directory, DirectoryPorts};
use pulse_actors::mailer::Courier;
use pulse_actors::ports::{
    Accounts, AgentLogin, Clock, DeliveryFilter, DuePage, Journal, Message, OrgStore, Sender,
    SessionLogin, StoreError, Submission, TokenLogin, Verdict,
};
use pulse_actors::testing::{MemoryMails, ScriptedMailSender};
use pulse_domain::org::Liveness;
use pulse_domain::record::{
    AgentRecord, AlertRecord, ChannelRecord, CommandRecord, DeliveryRecord, JournalEvent, OrgImage,
    OrgRecord, RuleRecord, SecretHash, Write,
};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    ChannelKind, Command, Delivery, DeliveryState, Membership, OrgStatus, Plan, Role, User,
};
use pulse_protocol::ids::{
    AgentId, ChannelId, CommandId, DeliveryId, OrgId, SessionId, TokenId, UserId,
};
use pulse_protocol::problem::Problem;
use pulse_web::links::Links;
use pulse_web::metrics::Metrics;
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::http::Http;
use pulse_web::outbound::kind::Kinds;
use pulse_web::outbound::webhook::WebhookSender;
use pulse_web::secrets::{hash_secret, new_api_token};
use pulse_web::socket::limits::{LimitSettings, Limits};
use pulse_web::{
    Attempts, Passwords, WebSettings, WebState, configure, configure_ops, hash_password,
};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response};

pub(crate) const NOON: Timestamp = Timestamp::from_unix_ms(1_772_366_400_000);
pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const CSRF: &str = "csrf-token-of-the-test";

/// How a request proves who sends it.
#[derive(Clone)]
pub(crate) enum As {
    Nobody,
    Browser { cookie: String, csrf: Option<&'static str> },
    Token(String),
}

/// Time stands still unless a test moves it.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Default)]
pub(crate) struct TestAccounts {
    users: Mutex<HashMap<String, (User, String)>>,
    roles: Mutex<HashMap<(UserId, OrgId), Role>>,
    sessions: Mutex<HashMap<SecretHash, SessionLogin>>,
    tokens: Mutex<HashMap<SecretHash, TokenLogin>>,
}

impl TestAccounts {
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    pub(crate) fn knows_cookie(&self, cookie: &str) -> bool {
        self.sessions.lock().contains_key(&hash_secret(cookie))
    }
}

#[async_trait]
impl Accounts for TestAccounts {
    async fn agent_by_key(
        &self,
        _: &SecretHash,
        _: Timestamp,
    ) -> Result<Option<AgentLogin>, StoreError> {
        Ok(None)
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, StoreError> {
        Ok(self.users.lock().get(email).cloned())
    }

    async fn memberships(&self, user_id: UserId) -> Result<Vec<Membership>, StoreError> {
        let roles = self.roles.lock();
        let own = roles.iter().filter(|((user, _), _)| *user == user_id);
        Ok(own
            .map(|((_, id), role)| Membership {
                id: *id,
                name: "Acme".into(),
                slug: "acme".into(),
                role: *role,
            })
            .collect())
    }

    async fn role(&self, user_id: UserId, org_id: OrgId) -> Result<Option<Role>, StoreError> {
        Ok(self.roles.lock().get(&(user_id, org_id)).copied())
    }

    async fn create_session(
        &self,
        cookie_hash: &SecretHash,
        session: &SessionLogin,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        self.sessions.lock().insert(*cookie_hash, session.clone());
        Ok(())
    }

    async fn session(
        &self,
        cookie_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<SessionLogin>, StoreError> {
        let session = self.sessions.lock().get(cookie_hash).cloned();
        Ok(session.filter(|session| now < session.expires_at))
    }

    async fn end_session(&self, session_id: SessionId) -> Result<(), StoreError> {
        self.sessions.lock().retain(|_, session| session.session_id != session_id);
        Ok(())
    }

    async fn session_is_open(&self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        let sessions = self.sessions.lock();
        Ok(sessions.values().any(|session| session.session_id == id && now < session.expires_at))
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

#[derive(Default)]
pub(crate) struct TestStore {
    pub(crate) is_down: AtomicBool,
    pub(crate) orgs: Mutex<HashMap<OrgId, OrgRecord>>,
    pub(crate) events: Mutex<Vec<JournalEvent>>,
    pub(crate) deliveries: Mutex<Vec<(DeliveryRecord, Delivery)>>,
    pub(crate) channels: Mutex<Vec<ChannelRecord>>,
    pub(crate) commands: Mutex<Vec<CommandRecord>>,
    /// What a home finds when it is started.
    pub(crate) agents: Mutex<Vec<AgentRecord>>,
    pub(crate) rules: Mutex<Vec<RuleRecord>>,
    pub(crate) alerts: Mutex<Vec<AlertRecord>>,
}

impl TestStore {
    fn up(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable(io::Error::other("secret text of the driver").into()))
        } else {
            Ok(())
        }
    }

    fn write(&self, write: Write) {
        match write {
            Write::Channel(channel) => {
                let mut channels = self.channels.lock();
                channels.retain(|stored| stored.id != channel.id);
                channels.push(channel);
            }
            Write::Command(command) => {
                let mut commands = self.commands.lock();
                commands.retain(|stored| stored.id != command.id);
                commands.push(command);
            }
            Write::Delivery(changed) => {
                let mut deliveries = self.deliveries.lock();
                for (record, shown) in
                    deliveries.iter_mut().filter(|(record, _)| record.id == changed.id)
                {
                    shown.state = changed.state;
                    *record = changed.clone();
                }
            }
            // What the home alone shows is in its memory.
            _ => {}
        }
    }
}

/// Durable at once.
struct TestJournal(Arc<TestStore>);

impl Journal for TestJournal {
    fn try_submit(&self, submission: Submission) -> Result<(), Box<Submission>> {
        let Submission { home, ticket, batch } = submission;
        self.0.events.lock().extend(batch.events);
        batch.writes.into_iter().for_each(|write| self.0.write(write));
        home.confirm.committed(ticket);
        Ok(())
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, ()> {
        drop(self.try_submit(submission));
        ready(()).boxed()
    }
}

#[async_trait]
impl OrgStore for TestStore {
    async fn load(&self, org_id: OrgId) -> Result<Option<OrgImage>, StoreError> {
        self.up()?;
        let Some(org) = self.orgs.lock().get(&org_id).cloned() else { return Ok(None) };
        Ok(Some(OrgImage {
            org,
            seq: 0,
            agents: self.agents.lock().clone(),
            presences: vec![],
            positions: vec![],
            segments: vec![],
            devices: vec![],
            device_states: vec![],
            scans: vec![],
            commands: vec![],
            channels: self.channels.lock().clone(),
            rules: self.rules.lock().clone(),
            alerts: self.alerts.lock().clone(),
            windows: vec![],
        }))
    }

    async fn org(&self, org_id: OrgId) -> Result<Option<OrgRecord>, StoreError> {
        self.up()?;
        Ok(self.orgs.lock().get(&org_id).cloned())
    }

    async fn orgs_to_wake(&self) -> Result<Vec<OrgId>, StoreError> {
        Ok(vec![])
    }

    async fn orgs_changed_since(&self, _: Timestamp) -> Result<Vec<OrgId>, StoreError> {
        Ok(vec![])
    }

    async fn events_after(
        &self,
        _: OrgId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        let events = self.events.lock();
        Ok(events.iter().filter(|event| event.seq > after).take(limit as usize).cloned().collect())
    }

    async fn events_since(
        &self,
        _: OrgId,
        since: Timestamp,
        names: &[String],
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        let events = self.events.lock();
        let is_wanted =
            |event: &&JournalEvent| event.at >= since && names.contains(&event.name.to_string());
        Ok(events.iter().filter(is_wanted).take(limit as usize).cloned().collect())
    }

    async fn event_range(&self, _: OrgId) -> Result<(u64, u64), StoreError> {
        Ok((0, 0))
    }

    async fn deliveries(
        &self,
        _: OrgId,
        filter: DeliveryFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut found: Vec<_> =
            self.deliveries.lock().iter().map(|(_, shown)| shown.clone()).collect();
        found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
        found.retain(|delivery| {
            filter.state.is_none_or(|state| delivery.state == state)
                && filter.channel_id.is_none_or(|channel| delivery.channel_id == channel)
                && filter.before.is_none_or(|before| delivery.id < before)
        });
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn delivery(
        &self,
        _: OrgId,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError> {
        Ok(self.deliveries.lock().iter().find(|(record, _)| record.id == id).cloned())
    }

    async fn delivery_counts(
        &self,
        _: OrgId,
        channel_id: ChannelId,
        _: Timestamp,
    ) -> Result<Vec<(DeliveryState, u64)>, StoreError> {
        let deliveries = self.deliveries.lock();
        let mut counts: Vec<(DeliveryState, u64)> = vec![];
        for (record, _) in deliveries.iter().filter(|(record, _)| record.channel_id == channel_id) {
            match counts.iter_mut().find(|(state, _)| *state == record.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((record.state, 1)),
            }
        }
        Ok(counts)
    }

    async fn due_deliveries(
        &self,
        _: OrgId,
        _: ChannelId,
        _: Timestamp,
        _: u32,
    ) -> Result<DuePage, StoreError> {
        Ok(DuePage::default())
    }

    async fn oldest_unfinished(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn channels_with_deliveries(&self) -> Result<Vec<(OrgId, ChannelId)>, StoreError> {
        Ok(vec![])
    }

    async fn channel(&self, _: OrgId, id: ChannelId) -> Result<Option<ChannelRecord>, StoreError> {
        Ok(self.channels.lock().iter().find(|channel| channel.id == id).cloned())
    }

    async fn commands(
        &self,
        _: OrgId,
        agent_id: AgentId,
        _: Option<CommandId>,
        _: u32,
    ) -> Result<Vec<Command>, StoreError> {
        let commands = self.commands.lock();
        let own = commands.iter().filter(|command| command.agent_id == agent_id);
        Ok(own
            .map(|command| Command {
                id: command.id,
                kind: command.kind,
                payload: command.payload.clone(),
                state: command.state,
                deadline: command.deadline,
                result: None,
                error: None,
            })
            .collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.up()
    }
}

/// Answers every message with the verdict it was given.
pub(crate) struct TestSender {
    pub(crate) verdict: Mutex<Verdict>,
    pub(crate) sent: Mutex<Vec<Message>>,
}

#[async_trait]
impl Sender for TestSender {
    async fn send(&self, _: &ChannelRecord, message: &Message) -> Verdict {
        self.sent.lock().push(message.clone());
        self.verdict.lock().clone()
    }
}

/// A running edge.
pub(crate) struct Hub {
    pub(crate) accounts: Arc<TestAccounts>,
    pub(crate) store: Arc<TestStore>,
    pub(crate) mails: Arc<MemoryMails>,
    pub(crate) links: Links,
    pub(crate) sender: Arc<TestSender>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) client: Client,
    public: String,
    operations: String,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_at("http://127.0.0.1:8080").await
    }

    pub(crate) async fn start_at(public_url: &str) -> Self {
        let accounts = Arc::new(TestAccounts::default());
        let store = Arc::new(TestStore::default());
        let sender = Arc::new(TestSender {
            verdict: Mutex::new(Verdict::accepted(Some(200))),
            sent: Mutex::default(),
        });
        let clock = Arc::new(TestClock(AtomicI64::new(NOON.unix_ms())));
        let ready = Arc::new(AtomicBool::new(true));
        install_tls();
        let webhook =
            WebhookSender::new(Http::new(Egress::default(), Duration::from_secs(1)).unwrap());
        let kinds = Kinds::default().with(ChannelKind::Webhook, Arc::new(webhook));
        let registry = Registry::new();
        let actors = pulse_actors::metrics::Metrics::register(&registry).unwrap();
        let homes = DirectoryPorts {
            clock: clock.clone(),
            journal: Arc::new(TestJournal(store.clone())),
            store: store.clone(),
            sender: sender.clone(),
            metrics: actors.clone(),
            liveness: Liveness {
                heartbeat_interval: Duration::from_secs(5),
                heartbeat_timeout: Duration::from_secs(12),
                offline_grace: Duration::from_secs(5),
            },
            jitter: rand::random,
            cluster: None,
        };
        let (mails, mail_sender) = (MemoryMails::new(), ScriptedMailSender::new());
        let courier = Courier {
            clock: clock.clone(),
            store: mails.clone(),
            sender: mail_sender,
            metrics: actors,
            jitter: rand::random,
        };
        let links = Links::new(public_url.parse().unwrap(), vec![[7; 32]]);
        let state = WebState {
            directory: Directory::new(homes, vec![Arbiter::current()]),
            store: store.clone(),
            accounts: accounts.clone(),
            clock: clock.clone(),
            kinds,
            sender: sender.clone(),
            courier,
            links: links.clone(),
            settings: Arc::new(WebSettings {
                public_url: public_url.parse().unwrap(),
                trusted_proxies: vec![],
                egress: Egress::default(),
            }),
            metrics: Metrics::register(&registry).unwrap(),
            attempts: Arc::new(Attempts::default()),
            passwords: Arc::new(Passwords::default()),
            limits: Arc::new(Limits::new(LimitSettings::default())),
            ready: ready.clone(),
        };
        let public = serve(state.clone(), configure);
        let operations = serve(state, configure_ops);
        let client = client();
        Self { accounts, store, mails, links, sender, clock, ready, client, public, operations }
    }

    /// An org whose owner, admin, editor and viewer are returned by [`Hub::member`].
    pub(crate) fn org(&self, status: OrgStatus) -> OrgId {
        let id = OrgId::new();
        let record = OrgRecord {
            id,
            name: "Acme".into(),
            slug: "acme".into(),
            plan: Plan::Starter,
            status,
            status_reason: None,
            heartbeat_interval_ms: None,
            heartbeat_timeout_ms: None,
            offline_grace_ms: None,
            created_at: NOON,
        };
        self.store.orgs.lock().insert(id, record);
        id
    }

    /// A user who is a member of no org yet.
    pub(crate) fn user(&self, email: &str) -> User {
        let user = User { id: UserId::new(), email: email.into(), name: "Ada".into() };
        let hash = hash_password(PASSWORD).unwrap();
        self.accounts.users.lock().insert(email.into(), (user.clone(), hash));
        user
    }

    /// A new member of the org, signed in with a browser.
    pub(crate) fn member(&self, org_id: OrgId, role: Role) -> As {
        let user =
            User { id: UserId::new(), email: format!("{role}@example.com"), name: "Ada".into() };
        self.accounts.roles.lock().insert((user.id, org_id), role);
        self.browser(user)
    }

    /// A session of this user.
    pub(crate) fn browser(&self, user: User) -> As {
        let cookie = new_api_token();
        let session = SessionLogin {
            session_id: SessionId::new(),
            user,
            csrf_token: CSRF.into(),
            expires_at: NOON + Duration::from_secs(3_600),
        };
        self.accounts.sessions.lock().insert(hash_secret(&cookie), session);
        As::Browser { cookie, csrf: Some(CSRF) }
    }

    /// A token of an owner of `org_id`, good for `only`.
    pub(crate) fn token(&self, org_id: OrgId, only: Option<OrgId>) -> As {
        let user = User { id: UserId::new(), email: "bot@example.com".into(), name: "Bot".into() };
        self.accounts.roles.lock().insert((user.id, org_id), Role::Owner);
        let token = new_api_token();
        let login = TokenLogin { token_id: TokenId::new(), user, org_id: only };
        self.accounts.tokens.lock().insert(hash_secret(&token), login);
        As::Token(token)
    }

    pub(crate) fn request(&self, method: Method, path: &str, who: &As) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.public));
        match who {
            As::Nobody => request,
            As::Token(token) => request.bearer_auth(token),
            As::Browser { cookie, csrf } => {
                let request = request.header("cookie", format!("pulse_session={cookie}"));
                match csrf {
                    Some(csrf) => request.header("x-csrf-token", *csrf),
                    None => request,
                }
            }
        }
    }

    pub(crate) async fn get(&self, path: &str, who: &As) -> Response {
        self.request(Method::GET, path, who).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, who: &As, body: &str) -> Response {
        let request =
            self.request(Method::POST, path, who).header("content-type", "application/json");
        request.body(body.to_owned()).send().await.unwrap()
    }

    pub(crate) async fn operations(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.operations)).send().await.unwrap()
    }
}

fn serve(state: WebState, configure: fn(&mut web::ServiceConfig)) -> String {
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::new(state.clone())).configure(configure)
    })
    .workers(1)
    .disable_signals()
    .bind((Ipv4Addr::LOCALHOST, 0))
    .unwrap();
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    format!("http://{address}")
}

fn install_tls() {
    static TLS: Once = Once::new();
    TLS.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

fn client() -> Client {
    install_tls();
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// The problem in an answer, after what every problem must be was checked.
pub(crate) async fn problem(response: Response) -> Problem {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    let problem: Problem = serde_json::from_slice(&body)
        .unwrap_or_else(|error| panic!("{status} is no problem: {error}: {body:?}"));
    assert_eq!(header(&headers, "content-type"), "application/problem+json");
    assert_eq!(problem.status, status);
    assert_eq!(problem.status, problem.code.status());
    assert_eq!(problem.title, problem.code.title());
    assert_eq!(problem.kind, format!("/problems/{}", problem.code));
    assert_eq!(problem.request_id, header(&headers, "x-request-id"));
    assert!(!problem.request_id.is_empty() && !problem.detail.is_empty());
    problem
}
