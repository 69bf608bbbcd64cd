//! Tables in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use pulse_domain::notification::mail::MailRequest;
use pulse_domain::record::{
    Batch, ChannelRecord, DeliveryRecord, JournalEvent, OrgImage, OrgRecord, Write,
};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, Command, Delivery, DeliveryState};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeliveryId, OrgId};
use tokio::sync::watch;

use crate::ports::{DeliveryFilter, DueDelivery, DuePage, OrgStore, StoreError};

/// What a [`FakeJournal`](super::FakeJournal) has committed.
#[derive(Default)]
pub struct MemoryStore {
    orgs: Mutex<BTreeMap<OrgId, Tables>>,
    is_down: AtomicBool,
    loads: AtomicUsize,
    due_reads: Mutex<HashMap<ChannelId, usize>>,
    holds_due_reads: watch::Sender<bool>,
}

struct Tables {
    image: OrgImage,
    events: Vec<JournalEvent>,
    deliveries: BTreeMap<DeliveryId, DeliveryRecord>,
    attempts: HashMap<DeliveryId, Vec<Attempt>>,
    mails: Vec<MailRequest>,
}

impl MemoryStore {
    /// Tables without an org.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds an org without anything in it.
    pub fn add_org(&self, org: OrgRecord) {
        let image = OrgImage {
            org,
            seq: 0,
            agents: vec![],
            presences: vec![],
            positions: vec![],
            segments: vec![],
            devices: vec![],
            device_states: vec![],
            scans: vec![],
            commands: vec![],
            channels: vec![],
            rules: vec![],
            alerts: vec![],
            windows: vec![],
        };
        let tables = Tables {
            events: vec![],
            deliveries: BTreeMap::new(),
            attempts: HashMap::new(),
            mails: vec![],
            image,
        };
        self.orgs.lock().insert(tables.image.org.id, tables);
    }

    /// Changes an org's settings, as the command line would.
    pub fn change_org(&self, org_id: OrgId, change: impl FnOnce(&mut OrgRecord)) {
        if let Some(tables) = self.orgs.lock().get_mut(&org_id) {
            change(&mut tables.image.org);
        }
    }

    /// Forgets events up to `through`, as retention would.
    pub fn prune(&self, org_id: OrgId, through: u64) {
        if let Some(tables) = self.orgs.lock().get_mut(&org_id) {
            tables.events.retain(|event| event.seq > through);
        }
    }

    /// Whether reads fail from now on.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Whether what is due is read, and the answer held back, from now on.
    pub fn hold_due_reads(&self, holds: bool) {
        self.holds_due_reads.send_replace(holds);
    }

    /// How often an org was loaded.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// How often a channel looked for what is due.
    #[must_use]
    pub fn due_reads(&self, channel_id: ChannelId) -> usize {
        self.due_reads.lock().get(&channel_id).copied().unwrap_or(0)
    }

    /// The org as a new home would find it.
    #[must_use]
    pub fn image(&self, org_id: OrgId) -> Option<OrgImage> {
        self.orgs.lock().get(&org_id).map(|tables| tables.image.clone())
    }

    /// Names of the org's events, in order of their numbers.
    #[must_use]
    pub fn event_names(&self, org_id: OrgId) -> Vec<String> {
        self.read(org_id, |tables| {
            tables.events.iter().map(|event| event.name.to_string()).collect()
        })
    }

    /// The org's deliveries, oldest first, each with how often it was tried.
    #[must_use]
    pub fn delivery_records(&self, org_id: OrgId) -> Vec<(DeliveryRecord, usize)> {
        self.read(org_id, |tables| {
            let tries = |id| tables.attempts.get(id).map_or(0, Vec::len);
            tables.deliveries.iter().map(|(id, record)| (record.clone(), tries(id))).collect()
        })
    }

    /// Mails that the org called for, oldest first.
    #[must_use]
    pub fn mail_requests(&self, org_id: OrgId) -> Vec<MailRequest> {
        self.read(org_id, |tables| tables.mails.clone())
    }

    /// Writes a batch whole, or refuses it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the org's journal is not where the batch begins.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut orgs = self.orgs.lock();
        let conflict = StoreError::Conflict { org_id: batch.org_id, expected_seq: batch.after_seq };
        let Some(tables) = orgs.get_mut(&batch.org_id) else { return Err(conflict) };
        if tables.image.seq != batch.after_seq {
            return Err(conflict);
        }
        tables.image.seq = batch.last_seq();
        tables.events.extend(batch.events);
        for write in batch.writes {
            tables.write(write);
        }
        Ok(())
    }

    fn read<T: Default>(&self, org_id: OrgId, read: impl FnOnce(&Tables) -> T) -> T {
        self.orgs.lock().get(&org_id).map(read).unwrap_or_default()
    }

    fn up(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the test's database is down".into()));
        }
        Ok(())
    }
}

fn upsert<T>(rows: &mut Vec<T>, row: T, is_same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|stored| is_same(stored, &row)) {
        Some(stored) => *stored = row,
        None => rows.push(row),
    }
}

fn wants(filter: &DeliveryFilter, row: &DeliveryRecord) -> bool {
    fn is<T: PartialEq>(wanted: Option<&T>, own: &T) -> bool {
        wanted.is_none_or(|wanted| wanted == own)
    }
    let contains = |text: &String| {
        let recipient = row.content.recipient.as_deref().unwrap_or_default();
        let own = format!("{recipient} {}", row.content.resource_name).to_lowercase();
        own.contains(&text.to_lowercase())
    };
    is(filter.state.as_ref(), &row.state)
        && is(filter.channel_id.as_ref(), &row.channel_id)
        && is(filter.rule_id.as_ref(), &row.rule_id)
        && is(filter.event.as_ref(), &row.event_name)
        && is(filter.resource.as_ref(), &row.resource)
        && filter.from.is_none_or(|from| row.created_at >= from)
        && filter.to.is_none_or(|to| row.created_at < to)
        && filter.text.as_ref().is_none_or(contains)
        && filter.before.is_none_or(|before| row.id < before)
}

impl Tables {
    fn write(&mut self, write: Write) {
        let image = &mut self.image;
        match write {
            Write::Org(row) => image.org = row,
            Write::Agent(row) => upsert(&mut image.agents, row, |a, b| a.id == b.id),
            Write::Presence(row) => {
                upsert(&mut image.presences, row, |a, b| a.agent_id == b.agent_id);
            }
            Write::Position(row) => {
                upsert(&mut image.positions, row, |a, b| a.agent_id == b.agent_id);
            }
            Write::Segment(row) => upsert(&mut image.segments, row, |a, b| a.id == b.id),
            Write::Device(row) => upsert(&mut image.devices, row, |a, b| a.id == b.id),
            Write::DeviceState(row) => {
                upsert(&mut image.device_states, row, |a, b| a.device_id == b.device_id);
            }
            Write::Scan(row) => upsert(&mut image.scans, row, |a, b| a.id == b.id),
            Write::Command(row) => upsert(&mut image.commands, row, |a, b| a.id == b.id),
            Write::Channel(row) => upsert(&mut image.channels, row, |a, b| a.id == b.id),
            Write::Rule(row) => upsert(&mut image.rules, row, |a, b| a.id == b.id),
            Write::AgentRemoved(id) => self.remove_agent(id),
            Write::DeviceRemoved(id) => {
                image.devices.retain(|row| row.id != id);
                image.device_states.retain(|row| row.device_id != id);
            }
            Write::ChannelRemoved(id) => image.channels.retain(|row| row.id != id),
            Write::RuleRemoved(id) => image.rules.retain(|row| row.id != id),
            Write::Alert(row) => upsert(&mut image.alerts, row, |a, b| a.id == b.id),
            Write::AlertRemoved(id) => image.alerts.retain(|row| row.id != id),
            Write::Window(row) => upsert(&mut image.windows, row, |a, b| a.id == b.id),
            Write::WindowRemoved(id) => image.windows.retain(|row| row.id != id),
            Write::Delivery(row) => drop(self.deliveries.insert(row.id, row)),
            Write::Attempt(id, attempt) => self.attempts.entry(id).or_default().push(attempt),
            Write::Mail(request) => self.mails.push(*request),
        }
    }

    fn remove_agent(&mut self, id: AgentId) {
        let image = &mut self.image;
        let its = image.devices.iter().filter(|row| row.agent_id == id);
        let devices: HashSet<_> = its.map(|row| row.id).collect();
        image.device_states.retain(|row| !devices.contains(&row.device_id));
        image.devices.retain(|row| row.agent_id != id);
        image.segments.retain(|row| row.agent_id != id);
        image.presences.retain(|row| row.agent_id != id);
        image.positions.retain(|row| row.agent_id != id);
        image.agents.retain(|row| row.id != id);
    }

    fn due(&self, channel_id: ChannelId) -> impl Iterator<Item = (&DeliveryRecord, Timestamp)> {
        let unfinished = self.deliveries.values().filter(move |row| row.channel_id == channel_id);
        unfinished.filter_map(|row| Some((row, row.next_attempt_at?)))
    }

    fn due_page(&self, channel_id: ChannelId, now: Timestamp, limit: usize) -> DuePage {
        let mut all: Vec<_> = self.due(channel_id).collect();
        all.sort_by_key(|(row, at)| (*at, row.id));
        let due = all.iter().take(limit).take_while(|(_, at)| *at <= now).count();
        let lane = |row: &DeliveryRecord| (row.resource.clone(), row.content.recipient.clone());
        let lanes: HashSet<_> = all.iter().take(due).map(|(row, _)| lane(row)).collect();
        let next_at = all.get(due).map(|(_, at)| *at);
        let is_told = |at: usize, row: &DeliveryRecord| {
            at < due || (!row.resource.is_empty() && lanes.contains(&lane(row)))
        };
        let told = all.iter().enumerate().filter(|(at, (row, _))| is_told(*at, row));
        let deliveries = told.filter_map(|(_, (row, _))| {
            let event = self.events.iter().find(|event| event.id == row.event_id)?.clone();
            Some(DueDelivery { delivery: (*row).clone(), event })
        });
        DuePage { deliveries: deliveries.collect(), next_at }
    }

    fn shown(&self, row: &DeliveryRecord) -> Delivery {
        Delivery {
            id: row.id,
            event_id: row.event_id,
            seq: row.event_seq,
            event: row.event_name.clone(),
            rule_id: row.rule_id,
            channel_id: row.channel_id,
            recipient: row.content.recipient.clone(),
            resource_name: row.content.resource_name.clone(),
            reason: row.content.reason,
            suppressed_by: row.content.suppressed_by,
            alert_id: row.content.alert_id,
            state: row.state,
            created_at: row.created_at,
            attempts: self.attempts.get(&row.id).cloned().unwrap_or_default(),
            next_attempt_at: row.next_attempt_at,
        }
    }
}

#[async_trait]
impl OrgStore for MemoryStore {
    async fn load(&self, org_id: OrgId) -> Result<Option<OrgImage>, StoreError> {
        self.up()?;
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(self.image(org_id))
    }

    async fn org(&self, org_id: OrgId) -> Result<Option<OrgRecord>, StoreError> {
        self.up()?;
        Ok(self.image(org_id).map(|image| image.org))
    }

    async fn orgs_to_wake(&self) -> Result<Vec<OrgId>, StoreError> {
        self.up()?;
        Ok(self.orgs.lock().keys().copied().collect())
    }

    async fn orgs_changed_since(&self, _: Timestamp) -> Result<Vec<OrgId>, StoreError> {
        self.up()?;
        Ok(self.orgs.lock().keys().copied().collect())
    }

    async fn events_after(
        &self,
        org_id: OrgId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let later = tables.events.iter().filter(|event| event.seq > after);
            later.take(limit as usize).cloned().collect()
        }))
    }

    async fn events_since(
        &self,
        org_id: OrgId,
        since: Timestamp,
        names: &[String],
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let is_wanted = |event: &&JournalEvent| {
                event.at >= since && names.iter().any(|name| **name == *event.name)
            };
            let wanted: Vec<_> = tables.events.iter().filter(is_wanted).cloned().collect();
            wanted[wanted.len().saturating_sub(limit as usize)..].to_vec()
        }))
    }

    async fn event_range(&self, org_id: OrgId) -> Result<(u64, u64), StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let seq = |event: Option<&JournalEvent>| event.map_or(0, |event| event.seq);
            (seq(tables.events.first()), seq(tables.events.last()))
        }))
    }

    async fn deliveries(
        &self,
        org_id: OrgId,
        filter: DeliveryFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let wanted = tables.deliveries.values().rev().filter(|row| wants(&filter, row));
            wanted.take(limit as usize).map(|row| tables.shown(row)).collect()
        }))
    }

    async fn delivery(
        &self,
        org_id: OrgId,
        delivery_id: DeliveryId,
    ) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            tables.deliveries.get(&delivery_id).map(|row| (row.clone(), tables.shown(row)))
        }))
    }

    async fn delivery_counts(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        since: Timestamp,
    ) -> Result<Vec<(DeliveryState, u64)>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let its = |state: DeliveryState| {
                let counts = |row: &&DeliveryRecord| {
                    (row.channel_id, row.state) == (channel_id, state) && row.created_at >= since
                };
                (state, tables.deliveries.values().filter(counts).count() as u64)
            };
            let all = DeliveryState::ALL.iter().map(|state| its(*state));
            all.filter(|(_, count)| *count > 0).collect()
        }))
    }

    async fn due_deliveries(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        now: Timestamp,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        self.up()?;
        *self.due_reads.lock().entry(channel_id).or_default() += 1;
        let page = self.read(org_id, |tables| tables.due_page(channel_id, now, limit as usize));
        // Its sender is this store's own, so it outlives the wait.
        drop(self.holds_due_reads.subscribe().wait_for(|holds| !holds).await);
        Ok(page)
    }

    async fn oldest_unfinished(&self) -> Result<Option<Timestamp>, StoreError> {
        self.up()?;
        let orgs = self.orgs.lock();
        let all = orgs.values().flat_map(|tables| tables.deliveries.values());
        Ok(all.filter(|row| row.next_attempt_at.is_some()).map(|row| row.created_at).min())
    }

    async fn channels_with_deliveries(&self) -> Result<Vec<(OrgId, ChannelId)>, StoreError> {
        self.up()?;
        let orgs = self.orgs.lock();
        let all = orgs.iter().flat_map(|(org_id, tables)| {
            let unfinished = tables.deliveries.values().filter(|row| row.next_attempt_at.is_some());
            unfinished.map(|row| (*org_id, row.channel_id))
        });
        let all: BTreeSet<_> = all.collect();
        Ok(all.into_iter().collect())
    }

    async fn channel(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            tables.image.channels.iter().find(|channel| channel.id == channel_id).cloned()
        }))
    }

    async fn commands(
        &self,
        org_id: OrgId,
        agent_id: AgentId,
        _: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError> {
        self.up()?;
        Ok(self.read(org_id, |tables| {
            let its = tables.image.commands.iter().filter(|row| row.agent_id == agent_id);
            let shown = its.map(|row| Command {
                id: row.id,
                kind: row.kind,
                payload: row.payload.clone(),
                state: row.state,
                deadline: row.deadline,
                result: row.result.clone(),
                error: row.error.clone(),
            });
            shown.take(limit as usize).collect()
        }))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.up()
    }
}
