//! The org with its tables, journal and clock.

use std::time::Duration;

use pulse_domain::org::{Effect, Ids, Input, Liveness, Org, Outcome};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{DeliveryRecord, Hidden, JournalEvent, OrgImage, OrgRecord};
use pulse_domain::request::{DeliveryChange, Refusal, Reply, Request};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentFrame, Hello, Welcome};
use pulse_protocol::api::{ChannelKind, Grouping, NewChannel, NewRule, OrgStatus, Plan};
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, ChannelId, OrgId, RuleId};
use pulse_protocol::status::{Cause, Platform};
use uuid::Uuid;

use crate::shown;
use crate::tables::Tables;

/// What an org without settings of its own has.
pub(crate) const LIVENESS: Liveness = Liveness {
    heartbeat_interval: Duration::from_secs(5),
    heartbeat_timeout: Duration::from_secs(12),
    offline_grace: Duration::from_secs(5),
};

/// Ids in order, the same in every run.
#[derive(Clone)]
pub(crate) struct Counter(pub(crate) u128);

impl Ids for Counter {
    fn next(&mut self) -> Uuid {
        self.0 += 1;
        Uuid::from_u128(self.0)
    }
}

/// One org and what stands around it.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) org: Org,
    pub(crate) tables: Tables,
    pub(crate) journal: Vec<JournalEvent>,
    pub(crate) now: Timestamp,
    pub(crate) ids: Counter,
    /// Sockets have ids of their own, so that a reconnection shifts no other id.
    connections: Counter,
    folded: Org,
    founded: OrgRecord,
}

impl Hub {
    pub(crate) fn new(plan: Plan) -> Self {
        let now = Timestamp::from_unix_ms(1_772_366_400_000);
        let founded = OrgRecord {
            id: OrgId::from_uuid(Uuid::from_u128(1)),
            name: "Harbour".to_owned(),
            slug: "harbour".to_owned(),
            plan,
            status: OrgStatus::Active,
            status_reason: None,
            heartbeat_interval_ms: None,
            heartbeat_timeout_ms: None,
            offline_grace_ms: None,
            created_at: now,
        };
        let tables = Tables::new(founded.clone());
        let org = Org::load(tables.image(), LIVENESS, now);
        Self {
            folded: org.clone(),
            org,
            tables,
            journal: vec![],
            now,
            ids: Counter(1_000),
            connections: Counter(1 << 64),
            founded,
        }
    }

    pub(crate) fn id(&mut self) -> Uuid {
        self.ids.next()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Lets time pass and wakes the org whenever it asked for it.
    pub(crate) fn live_through(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.org.next_wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.take(Input::Wake);
            assert!(
                self.org.next_wake_at().is_none_or(|next| next > self.now),
                "woken for nothing"
            );
        }
        self.now = end;
    }

    pub(crate) fn take(&mut self, input: Input) -> Vec<Effect> {
        let before = self.org.seq();
        let outcome = self.org.take(input, self.now, &mut self.ids);
        self.commit(before, outcome)
    }

    /// Asks; a refusal must have changed nothing.
    pub(crate) fn ask(&mut self, request: Request) -> Result<(Reply, Vec<Effect>), Refusal> {
        let before = self.org.clone();
        match self.org.request(request.clone(), self.now, &mut self.ids) {
            Ok((reply, outcome)) => Ok((reply, self.commit(before.seq(), outcome))),
            Err(refusal) => {
                assert_eq!(self.org, before, "{request:?} was refused and changed something");
                Err(refusal)
            }
        }
    }

    /// Changes a delivery as a person asks; a refusal must have changed nothing.
    pub(crate) fn change(
        &mut self,
        delivery: DeliveryRecord,
        change: DeliveryChange,
    ) -> Result<Vec<Effect>, Refusal> {
        let before = self.org.clone();
        match self.org.change_delivery(delivery, change, self.now, &mut self.ids) {
            Ok((_, outcome)) => Ok(self.commit(before.seq(), outcome)),
            Err(refusal) => {
                assert_eq!(self.org, before, "{change:?} was refused and changed something");
                Err(refusal)
            }
        }
    }

    /// Keeps what became true, and checks O1 to O3.
    fn commit(&mut self, before: u64, outcome: Outcome) -> Vec<Effect> {
        let Outcome { batch, effects } = outcome;
        assert_eq!((batch.org_id, batch.after_seq), (self.founded.id, before), "O1");
        assert_eq!(batch.last_seq(), self.org.seq(), "O1");
        for (event, seq) in batch.events.iter().zip(before + 1..) {
            assert_eq!((event.seq, event.at), (seq, self.now), "O1");
            let body = EventBody::from_columns(&event.name, &event.data)
                .unwrap_or_else(|error| panic!("{} cannot be read again: {error}", event.name));
            self.folded.fold(&body, event.at);
        }
        self.tables.seq = batch.last_seq();
        batch.writes.into_iter().for_each(|write| self.tables.write(write));
        self.journal.extend(batch.events);
        let [folded, lived] = [&self.folded, &self.org].map(shown::of_journal);
        assert_eq!(
            shown::difference(&folded, &lived),
            None,
            "O2: the journal gives something else"
        );
        let [loaded, lived] = [&self.loaded(), &self.org].map(shown::of_tables);
        assert_eq!(shown::difference(&loaded, &lived), None, "O3: the tables give something else");
        assert!(!self.tables.waits_for_nobody(), "O3: something waits for an agent that is gone");
        effects
    }

    /// The org as a hub that starts now would load it.
    pub(crate) fn loaded(&self) -> Org {
        Org::load(self.tables.image(), LIVENESS, self.now)
    }

    /// The org as its journal tells it from the beginning. Rules are not in the journal, and are given.
    pub(crate) fn retold(&self) -> Org {
        let rules = self.tables.rules.values().cloned().collect();
        let empty = Tables::new(self.founded.clone()).image();
        let mut org = Org::load(OrgImage { rules, ..empty }, LIVENESS, self.now);
        for event in &self.journal {
            org.fold(&EventBody::from_columns(&event.name, &event.data).unwrap(), event.at);
        }
        org
    }

    /// Every socket is lost, and the hub starts again.
    pub(crate) fn restart(&mut self) {
        self.org = self.loaded();
    }

    pub(crate) fn add_agent(&mut self, name: &str) -> AgentId {
        let agent_id = AgentId::from_uuid(self.id());
        let key_prefix = "vp_harbour_".to_owned();
        let name = name.to_owned();
        self.ask(Request::AddAgent { agent_id, name, key_hash: [7; 32], key_prefix }).unwrap();
        agent_id
    }

    /// A rule that tells a new channel of `events`.
    pub(crate) fn tell_of(&mut self, events: &[&str]) -> ChannelId {
        let channel_id = ChannelId::from_uuid(self.id());
        self.ask(Request::AddChannel { channel_id, new: webhook(), hidden: Hidden::default() })
            .unwrap();
        let rule_id = RuleId::from_uuid(self.id());
        let new = NewRule {
            name: "night".to_owned(),
            event_types: events.iter().map(|name| (*name).to_owned()).collect(),
            channel_ids: vec![channel_id],
            cooldown_s: Some(0),
            grouping: Some(Grouping::None),
            flap_detection: Some(false),
            ..NewRule::default()
        };
        self.ask(Request::AddRule(rule_id, new)).unwrap();
        channel_id
    }

    /// Says `hello` on a new connection.
    pub(crate) fn hello(
        &mut self,
        agent_id: AgentId,
        spool: &str,
        next_seq: u64,
    ) -> (ConnectionId, Vec<Effect>) {
        let connection = ConnectionId(self.connections.next());
        (
            connection,
            self.take(Input::Hello { agent_id, connection, hello: hello(spool, next_seq) }),
        )
    }

    /// Says `hello` and is welcomed.
    pub(crate) fn connect(&mut self, agent_id: AgentId, spool: &str) -> (ConnectionId, Welcome) {
        let (connection, effects) = self.hello(agent_id, spool, 1);
        let welcome = welcome(&effects).unwrap_or_else(|| panic!("not welcomed: {effects:?}"));
        (connection, welcome)
    }

    pub(crate) fn send(
        &mut self,
        agent_id: AgentId,
        connection: ConnectionId,
        frame: AgentFrame,
    ) -> Vec<Effect> {
        self.take(Input::Frame { agent_id, connection, frame })
    }

    pub(crate) fn hang_up(&mut self, agent_id: AgentId, connection: ConnectionId) {
        self.take(Input::HangUp { agent_id, connection, cause: Cause::ConnectionClosed });
    }

    /// Names of the events after `seq`.
    pub(crate) fn told_since(&self, seq: u64) -> Vec<&str> {
        self.journal.iter().filter(|event| event.seq > seq).map(|event| &*event.name).collect()
    }

    /// Names of the events after `seq` that called for a delivery.
    pub(crate) fn alerts_since(&self, seq: u64) -> Vec<&str> {
        let after = |delivery: &&DeliveryRecord| delivery.event_seq > seq;
        self.tables
            .deliveries
            .values()
            .filter(after)
            .map(|delivery| &*delivery.event_name)
            .collect()
    }
}

pub(crate) fn hello(spool: &str, next_seq: u64) -> Hello {
    Hello {
        protocol: 1,
        agent_version: "1.0.0".to_owned(),
        hostname: "gate".to_owned(),
        platform: Platform::Linux,
        arch: "x86_64".to_owned(),
        boot_id: "boot".to_owned(),
        spool_id: spool.to_owned(),
        next_seq,
        sent_at: Timestamp::from_unix_ms(0),
    }
}

pub(crate) fn welcome(effects: &[Effect]) -> Option<Welcome> {
    effects.iter().find_map(|effect| match effect {
        Effect::Welcome(_, welcome) => Some((**welcome).clone()),
        _ => None,
    })
}

pub(crate) fn webhook() -> NewChannel {
    NewChannel {
        name: "pager".to_owned(),
        kind: ChannelKind::Webhook,
        config: serde_json::json!({ "url": "https://example.com/hook" }),
        enabled: None,
        retry_schedule_s: None,
    }
}
