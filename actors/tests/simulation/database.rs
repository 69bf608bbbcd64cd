//! The database's server, and each node's way to it: the journal, the claims and the reads.
//!
//! The server keeps the contract that `pulse-store` keeps on PostgreSQL. A transaction looks at its epoch when it
//! begins and holds the shard until it ends; a claim waits for those under way and begins a new epoch; a batch is
//! taken only where the journal is. What the contract leaves open is drawn: how long a commit takes, whether it
//! fails, and whether its answer arrives. An answer may be lost before the commit, so that what a node gave up as
//! failed becomes durable behind its back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use pulse_actors::cluster::{Claims, Fence, NodeId, Shard};
use pulse_actors::ports::{Home, Journal, StoreError, Submission};
use pulse_domain::record::{Batch, OrgImage};
use pulse_protocol::ids::OrgId;
use tokio::sync::{mpsc, oneshot};

use crate::network::name;
use crate::plan::Mutation;
use crate::world::World;

/// Submissions of one transaction.
pub(crate) const GROUP: usize = 16;
/// A claim looks again after this whether the shard is free.
const CLAIM_RETRY: Duration = Duration::from_millis(2);

#[derive(Default)]
pub(crate) struct Server {
    heads: BTreeMap<OrgId, u64>,
    epochs: BTreeMap<Shard, u64>,
    /// Transactions under way, by the shard they hold.
    held: BTreeMap<Shard, usize>,
    /// Each org as it was one commit ago; kept for one mutation only.
    pub(crate) former: BTreeMap<OrgId, OrgImage>,
}

impl Server {
    pub(crate) fn founded(&mut self, org_id: OrgId, head: u64) {
        self.heads.insert(org_id, head);
    }

    pub(crate) fn head(&self, org_id: OrgId) -> u64 {
        self.heads.get(&org_id).copied().unwrap_or(0)
    }

    /// Whether a transaction under way may change an org. Orgs of one shard share its answer.
    pub(crate) fn writes(&self, org_id: OrgId) -> bool {
        self.held.contains_key(&Shard::of(org_id))
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.held.is_empty()
    }

    fn is_current(&self, fence: Fence) -> bool {
        self.epochs.get(&fence.shard) == Some(&fence.epoch)
    }

    fn release(&mut self, shard: Shard) {
        let under_way = self.held.entry(shard).or_insert(1);
        *under_way -= 1;
        if *under_way == 0 {
            self.held.remove(&shard);
        }
    }
}

type Answer = oneshot::Sender<Result<(), StoreError>>;

/// One transaction on its way.
struct Transaction {
    node: usize,
    org_id: OrgId,
    fence: Fence,
    batches: Vec<Batch>,
    answer: Option<Answer>,
}

pub(crate) fn unavailable() -> StoreError {
    StoreError::Unavailable("the simulated database".into())
}

impl Transaction {
    fn begin(mut self, world: &Arc<World>) {
        let mut server = world.server.lock();
        if !server.is_current(self.fence) && !world.lacks(Mutation::NoFence) {
            drop(server);
            return self.tell(world, Err(StoreError::Fenced { org_id: self.org_id }));
        }
        *server.held.entry(self.fence.shard).or_default() += 1;
        drop(server);
        let chances = world.chances();
        let lost = world.happens(chances.answer_lost);
        if lost && world.happens(0.5) {
            self.tell(world, Err(unavailable()));
        }
        let fails = world.happens(chances.commit_fails);
        let takes = if world.happens(chances.commit_stalls) {
            world.between(50, 2_500)
        } else {
            world.between(0, 3)
        };
        world.after(takes, move |world| self.end(world, fails, lost));
    }

    fn end(mut self, world: &Arc<World>, fails: bool, lost: bool) {
        world.server.lock().release(self.fence.shard);
        let batches = std::mem::take(&mut self.batches);
        let done = if fails { Err(unavailable()) } else { self.apply(world, batches) };
        let done = if lost { Err(unavailable()) } else { done };
        self.tell(world, done);
    }

    /// Writes all or nothing.
    fn apply(&self, world: &Arc<World>, batches: Vec<Batch>) -> Result<(), StoreError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let mut server = world.server.lock();
        if server.head(self.org_id) != first.after_seq && !world.lacks(Mutation::NoHeadCheck) {
            let expected_seq = first.after_seq;
            return Err(StoreError::Conflict { org_id: self.org_id, expected_seq });
        }
        if world.lacks(Mutation::StaleLoads) {
            server.former.extend(world.tables.image(self.org_id).map(|it| (self.org_id, it)));
        }
        server.heads.extend(batches.last().map(|last| (self.org_id, last.last_seq())));
        drop(server);
        for mut batch in batches {
            if world.lacks(Mutation::RowsLost) && world.happens(0.1) {
                batch.writes.clear();
            }
            world.note(format_args!(
                "n{} epoch {} commits {}..={}",
                self.node,
                self.fence.epoch,
                batch.after_seq + 1,
                batch.last_seq()
            ));
            world.checked(|check| check.committed(self.node, self.fence, &batch));
            if let Err(error) = world.tables.apply(batch) {
                world.violated(format!("the tables refuse what the journal took: {error}"));
            }
        }
        Ok(())
    }

    /// Answers, unless it was answered before.
    fn tell(&mut self, world: &Arc<World>, answer: Result<(), StoreError>) {
        if let Some(waiting) = self.answer.take() {
            // The node may be gone.
            world.after(world.between(0, 2), move |_| drop(waiting.send(answer)));
        }
    }
}

/// The last ticket of each home, by its place in memory.
type Tickets = Mutex<BTreeMap<usize, u64>>;

/// One process's journal: a bounded queue, and a task that commits what is in it.
pub(crate) struct NodeJournal {
    world: Arc<World>,
    node: usize,
    queue: mpsc::Sender<Submission>,
    tickets: Arc<Tickets>,
}

impl NodeJournal {
    /// Starts it in the calling local set.
    pub(crate) fn start(world: &Arc<World>, node: usize) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(world.plan.queue);
        actix::spawn(commit_all(Arc::clone(world), node, waiting));
        Arc::new(Self { world: Arc::clone(world), node, queue, tickets: Arc::default() })
    }
}

/// A home submits in the order it decided in, also when the queue was full meanwhile.
fn took(world: &World, tickets: &Tickets, home: &Arc<Home>, ticket: u64) {
    let before = tickets.lock().insert(Arc::as_ptr(home) as usize, ticket);
    world.checked(|_| match before {
        // A first ticket is that of a new home, maybe where one was before it.
        Some(before) if ticket != 1 && ticket != before + 1 => {
            Err(format!("a home submitted {ticket} after {before}"))
        }
        _ => Ok(()),
    });
}

impl Journal for NodeJournal {
    fn try_submit(&self, submission: Submission) -> Result<(), Box<Submission>> {
        self.world.decided(self.node, &submission.batch);
        let (home, ticket) = (Arc::clone(&submission.home), submission.ticket);
        match self.queue.try_send(submission) {
            Ok(()) => took(&self.world, &self.tickets, &home, ticket),
            Err(mpsc::error::TrySendError::Full(submission)) => return Err(Box::new(submission)),
            Err(mpsc::error::TrySendError::Closed(_)) => home.fail(&unavailable()),
        }
        if self.world.lacks(Mutation::ConfirmsBeforeCommit) {
            home.confirm.committed(ticket);
        }
        Ok(())
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, ()> {
        let (queue, world) = (self.queue.clone(), Arc::clone(&self.world));
        let (home, ticket) = (Arc::clone(&submission.home), submission.ticket);
        let tickets = Arc::clone(&self.tickets);
        async move {
            match queue.send(submission).await {
                Ok(()) => took(&world, &tickets, &home, ticket),
                Err(_) => home.fail(&unavailable()),
            }
        }
        .boxed()
    }
}

async fn commit_all(world: Arc<World>, node: usize, mut waiting: mpsc::Receiver<Submission>) {
    while let Some(first) = waiting.recv().await {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        while let Some(home) = group.first().map(|it| Arc::clone(&it.home)) {
            let (its, others) = group.into_iter().partition(|it| Arc::ptr_eq(&it.home, &home));
            group = others;
            commit(&world, node, &home, its).await;
        }
    }
}

/// Commits what one home submitted, in one transaction.
async fn commit(world: &Arc<World>, node: usize, home: &Home, its: Vec<Submission>) {
    let (Some(last), false) = (its.last().map(|it| it.ticket), home.has_failed()) else { return };
    let Some(fence) = home.fence else {
        return world.violated("a home without a fence submitted something".to_owned());
    };
    if world.lacks(Mutation::DropsSubmissions) && world.happens(0.05) {
        return home.confirm.committed(last);
    }
    let batches = its.into_iter().map(|it| it.batch).collect();
    let (answer, answered) = oneshot::channel();
    let answer = Some(answer);
    let transaction = Transaction { node, org_id: home.org_id, fence, batches, answer };
    world.after(world.between(0, 2), move |world| transaction.begin(world));
    match answered.await.unwrap_or_else(|_| Err(unavailable())) {
        Ok(()) => home.confirm.committed(last),
        Err(StoreError::Unavailable(_)) if world.lacks(Mutation::FailureConfirmed) => {
            home.confirm.committed(last);
        }
        Err(error) => {
            world.note(format_args!("n{node} gives up a home: {error}"));
            home.fail(&error);
        }
    }
}

/// One process's claims.
pub(crate) struct NodeClaims(pub(crate) Arc<World>);

#[async_trait]
impl Claims for NodeClaims {
    async fn claim(&self, node: &NodeId, shards: &[Shard]) -> Result<Vec<Fence>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let (node, shards) = (name::number(node), shards.to_vec());
        let delay = self.0.between(0, 2);
        self.0.after(delay, move |world| claim(world, node, shards, answer));
        answered.await.unwrap_or_else(|_| Err(unavailable()))
    }

    async fn epochs(&self) -> Result<u64, StoreError> {
        tokio::time::sleep(self.0.between(0, 2)).await;
        Ok(self.0.server.lock().epochs.values().sum())
    }

    fn can_write(&self) -> bool {
        true
    }
}

fn claim(
    world: &Arc<World>,
    node: usize,
    shards: Vec<Shard>,
    answer: oneshot::Sender<Result<Vec<Fence>, StoreError>>,
) {
    let chances = world.chances();
    if world.happens(chances.commit_fails) {
        return world.after(world.between(0, 2), move |_| drop(answer.send(Err(unavailable()))));
    }
    let mut server = world.server.lock();
    let is_held = shards.iter().any(|shard| server.held.contains_key(shard));
    if is_held && !world.lacks(Mutation::FenceNotHeld) {
        drop(server);
        return world.after(CLAIM_RETRY, move |world| claim(world, node, shards, answer));
    }
    let mut next = |shard: &Shard| {
        let epoch = server.epochs.entry(*shard).or_default();
        if *epoch == 0 || !world.lacks(Mutation::SameEpochTwice) {
            *epoch += 1;
        }
        Fence { shard: *shard, epoch: *epoch }
    };
    let fences: Vec<Fence> = shards.iter().map(&mut next).collect();
    drop(server);
    for fence in &fences {
        world.note(format_args!("n{node} claims epoch {}", fence.epoch));
        world.checked(|check| check.claimed(node, *fence));
    }
    let lost = world.happens(chances.answer_lost);
    let answered = if lost { Err(unavailable()) } else { Ok(fences) };
    world.after(world.between(0, 2), move |_| drop(answer.send(answered)));
}
