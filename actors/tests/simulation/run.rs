//! One seed, from the founding of its orgs until everything is at rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulse_actors::cluster::Shard;
use pulse_actors::testing::NOON;
use pulse_domain::org::{Ids, Org};
use pulse_domain::record::{Batch, Hidden, OrgRecord};
use pulse_domain::request::Request;
use pulse_protocol::api::{ChannelKind, Grouping, NewChannel, NewRule, OrgStatus, Plan as OrgKind};
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::RuleId;
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::check::LIVENESS;
use crate::nodes::{Nodes, Order};
use crate::plan::Mutation;
use crate::world::World;

/// After the storm everything must be at rest within this.
const REST_WITHIN: Duration = Duration::from_secs(150);
/// How often it is looked whether everything is at rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A world that lingers is looked at again after this: longer than any grace.
const LINGER: Duration = Duration::from_secs(13);
/// A socket that a sound node has had for this long is attached to the home, if that is sound, too.
const ATTACHED_WITHIN: Duration = Duration::from_secs(6);

/// What came of one seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    pub(crate) trace: u64,
    pub(crate) violation: Option<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, told: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    crate::panics::listen();
    runtime.block_on(async {
        let world = World::new(seed, mutation, told);
        world.found_orgs();
        for node in 0..world.plan.nodes {
            let at = world.between(0, 500);
            world.after(at, move |world| world.order(Order::Start(node)));
        }
        world.plan_storm();
        world.plan_agents();
        world.plan_viewers();
        let storm = Duration::from_millis(world.plan.storm_ms);
        world.after(storm, World::look);
        Nodes::new(&world).await;
        if let Some(panic) = crate::panics::heard() {
            world.violated(format!("something panicked: {panic}"));
        }
        let steps = world.check.lock().steps;
        Outcome { steps, trace: world.trace_hash(), violation: world.violation() }
    })
}

/// Ids in order.
struct Counter(u128);

impl Ids for Counter {
    fn next(&mut self) -> Uuid {
        self.0 += 1;
        Uuid::from_u128(self.0)
    }
}

impl World {
    /// The shards that an org is in.
    pub(crate) fn inhabited(&self) -> BTreeSet<Shard> {
        self.plan.orgs.iter().map(|org| Shard::of(org.id)).collect()
    }

    fn found_orgs(&self) {
        let mut ids = Counter(0xB_0000);
        for (at, plan) in self.plan.orgs.iter().enumerate() {
            let record = OrgRecord {
                id: plan.id,
                name: "Harbour".to_owned(),
                slug: format!("harbour-{at}"),
                plan: OrgKind::Unlimited,
                status: OrgStatus::Active,
                status_reason: None,
                heartbeat_interval_ms: None,
                heartbeat_timeout_ms: None,
                offline_grace_ms: None,
                created_at: NOON,
            };
            self.tables.add_org(record);
            let Some(image) = self.tables.image(plan.id) else { continue };
            let mut org = Org::load(image, LIVENESS, NOON);
            self.check.lock().founded(org.clone());
            for request in self.first_requests(at, &mut ids) {
                let asked = org.request(request, NOON, &mut ids);
                let (_, outcome) = asked.expect("an empty org takes this");
                self.checked(|check| check.took(&outcome.batch));
                self.tables.apply(outcome.batch).expect("nobody else writes yet");
            }
            self.server.lock().founded(plan.id, org.seq());
        }
    }

    fn first_requests(&self, org: usize, ids: &mut Counter) -> Vec<Request> {
        let channel_id = self.plan.orgs[org].channel;
        let new = NewChannel {
            name: "Pager".to_owned(),
            kind: ChannelKind::Webhook,
            config: serde_json::json!({ "url": "https://receiver.example/hook" }),
            enabled: None,
            retry_schedule_s: None,
        };
        let told_of = ["agent.offline", "agent.online", "device.offline", "device.online"];
        let rule = NewRule {
            name: "All".to_owned(),
            event_types: told_of.map(str::to_owned).to_vec(),
            channel_ids: vec![channel_id],
            cooldown_s: Some(0),
            grouping: Some(Grouping::None),
            flap_detection: Some(false),
            ..NewRule::default()
        };
        let mut requests = vec![
            Request::AddChannel { channel_id, new, hidden: Hidden::default() },
            Request::AddRule(RuleId::from_uuid(ids.next()), rule),
        ];
        let its = self.plan.agents.iter().filter(|agent| agent.org == org);
        requests.extend(its.map(|agent| Request::AddAgent {
            agent_id: agent.id,
            name: "probe".to_owned(),
            key_hash: [7; 32],
            key_prefix: "vp_harbour_".to_owned(),
        }));
        requests
    }

    /// A home on `node` decided on a batch. Nothing may be announced in it that is not so.
    ///
    /// An `agent.offline` is false if the agent's socket has long been open at a node with which, as with the home's
    /// and the bus between them, nothing was wrong.
    pub(crate) fn decided(&self, node: usize, batch: &Batch) {
        for event in batch.events.iter().filter(|event| &*event.name == "agent.offline") {
            let Ok(EventBody::AgentOffline(data)) =
                EventBody::from_columns(&event.name, &event.data)
            else {
                continue;
            };
            let at = self.plan.agents.iter().position(|agent| agent.id == data.agent_id);
            let Some(agent) = at else { continue };
            self.note(format_args!("n{node} decides that a{agent} is offline"));
            let Some(edge) = self.socket_since(agent, ATTACHED_WITHIN) else { continue };
            if self.weather.lock().were_sound(edge, node, ATTACHED_WITHIN) {
                let why = format!("n{node} announced a{agent}, whose socket is at n{edge}");
                self.check.lock().lied(event.id, why);
            }
        }
    }

    /// Looks whether everything is at rest, from the storm's end on.
    fn look(self: &Arc<Self>) {
        let Some(waits_for) = self.waits_for() else {
            self.note(format_args!("everything is at rest"));
            if self.plan.lingers && !self.lingered.swap(true, Ordering::Relaxed) {
                // What was left behind may still end something, or announce it.
                return self.after(LINGER, Self::look);
            }
            return self.end();
        };
        let storm = Duration::from_millis(self.plan.storm_ms);
        if self.elapsed() > storm + REST_WITHIN {
            return self.violated(format!("it does not come to rest: {waits_for}"));
        }
        self.after(LOOK_EVERY, Self::look);
    }

    /// Why the world is not at rest.
    fn waits_for(&self) -> Option<String> {
        let agents = (0..self.plan.agents.len()).find_map(|agent| self.agent_waits_for(agent));
        let viewers = || (0..self.plan.viewers.len()).find_map(|at| self.viewer_waits_for(at));
        let undelivered = || {
            let count = self.check.lock().undelivered();
            (count > 0).then(|| format!("{count} deliveries have not ended"))
        };
        let homeless = || {
            let network = self.network.lock();
            let mut shards = self.inhabited().into_iter();
            let is_held = |shard| network.holder(shard).is_some_and(|node| self.is_running(node));
            shards.any(|shard| !is_held(shard)).then(|| "a shard has no home".to_owned())
        };
        let busy = || (!self.server.lock().is_quiet()).then(|| "the database works".to_owned());
        let tables = || {
            let org = self.plan.orgs.iter().find_map(|org| self.tables.image(org.id))?;
            self.check.lock().loaded(&org).err()
        };
        agents.or_else(viewers).or_else(undelivered).or_else(homeless).or_else(busy).or_else(tables)
    }
}
