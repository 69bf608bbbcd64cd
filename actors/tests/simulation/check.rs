//! The invariants, looked at whenever something happens that could break one.
//!
//! The checker believes nobody: it keeps its own book of what was committed, from the transactions alone, and holds
//! whatever is acked, pushed, answered or sent against it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pulse_actors::cluster::{Fence, Shard};
use pulse_domain::org::{Liveness, Org};
use pulse_domain::record::{Batch, JournalEvent, OrgImage, Write};
use pulse_protocol::Timestamp;
use pulse_protocol::api::DeliveryState;
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, DeliveryId, EventId, OrgId};
use pulse_protocol::status::AgentState;

use crate::plan::Plan;
use crate::shown;

pub(crate) const LIVENESS: Liveness = Liveness {
    heartbeat_interval: Duration::from_secs(5),
    heartbeat_timeout: Duration::from_secs(12),
    offline_grace: Duration::from_secs(5),
};

/// What the checker knows of one org's journal.
struct Book {
    events: Vec<EventId>,
    /// The events, folded one by one.
    folded: Org,
}

/// What the checker knows of one delivery.
#[derive(Default)]
struct Carried {
    state: Option<DeliveryState>,
    accepted: bool,
}

pub(crate) struct Check {
    /// Things looked at.
    pub(crate) steps: u64,
    books: BTreeMap<OrgId, Book>,
    claims: BTreeMap<Shard, (usize, u64)>,
    positions: BTreeMap<AgentId, u64>,
    online: BTreeMap<AgentId, bool>,
    discovered: BTreeSet<(AgentId, String)>,
    deliveries: BTreeMap<DeliveryId, Carried>,
    /// Announcements that must never be committed, and why.
    lies: BTreeMap<EventId, String>,
}

type Looked = Result<(), String>;

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Looked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Check {
    pub(crate) fn new(_: &Plan) -> Self {
        Self {
            steps: 0,
            books: BTreeMap::new(),
            claims: BTreeMap::new(),
            positions: BTreeMap::new(),
            online: BTreeMap::new(),
            discovered: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            lies: BTreeMap::new(),
        }
    }

    /// An org came to be, with nothing in its journal.
    pub(crate) fn founded(&mut self, org: Org) {
        self.books.insert(org.id(), Book { events: vec![], folded: org });
    }

    /// I3: from here on only `node` may write, and only under this epoch.
    pub(crate) fn claimed(&mut self, node: usize, fence: Fence) -> Looked {
        self.claims.insert(fence.shard, (node, fence.epoch));
        Ok(())
    }

    /// I2 to I4, of one batch at the instant of its commit.
    pub(crate) fn committed(&mut self, node: usize, fence: Fence, batch: &Batch) -> Looked {
        let claim = self.claims.get(&fence.shard);
        demand(claim == Some(&(node, fence.epoch)), || {
            format!("n{node} wrote under epoch {}, but the claim is {claim:?}", fence.epoch)
        })?;
        self.took(batch)
    }

    /// I2 and I4, of one batch.
    pub(crate) fn took(&mut self, batch: &Batch) -> Looked {
        let book = self.books.get_mut(&batch.org_id).ok_or("an org that nobody founded")?;
        let (head, mut bodies) = (book.events.len() as u64, vec![]);
        demand(batch.after_seq == head, || {
            format!("a batch after {} was committed after {head}", batch.after_seq)
        })?;
        for (event, seq) in batch.events.iter().zip(head + 1..) {
            demand(event.seq == seq, || format!("event {} was numbered {seq}", event.seq))?;
            let body = EventBody::from_columns(&event.name, &event.data)
                .map_err(|error| format!("{} cannot be read again: {error}", event.name))?;
            book.events.push(event.id);
            book.folded.fold(&body, event.at);
            bodies.push(body);
        }
        for (event, body) in batch.events.iter().zip(&bodies) {
            self.event(event, body)?;
        }
        batch.writes.iter().try_for_each(|write| self.wrote(write))
    }

    fn event(&mut self, event: &JournalEvent, body: &EventBody) -> Looked {
        if let Some(lie) = self.lies.get(&event.id) {
            return Err(format!("a false agent.offline was announced: {lie}"));
        }
        match body {
            EventBody::DeviceDiscovered(data) => {
                let (agent, address) = (data.device.agent_id, data.device.address.clone());
                let named = address.clone();
                demand(self.discovered.insert((agent, address)), || {
                    format!("{named} was discovered twice: a frame was taken twice")
                })
            }
            EventBody::AgentOnline(data) | EventBody::AgentOffline(data) => {
                let is_online = data.current == AgentState::Online;
                let before = self.online.insert(data.agent_id, is_online);
                demand(before != Some(is_online), || format!("{} was announced twice", event.name))
            }
            EventBody::DeliveryDelivered(data) => {
                let accepted = self.deliveries.get(&data.delivery_id).is_some_and(|it| it.accepted);
                demand(accepted, || "delivered, but no receiver accepted it".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn wrote(&mut self, write: &Write) -> Looked {
        match write {
            Write::Position(row) => {
                let before = self.positions.insert(row.agent_id, row.acked_seq).unwrap_or(0);
                // The first greeting of a spool writes 0.
                demand(row.acked_seq == before + 1 || row.acked_seq == 0 && before == 0, || {
                    format!("a position went from {before} to {}", row.acked_seq)
                })
            }
            Write::Delivery(row) => {
                let carried = self.deliveries.entry(row.id).or_default();
                let before = carried.state.replace(row.state);
                demand(before != Some(DeliveryState::Delivered), || {
                    format!("a delivery that was delivered became {}", row.state)
                })
            }
            _ => Ok(()),
        }
    }

    /// A home decided to announce something that is not so.
    pub(crate) fn lied(&mut self, event: EventId, why: String) {
        self.lies.insert(event, why);
    }

    /// I1 and I4: everything up to `seq` was taken, and is durable.
    pub(crate) fn acked(&self, agent: AgentId, seq: u64) -> Looked {
        let position = self.positions.get(&agent).copied().unwrap_or(0);
        demand(seq <= position, || format!("{seq} was acked, but {position} is durable"))
    }

    /// I1: what a dashboard is told of was committed, under this number.
    pub(crate) fn pushed(&self, org_id: OrgId, seq: u64, id: EventId) -> Looked {
        let at = usize::try_from(seq).unwrap_or(0).checked_sub(1);
        let known = at.and_then(|at| self.books.get(&org_id)?.events.get(at));
        demand(known == Some(&id), || format!("event {seq} was pushed, but {known:?} is durable"))
    }

    /// I1: a dashboard is shown nothing that is not durable.
    pub(crate) fn showed(&self, org_id: OrgId, seq: u64) -> Looked {
        let head = self.head(org_id);
        demand(seq <= head, || format!("a snapshot of {seq} was shown, but {head} is durable"))
    }

    /// I1: what a receiver is sent was committed, and has not been delivered.
    pub(crate) fn sent(&self, delivery: DeliveryId, event: &JournalEvent, org: OrgId) -> Looked {
        self.pushed(org, event.seq, event.id)?;
        let known = self.deliveries.contains_key(&delivery);
        demand(known, || "a delivery was sent that is not durable".to_owned())
    }

    /// A receiver accepted a delivery.
    pub(crate) fn accepted(&mut self, delivery: DeliveryId) {
        self.deliveries.entry(delivery).or_default().accepted = true;
    }

    /// The tables give what the journal gives.
    pub(crate) fn loaded(&self, image: &OrgImage) -> Looked {
        let Some(book) = self.books.get(&image.org.id) else { return Ok(()) };
        let org = Org::load(image.clone(), LIVENESS, Timestamp::from_unix_ms(0));
        let [tables, journal] = [&org, &book.folded].map(shown::of);
        demand(tables == journal, || {
            format!("the tables do not hold what the journal tells: {tables:?} / {journal:?}")
        })
    }

    pub(crate) fn head(&self, org_id: OrgId) -> u64 {
        self.books.get(&org_id).map_or(0, |book| book.events.len() as u64)
    }

    pub(crate) fn is_online(&self, agent: AgentId) -> bool {
        self.online.get(&agent) == Some(&true)
    }

    /// I4: how many frames of an agent were taken.
    pub(crate) fn position(&self, agent: AgentId) -> u64 {
        self.positions.get(&agent).copied().unwrap_or(0)
    }

    /// I4: every frame left its mark, once.
    pub(crate) fn discovered(&self, agent: AgentId) -> usize {
        self.discovered.iter().filter(|(by, _)| *by == agent).count()
    }

    /// Deliveries that have not ended.
    pub(crate) fn undelivered(&self) -> usize {
        let ended = |it: &&Carried| {
            !matches!(it.state, Some(DeliveryState::Queued | DeliveryState::Retrying))
        };
        self.deliveries.values().filter(|it| !ended(it)).count()
    }
}
