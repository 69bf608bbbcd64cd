//! What a home hears from the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use actix::prelude::*;

use super::OrgActor;
use super::messages::{Durable, Failed};
use crate::ports::{Confirm, StoreError};

/// How far a home is durable. At most one message about it waits in the mailbox, however often it moves.
#[derive(Debug, Default)]
pub(super) struct Position {
    ticket: AtomicU64,
    announced: AtomicBool,
}

impl Position {
    /// The last durable ticket; from now on a further one is announced again.
    pub(super) fn take(&self) -> u64 {
        self.announced.store(false, Ordering::SeqCst);
        self.ticket.load(Ordering::SeqCst)
    }

    /// Notes a ticket; says whether it must be announced.
    fn note(&self, ticket: u64) -> bool {
        self.ticket.store(ticket, Ordering::SeqCst);
        !self.announced.swap(true, Ordering::SeqCst)
    }
}

/// Passes the journal's news on to a home's mailbox.
pub(super) struct JournalConfirm {
    home: Addr<OrgActor>,
    position: Arc<Position>,
}

impl JournalConfirm {
    pub(super) fn new(home: Addr<OrgActor>) -> Self {
        Self { home, position: Arc::default() }
    }
}

impl Confirm for JournalConfirm {
    fn committed(&self, ticket: u64) {
        if self.position.note(ticket) {
            self.home.do_send(Durable(Arc::clone(&self.position)));
        }
    }

    fn failed(&self, error: &StoreError) {
        let is_fenced = matches!(error, StoreError::Fenced { .. });
        self.home.do_send(Failed { error: error.to_string(), is_fenced });
    }
}
