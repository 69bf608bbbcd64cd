//! Finds an actor by its id: starts it on first use, forgets it when it stops, starts it anew when it fell.
//!
//! What falls again and again is left alone for a while: [`STARTS_MAX`] starts within [`STARTS_WINDOW`], then every
//! call is refused until the window has passed. The counts multiply nowhere: an org that keeps falling costs its
//! own callers a quick refusal, and nobody else anything.

mod channels;
mod mailer;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use parking_lot::Mutex;
use pulse_domain::org::{Liveness, Org};
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::ids::{ChannelId, OrgId};
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, oneshot};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::channel::{self, ChannelActor};
use crate::cluster::post::Opening;
use crate::cluster::remote_edge::RemoteEdge;
use crate::cluster::{Fence, Inbox, NodeId, Post, RemoteHome, Route, Routes, Shard};
use crate::home::HomeAddr;
use crate::mailer::{Courier, Mailer};
use crate::metrics::Metrics;
use crate::org::{Ask, Drain, OrgActor, Ports, Read, Reload};
use crate::ports::{Clock, Journal, OrgStore, Sender, StoreError};

/// Starts of one actor within [`STARTS_WINDOW`] before it is left alone.
const STARTS_MAX: usize = 5;
/// How long a start counts.
const STARTS_WINDOW: Duration = Duration::from_secs(10);
/// Orgs that are woken at the same time after a start.
const WAKE_CONCURRENCY: usize = 8;
/// How long an edge waits for a home that moves: longer than a lost node's leases last.
const HOME_WITHIN: Duration = Duration::from_secs(15);
/// How long a socket is kept whose home is gone: through a failure of Redis or PostgreSQL that takes a person to mend.
const NEXT_HOME_WITHIN: Duration = Duration::from_secs(300);
/// A route that led nowhere is tried again after this, or when the routes change.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// An answer that takes longer is none: the asker is told to ask again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a question to an org has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AskError {
    /// There is no such org.
    #[error("there is no such organisation")]
    NoSuchOrg,
    /// The org refuses; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The org's home is starting anew or cannot keep up. Nothing is known of the request: ask again.
    #[error("the organisation cannot answer now")]
    Unavailable,
}

/// What the homes need; wired once.
pub struct DirectoryPorts {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where batches become durable.
    pub journal: Arc<dyn Journal>,
    /// What is durable.
    pub store: Arc<dyn OrgStore>,
    /// Carries messages to receivers.
    pub sender: Arc<dyn Sender>,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Liveness of orgs without settings of their own.
    pub liveness: Liveness,
    /// Draws from 0 to 1, to spread retries.
    pub jitter: fn() -> f64,
    /// The other nodes; none where there is but one.
    pub cluster: Option<ClusterPorts>,
}

/// The way to the homes of other nodes.
#[derive(Clone)]
pub struct ClusterPorts {
    /// This node's end of the bus.
    pub post: Post,
    /// Where each org's home is.
    pub routes: Routes,
}

/// Where actors start.
pub(crate) enum Places {
    /// On these threads, at least one; what has the same id on the same one.
    Arbiters(Vec<ArbiterHandle>),
    /// On the calling thread.
    Here,
}

impl Places {
    pub(crate) fn start<A: Actor<Context = Context<A>> + Send>(
        &self,
        id: u128,
        actor: A,
    ) -> Addr<A> {
        match self {
            // Ids are random in their low bits, so those spread them evenly.
            Self::Arbiters(arbiters) => {
                let place = (id % arbiters.len() as u128) as usize;
                A::start_in_arbiter(&arbiters[place], move |_| actor)
            }
            Self::Here => actor.start(),
        }
    }
}

struct Inner {
    ports: DirectoryPorts,
    places: Places,
    viewers_here: Arc<AtomicUsize>,
    draining: AtomicBool,
    orgs: Mutex<BTreeMap<OrgId, Slot<OrgActor>>>,
    channels: Mutex<BTreeMap<ChannelId, Slot<ChannelActor>>>,
    remotes: Mutex<BTreeMap<OrgId, Remote>>,
    mailer: Mutex<MailerSlot>,
    room: Arc<channel::Room>,
}

/// The mailer, and what it needs; nothing where this node sends no mail, or no more.
#[derive(Default)]
struct MailerSlot {
    courier: Option<Courier>,
    slot: Slot<Mailer>,
}

/// A line to a home on another node.
struct Remote {
    node: NodeId,
    address: Addr<RemoteHome>,
    /// When it broke; the next one waits a moment.
    broke_at: Option<Instant>,
}

struct Slot<A: Actor> {
    address: Arc<OnceCell<Addr<A>>>,
    /// What its actor may write under.
    fence: Option<Fence>,
    starts: VecDeque<Instant>,
}

impl<A: Actor> Default for Slot<A> {
    fn default() -> Self {
        Self { address: Arc::default(), fence: None, starts: VecDeque::new() }
    }
}

impl Slot<OrgActor> {
    /// As [`Slot::cell`]; an actor under another fence is nobody's home any more.
    fn cell_under(&mut self, fence: Option<Fence>) -> Option<Arc<OnceCell<Addr<OrgActor>>>> {
        if self.fence != fence {
            self.fence = fence;
            if let Some(former) = std::mem::take(&mut self.address).get() {
                let (stopped, _) = oneshot::channel();
                former.do_send(Drain { reconnect_after_ms: None, stopped });
            }
        }
        self.cell()
    }
}

impl<A: Actor<Context = Context<A>>> Slot<A> {
    /// The cell to find the address in, emptied if the actor is gone; none while the actor is left alone.
    fn cell(&mut self) -> Option<Arc<OnceCell<Addr<A>>>> {
        if self.address.get().is_some_and(|address| !address.connected()) {
            self.address = Arc::default();
        }
        if self.address.get().is_none() {
            while self.starts.front().is_some_and(|start| start.elapsed() > STARTS_WINDOW) {
                self.starts.pop_front();
            }
            if self.starts.len() >= STARTS_MAX {
                return None;
            }
        }
        Some(Arc::clone(&self.address))
    }
}

/// Handle to the homes of all orgs; cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

impl Directory {
    /// A directory that starts actors on `arbiters`, an org always on the same one.
    ///
    /// # Panics
    ///
    /// If `arbiters` is empty.
    #[must_use]
    pub fn new(ports: DirectoryPorts, arbiters: Vec<ArbiterHandle>) -> Self {
        assert!(!arbiters.is_empty(), "a directory needs an arbiter to start actors on");
        Self::in_places(ports, Places::Arbiters(arbiters))
    }

    /// A directory that starts each actor where it is called: on the thread, and in the local set, of the caller.
    #[must_use]
    pub fn local(ports: DirectoryPorts) -> Self {
        Self::in_places(ports, Places::Here)
    }

    fn in_places(ports: DirectoryPorts, places: Places) -> Self {
        let inner = Inner {
            ports,
            places,
            viewers_here: Arc::default(),
            draining: AtomicBool::new(false),
            orgs: Mutex::default(),
            channels: Mutex::default(),
            remotes: Mutex::default(),
            mailer: Mutex::default(),
            room: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What a home of the org may write under on this node.
    ///
    /// # Errors
    ///
    /// [`AskError::Unavailable`] if its home is on another node, or moving.
    fn fence(&self, org_id: OrgId) -> Result<Option<Fence>, AskError> {
        match self.route(org_id) {
            None => Ok(None),
            Some(Route::Here(fence)) => Ok(Some(fence)),
            Some(Route::There(_) | Route::Nowhere) => Err(AskError::Unavailable),
        }
    }

    fn route(&self, org_id: OrgId) -> Option<Route> {
        self.inner.ports.cluster.as_ref().map(|cluster| cluster.routes.of(org_id))
    }

    /// The home of an org, on whichever node it is. Waits while it moves.
    ///
    /// # Errors
    ///
    /// [`AskError::NoSuchOrg`], or [`AskError::Unavailable`] while the store does not answer, the home is left alone,
    /// or no node has taken it within some seconds.
    pub async fn home(&self, org_id: OrgId) -> Result<HomeAddr, AskError> {
        match self.inner.ports.cluster {
            Some(_) => self.home_within(org_id, HOME_WITHIN).await,
            None => self.look_for_home(org_id).await,
        }
    }

    /// As [`home`](Self::home), for a socket that had one: it waits for as long as the whole cluster may be down, and no
    /// longer once others are known to serve while this node cannot.
    ///
    /// # Errors
    ///
    /// As [`home`](Self::home).
    pub async fn next_home(&self, org_id: OrgId) -> Result<HomeAddr, AskError> {
        self.home_within(org_id, NEXT_HOME_WITHIN).await
    }

    async fn home_within(&self, org_id: OrgId, patience: Duration) -> Result<HomeAddr, AskError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.look_for_home(org_id).await {
                Err(AskError::Unavailable) if !self.gives_up() && Instant::now() < deadline => {}
                found => return found,
            }
            match &self.inner.ports.cluster {
                Some(cluster) => cluster.routes.changed(LOOK_AGAIN).await,
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Whether waiting for a home is of no use: this node leaves, or is cut off from nodes that serve.
    fn gives_up(&self) -> bool {
        let is_cut_off =
            self.inner.ports.cluster.as_ref().is_some_and(|cluster| cluster.routes.is_cut_off());
        is_cut_off || self.inner.draining.load(Ordering::Acquire)
    }

    async fn look_for_home(&self, org_id: OrgId) -> Result<HomeAddr, AskError> {
        match self.route(org_id) {
            None | Some(Route::Here(_)) => self.org(org_id).await.map(HomeAddr::Here),
            Some(Route::There(node)) if !self.gives_up() => {
                self.remote(org_id, node).map(HomeAddr::There).ok_or(AskError::Unavailable)
            }
            Some(Route::There(_) | Route::Nowhere) => Err(AskError::Unavailable),
        }
    }

    /// Whether the org's home is known to be somewhere else than on `node`.
    pub(crate) fn has_moved(&self, org_id: OrgId, node: &NodeId) -> bool {
        match self.route(org_id) {
            Some(Route::There(other)) => other != *node,
            Some(Route::Here(_)) => true,
            Some(Route::Nowhere) | None => false,
        }
    }

    /// The line to a home on `node`; none for a moment after one broke.
    fn remote(&self, org_id: OrgId, node: NodeId) -> Option<Addr<RemoteHome>> {
        let cluster = self.inner.ports.cluster.as_ref()?;
        let mut remotes = self.inner.remotes.lock();
        if let Some(remote) = remotes.get(&org_id) {
            if remote.broke_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
                return None;
            }
            if remote.broke_at.is_none() && remote.node == node && remote.address.connected() {
                return Some(remote.address.clone());
            }
        }
        let line = RemoteHome::new(org_id, node.clone(), cluster.post.clone(), self.clone());
        let address = self.inner.places.start(org_id.uuid().as_u128(), line);
        let remote = Remote { node, address: address.clone(), broke_at: None };
        remotes.insert(org_id, remote);
        Some(address)
    }

    /// The database takes nothing more from the homes of this shard: its epoch is over.
    pub fn refused(&self, fence: Fence) {
        if let Some(cluster) = &self.inner.ports.cluster {
            cluster.routes.refuse(fence);
        }
    }

    /// Forgets a line that broke.
    pub fn forget_remote(&self, org_id: OrgId, line: &Addr<RemoteHome>) {
        if let Some(remote) = self.inner.remotes.lock().get_mut(&org_id)
            && remote.address == *line
        {
            remote.broke_at = Some(Instant::now());
        }
    }

    /// Serves the edges of other nodes until the bus ends.
    pub async fn serve_lines(&self, inbox: Inbox) {
        let Some(cluster) = &self.inner.ports.cluster else { return };
        let accept = |opening: Opening| {
            let clock = Arc::clone(&self.inner.ports.clock);
            let (post, directory) = (cluster.post.clone(), self.clone());
            let edge = RemoteEdge::new(opening, post, directory, clock);
            edge.accept(&self.inner.places);
        };
        cluster.post.sort(inbox, accept).await;
    }

    /// Stops the homes of shards that are another node's now, once what they have taken is durable and told. Their
    /// edges find the next home. Returns when all have stopped, or after `patience`.
    pub async fn hand_over(&self, shards: &HashSet<Shard>, patience: Duration) {
        self.stop_homes(|org_id| shards.contains(&Shard::of(org_id)), None, patience).await;
    }

    /// Starts the homes of these shards that must run although nobody asks for them, and wakes their channels.
    pub fn wake_shards(&self, shards: HashSet<Shard>) {
        let directory = self.clone();
        actix::spawn(async move {
            debug!(shards = shards.len(), "waking the homes of new shards");
            if let Err(error) = directory.wake_all().await {
                warn!(%error, "homes could not be woken; agents that are away are announced when their org is asked for");
            }
        });
    }

    /// The home of an org on this node.
    ///
    /// # Errors
    ///
    /// [`AskError::NoSuchOrg`], or [`AskError::Unavailable`] while the store does not answer, the home is left alone,
    /// or is another node's.
    pub async fn org(&self, org_id: OrgId) -> Result<Addr<OrgActor>, AskError> {
        if self.inner.draining.load(Ordering::Acquire) {
            return Err(AskError::Unavailable);
        }
        let fence = self.fence(org_id)?;
        let cell = self.inner.orgs.lock().entry(org_id).or_default().cell_under(fence);
        let Some(cell) = cell else {
            debug!(org.id = %org_id, "the home fell too often and is left alone");
            return Err(AskError::Unavailable);
        };
        let address = cell.get_or_try_init(|| self.start_org(org_id, fence)).await;
        if matches!(address, Err(AskError::NoSuchOrg)) {
            self.drop_empty_slot(org_id, &cell);
        }
        if self.inner.draining.load(Ordering::Acquire) {
            // Started while the drain began, so it may have been overlooked: nobody may use it.
            return Err(AskError::Unavailable);
        }
        address.cloned()
    }

    /// Drops the slot of an org that does not exist, unless somebody else is about to start it.
    fn drop_empty_slot(&self, org_id: OrgId, cell: &Arc<OnceCell<Addr<OrgActor>>>) {
        let mut orgs = self.inner.orgs.lock();
        let unused = |slot: &Slot<OrgActor>| {
            // The slot's own and the caller's; another is another caller's.
            Arc::ptr_eq(&slot.address, cell) && Arc::strong_count(cell) == 2 && cell.get().is_none()
        };
        if orgs.get(&org_id).is_some_and(unused) {
            orgs.remove(&org_id);
        }
    }

    async fn start_org(
        &self,
        org_id: OrgId,
        fence: Option<Fence>,
    ) -> Result<Addr<OrgActor>, AskError> {
        let Inner { ports, viewers_here, orgs, .. } = &*self.inner;
        let image = ports.store.load(org_id).await.map_err(|error| {
            error!(org.id = %org_id, %error, cause = ?std::error::Error::source(&error), "an org could not be loaded");
            AskError::Unavailable
        })?;
        let image = image.ok_or(AskError::NoSuchOrg)?;
        if self.fence(org_id)? != fence {
            // The shard moved while the org was loaded.
            return Err(AskError::Unavailable);
        }
        if let Some(slot) = orgs.lock().get_mut(&org_id) {
            slot.starts.push_back(Instant::now());
        }
        let org = Org::load(image, ports.liveness, ports.clock.now());
        let home_ports = Ports {
            clock: Arc::clone(&ports.clock),
            journal: Arc::clone(&ports.journal),
            store: Arc::clone(&ports.store),
            directory: self.clone(),
            metrics: ports.metrics.clone(),
            viewers_here: Arc::clone(viewers_here),
        };
        ports.metrics.starts.with_label_values(&["org"]).inc();
        info!(org.id = %org_id, seq = org.seq(), "home started");
        let home = OrgActor::new(org, fence, home_ports);
        Ok(self.inner.places.start(org_id.uuid().as_u128(), home))
    }

    /// The numbers for the operator.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.ports.metrics
    }

    /// Whether anybody on this node watches any org.
    #[must_use]
    pub fn has_viewers(&self) -> bool {
        self.inner.viewers_here.load(Ordering::Relaxed) > 0
    }

    /// Forgets a home that stops, so that the next call starts the org anew.
    pub fn forget_org(&self, org_id: OrgId, home: &Addr<OrgActor>) {
        // Its successor may be there already, and must stay the only one.
        if let Some(slot) = self.inner.orgs.lock().get_mut(&org_id)
            && slot.address.get() == Some(home)
        {
            slot.address = Arc::default();
        }
    }

    /// Asks an org to change; answers once the change is durable.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub async fn request(&self, org_id: OrgId, request: Request) -> Result<Reply, AskError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let home = self.home(org_id).await?;
            home.send(Ask { request, answer }).await.map_err(|_| AskError::Unavailable)?;
            answered.await.map_err(|_| AskError::Unavailable)?
        };
        in_time(asked).await
    }

    /// Asks an org a question; answers once everything the answer tells is durable.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub async fn read(&self, org_id: OrgId, query: Query) -> Result<Reply, AskError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let home = self.home(org_id).await?;
            home.send(Read { query, answer }).await.map_err(|_| AskError::Unavailable)?;
            answered.await.map_err(|_| AskError::Unavailable)?
        };
        in_time(asked).await
    }

    /// Sends every socket away and stops every home, once what they have taken is durable and told. No home starts
    /// again. Returns when all have stopped, or after `patience`.
    pub async fn drain(&self, reconnect_after_ms: u64, patience: Duration) {
        self.inner.draining.store(true, Ordering::Release);
        let lines = std::mem::take(&mut *self.inner.remotes.lock());
        for line in lines.into_values().map(|remote| remote.address) {
            let (stopped, _) = oneshot::channel();
            line.do_send(Drain { reconnect_after_ms: Some(reconnect_after_ms), stopped });
        }
        self.stop_homes(|_| true, Some(reconnect_after_ms), patience).await;
    }

    async fn stop_homes(
        &self,
        which: impl Fn(OrgId) -> bool,
        reconnect_after_ms: Option<u64>,
        patience: Duration,
    ) {
        let homes: Vec<Addr<OrgActor>> = self
            .inner
            .orgs
            .lock()
            .iter()
            .filter(|(org_id, _)| which(**org_id))
            .filter_map(|(_, slot)| slot.address.get().cloned())
            .collect();
        let all = homes.into_iter().map(|home| async move {
            let (stopped, has_stopped) = oneshot::channel();
            // Not a `send` that is waited for: given up while the home is busy, it would be taken back, and the home
            // would stay, known to nobody but its agents.
            home.do_send(Drain { reconnect_after_ms, stopped });
            // Dropped unsent when the home is gone: that is the answer.
            drop(has_stopped.await);
        });
        if tokio::time::timeout(patience, futures_util::future::join_all(all)).await.is_err() {
            warn!(
                "some homes did not stop in time; what they had taken and not told will be sent again"
            );
        }
    }

    /// Starts the homes that must run although nobody asks for them, then wakes the channels that have something to
    /// deliver.
    ///
    /// # Errors
    ///
    /// Returns the store's error if it cannot say which those are.
    pub async fn wake_all(&self) -> Result<(), StoreError> {
        use futures_util::stream::{self, StreamExt};
        let mut orgs = self.inner.ports.store.orgs_to_wake().await?;
        orgs.retain(|org_id| self.fence(*org_id).is_ok());
        let count = orgs.len();
        stream::iter(orgs)
            .for_each_concurrent(WAKE_CONCURRENCY, |org_id| async move {
                if let Err(error) = self.org(org_id).await {
                    warn!(org.id = %org_id, %error, "an org could not be woken; it will be when it is asked for");
                }
            })
            .await;
        info!(orgs = count, "homes woken");
        self.sweep_channels().await
    }

    /// Tells the homes of orgs that were changed since `since` what the hub's operators decided about them.
    ///
    /// # Errors
    ///
    /// Returns the store's error if it cannot say which those are.
    pub async fn reload_changed(&self, since: pulse_protocol::Timestamp) -> Result<(), StoreError> {
        let store = &self.inner.ports.store;
        for org_id in store.orgs_changed_since(since).await? {
            let home =
                self.inner.orgs.lock().get(&org_id).and_then(|slot| slot.address.get().cloned());
            if let (Some(home), Some(record)) = (home, store.org(org_id).await?) {
                // Rare, and one busy home must not hold up the others' settings. One that is gone needs none: the
                // next one loads them.
                home.do_send(Reload(record.standing()));
            }
        }
        Ok(())
    }
}

/// An asker that gives up while its question waits in the mailbox takes the question back.
async fn in_time(asked: impl Future<Output = Result<Reply, AskError>>) -> Result<Reply, AskError> {
    tokio::time::timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(AskError::Unavailable))
}
