//! A directory with everything behind it in memory, and short words for what tests do to it.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use prometheus::Registry;
use pulse_domain::org::{Input, Liveness};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{Hidden, OrgRecord};
use pulse_domain::request::{Reply, Request};
use pulse_protocol::agent::{
    AgentFrame, CheckResult, Hello, Network, PROTOCOL_VERSION, Report, Segments,
};
use pulse_protocol::api::{ChannelKind, Grouping, NewChannel, NewRule, OrgStatus, Plan};
use pulse_protocol::ids::{AgentId, ChannelId, OrgId, RuleId};
use pulse_protocol::status::{DeviceStatus, Platform};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    FakeJournal, ManualClock, MemoryStore, NOON, RecordingAgent, RecordingViewer, ScriptedSender,
};
use crate::directory::{AskError, Directory, DirectoryPorts};
use crate::link::{AgentLink, ViewerId, ViewerLink};
use crate::metrics::Metrics;
use crate::org::{Attach, OrgActor, Take, Watch, WatchAnswer};
use crate::ports::Clock;

/// What a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory over ports in memory.
pub struct World {
    /// The directory.
    pub directory: Directory,
    /// Its journal.
    pub journal: Arc<FakeJournal>,
    /// What is durable.
    pub store: Arc<MemoryStore>,
    /// Its sender.
    pub sender: Arc<ScriptedSender>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Its metrics.
    pub metrics: Metrics,
}

/// One org of a [`World`] and one agent in it.
pub struct Fleet {
    /// The org.
    pub org_id: OrgId,
    /// The agent.
    pub agent_id: AgentId,
}

impl World {
    /// A world whose actors run on the calling thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the metrics cannot be made.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::on(vec![Arbiter::current()])
    }

    /// A world whose actors run on `arbiters`.
    ///
    /// # Errors
    ///
    /// Returns an error if the metrics cannot be made.
    pub fn on(arbiters: Vec<ArbiterHandle>) -> Result<Self, prometheus::Error> {
        let store = MemoryStore::new();
        let journal = FakeJournal::new(Arc::clone(&store));
        let sender = ScriptedSender::new();
        let clock = Arc::new(ManualClock::new());
        let metrics = Metrics::register(&Registry::new())?;
        let ports = DirectoryPorts {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            journal: Arc::clone(&journal) as _,
            store: Arc::clone(&store) as _,
            sender: Arc::clone(&sender) as _,
            metrics: metrics.clone(),
            liveness: Liveness {
                heartbeat_interval: Duration::from_secs(5),
                heartbeat_timeout: Duration::from_secs(12),
                offline_grace: Duration::from_secs(5),
            },
            jitter: rand::random,
            cluster: None,
        };
        let directory = Directory::new(ports, arbiters);
        Ok(Self { directory, journal, store, sender, clock, metrics })
    }

    /// An org of the largest plan.
    #[must_use]
    pub fn org(&self) -> OrgId {
        let id = OrgId::new();
        self.store.add_org(OrgRecord {
            id,
            name: "Acme".to_owned(),
            slug: id.to_string(),
            plan: Plan::Unlimited,
            status: OrgStatus::Active,
            status_reason: None,
            heartbeat_interval_ms: None,
            heartbeat_timeout_ms: None,
            offline_grace_ms: None,
            created_at: NOON,
        });
        id
    }

    /// An org with an agent that never connected.
    ///
    /// # Errors
    ///
    /// Returns why the org did not take the agent.
    pub async fn fleet(&self) -> Result<Fleet, AskError> {
        let org_id = self.org();
        Ok(Fleet { org_id, agent_id: self.agent(org_id).await? })
    }

    /// A new agent of the org.
    ///
    /// # Errors
    ///
    /// Returns why the org did not take it.
    pub async fn agent(&self, org_id: OrgId) -> Result<AgentId, AskError> {
        let agent_id = AgentId::new();
        self.directory.request(org_id, add_agent(agent_id)).await?;
        Ok(agent_id)
    }

    /// A webhook channel that is told of these events.
    ///
    /// # Errors
    ///
    /// Returns why the org did not take it.
    pub async fn channel(
        &self,
        org_id: OrgId,
        event_types: &[&str],
    ) -> Result<ChannelId, AskError> {
        self.channel_of(ChannelKind::Webhook, org_id, event_types).await
    }

    /// A channel of this kind that is told of these events.
    ///
    /// # Errors
    ///
    /// Returns why the org did not take it.
    pub async fn channel_of(
        &self,
        kind: ChannelKind,
        org_id: OrgId,
        event_types: &[&str],
    ) -> Result<ChannelId, AskError> {
        let channel_id = ChannelId::new();
        let new = NewChannel {
            name: "Hook".to_owned(),
            kind,
            config: serde_json::json!({ "url": "https://receiver.example/hook" }),
            enabled: None,
            retry_schedule_s: None,
        };
        let add = Request::AddChannel { channel_id, new, hidden: Hidden::default() };
        self.directory.request(org_id, add).await?;
        let rule = NewRule {
            name: "All".to_owned(),
            event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
            channel_ids: vec![channel_id],
            cooldown_s: Some(0),
            grouping: Some(Grouping::None),
            flap_detection: Some(false),
            ..NewRule::default()
        };
        self.directory.request(org_id, Request::AddRule(RuleId::new(), rule)).await?;
        Ok(channel_id)
    }

    /// Asks the org for a new agent and does not wait for the answer.
    ///
    /// # Errors
    ///
    /// Returns an error if the org has no home.
    pub fn ask(&self, org_id: OrgId) -> oneshot::Receiver<Result<Reply, AskError>> {
        let (answer, answered) = oneshot::channel();
        let directory = self.directory.clone();
        actix::spawn(async move {
            // Nobody may be waiting any more.
            drop(answer.send(directory.request(org_id, add_agent(AgentId::new())).await));
        });
        answered
    }
}

fn add_agent(agent_id: AgentId) -> Request {
    Request::AddAgent {
        agent_id,
        name: format!("agent {agent_id}"),
        key_hash: hash_of(agent_id),
        key_prefix: "vp_acme0000_".to_owned(),
    }
}

/// Keys are unique, so each agent has its own.
fn hash_of(agent_id: AgentId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(agent_id.uuid().as_bytes());
    hash
}

impl Fleet {
    /// Attaches the agent's socket to the home, as its session would.
    pub fn attach(
        &self,
        home: &Addr<OrgActor>,
        edge: &RecordingAgent,
        next_seq: u64,
    ) -> ConnectionId {
        let connection = ConnectionId(Uuid::now_v7());
        let link = AgentLink {
            agent_id: self.agent_id,
            connection,
            edge: edge.clone().start().recipient(),
            shared: Arc::clone(&edge.shared),
            is_remote: false,
        };
        home.do_send(Attach { hello: hello(next_seq), link });
        connection
    }

    /// A report of this agent that says how `address` is.
    #[must_use]
    pub fn report(
        &self,
        connection: ConnectionId,
        seq: u64,
        address: &str,
        status: DeviceStatus,
    ) -> Take {
        let frame = report(seq, address, status);
        Take(Input::Frame { agent_id: self.agent_id, connection, frame })
    }

    /// The first frame of the agent's spool: it sits on 10.0.0.0/16, so an address in there that it reports for the
    /// first time is a new device.
    #[must_use]
    pub fn segments(&self, connection: ConnectionId) -> Take {
        let network = Network {
            cidr: "10.0.0.0/16".to_owned(),
            name: "Office".to_owned(),
            interface: "eth0".to_owned(),
        };
        let frame = AgentFrame::Segments(Segments { seq: 1, networks: vec![network] });
        Take(Input::Frame { agent_id: self.agent_id, connection, frame })
    }

    /// The end of the agent's connection.
    #[must_use]
    pub const fn hang_up(&self, connection: ConnectionId) -> Take {
        let cause = pulse_protocol::status::Cause::ConnectionClosed;
        Take(Input::HangUp { agent_id: self.agent_id, connection, cause })
    }

    /// Watches the org, as a dashboard's session would.
    #[must_use]
    pub fn watch(
        home: &Addr<OrgActor>,
        edge: &RecordingViewer,
        after: Option<u64>,
    ) -> (ViewerId, oneshot::Receiver<WatchAnswer>) {
        let viewer_id = ViewerId(Uuid::now_v7());
        let (answer, answered) = oneshot::channel();
        let link = ViewerLink { viewer_id, edge: edge.clone().start().recipient() };
        home.do_send(Watch { link, after, answer });
        (viewer_id, answered)
    }
}

/// A `hello` of a spool that is always the same.
#[must_use]
pub fn hello(next_seq: u64) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        agent_version: "1.0.0".to_owned(),
        hostname: "probe".to_owned(),
        platform: Platform::Linux,
        arch: "x86_64".to_owned(),
        boot_id: "boot".to_owned(),
        spool_id: "spool".to_owned(),
        next_seq,
        sent_at: NOON,
    }
}

/// A `report` with one result.
#[must_use]
pub fn report(seq: u64, address: &str, status: DeviceStatus) -> AgentFrame {
    let result = CheckResult {
        check_id: None,
        device_id: None,
        address: Some(address.to_owned()),
        check: None,
        status,
        response_time_ms: None,
        checked_at: NOON,
        error: None,
        tls: None,
    };
    AgentFrame::Report(Report { seq, reports: vec![result] })
}

/// Lets everything on this thread run until it waits for the test; time stands still.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits until `holds`; says whether it did in time.
pub async fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}
