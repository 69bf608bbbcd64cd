//! A journal that commits when the test says so.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use pulse_domain::record::Batch;
use pulse_protocol::ids::OrgId;
use tokio::sync::Notify;

use super::MemoryStore;
use crate::ports::{Journal, StoreError, Submission};

/// Queues submissions, commits them to a [`MemoryStore`] on demand, refuses when it is full.
pub struct FakeJournal {
    store: Arc<MemoryStore>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    capacity: Option<usize>,
    commits_at_once: bool,
    poison: HashSet<String>,
    refusals: usize,
}

impl State {
    fn has_room(&self) -> bool {
        self.commits_at_once || self.capacity.is_none_or(|capacity| self.waiting.len() < capacity)
    }
}

impl FakeJournal {
    /// A journal with endless room that commits at once.
    #[must_use]
    pub fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        let journal = Self { store, queue: Arc::default() };
        journal.flow();
        Arc::new(journal)
    }

    /// From now on submissions wait for [`FakeJournal::commit`].
    pub fn hold(&self) {
        self.queue.state.lock().commits_at_once = false;
    }

    /// Commits what waits, and from now on at once.
    pub fn flow(&self) {
        loop {
            self.commit(usize::MAX);
            let mut state = self.queue.state.lock();
            if state.waiting.is_empty() {
                state.commits_at_once = true;
                state.capacity = None;
                break;
            }
        }
        self.queue.changed.notify_waiters();
    }

    /// How many submissions may wait.
    pub fn limit(&self, capacity: usize) {
        self.queue.state.lock().capacity = Some(capacity);
    }

    /// Commits the first `count` that wait; says how many there were.
    pub fn commit(&self, count: usize) -> usize {
        let mut committed = 0;
        while committed < count {
            let Some(submission) = self.queue.state.lock().waiting.pop_front() else { break };
            self.settle(submission);
            committed += 1;
        }
        self.queue.changed.notify_waiters();
        committed
    }

    /// Fails everything that waits.
    pub fn fail(&self) {
        let waiting = std::mem::take(&mut self.queue.state.lock().waiting);
        for submission in waiting {
            submission.home.fail(&StoreError::Unavailable("the test's database is gone".into()));
        }
        self.queue.changed.notify_waiters();
    }

    /// Submitting an event of this name panics, as a bug would.
    pub fn poison(&self, event: &str) {
        self.queue.state.lock().poison.insert(event.to_owned());
    }

    /// Takes the poison back.
    pub fn heal(&self) {
        self.queue.state.lock().poison.clear();
    }

    /// Submissions that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.state.lock().waiting.len()
    }

    /// Names of the events that wait, in order.
    #[must_use]
    pub fn waiting_events(&self) -> Vec<String> {
        let state = self.queue.state.lock();
        let events = state.waiting.iter().flat_map(|submission| &submission.batch.events);
        events.map(|event| event.name.to_string()).collect()
    }

    /// How often there was no room.
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.queue.state.lock().refusals
    }

    fn settle(&self, submission: Submission) {
        let Submission { home, ticket, batch } = submission;
        if home.has_failed() {
            return;
        }
        match self.store.apply(batch) {
            Ok(()) => home.confirm.committed(ticket),
            Err(error) => home.fail(&error),
        }
    }
}

fn poisoned(poison: &HashSet<String>, batch: &Batch) -> Option<OrgId> {
    let found = batch.events.iter().any(|event| poison.contains(&*event.name));
    found.then_some(batch.org_id)
}

impl Journal for FakeJournal {
    fn try_submit(&self, submission: Submission) -> Result<(), Box<Submission>> {
        let mut state = self.queue.state.lock();
        if let Some(org_id) = poisoned(&state.poison, &submission.batch) {
            drop(state);
            panic!("the test's bug, in the home of {org_id}");
        }
        if state.commits_at_once {
            drop(state);
            self.settle(submission);
            return Ok(());
        }
        if !state.has_room() {
            state.refusals += 1;
            return Err(Box::new(submission));
        }
        state.waiting.push_back(submission);
        Ok(())
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, ()> {
        let (store, queue) = (Arc::clone(&self.store), Arc::clone(&self.queue));
        async move {
            let journal = Self { store, queue };
            let mut waiting = submission;
            loop {
                let mut changed = std::pin::pin!(journal.queue.changed.notified());
                changed.as_mut().enable();
                if journal.queue.state.lock().has_room() {
                    match journal.try_submit(waiting) {
                        Ok(()) => return,
                        Err(back) => waiting = *back,
                    }
                }
                changed.await;
            }
        }
        .boxed()
    }
}
