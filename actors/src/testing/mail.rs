//! Mails in memory, and a mail server that answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pulse_domain::notification::mail::{MailRecord, MailRequest, NO_ORG, To, address};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, Mail, Role, SuppressionReason};
use pulse_protocol::ids::{DeliveryId, OrgId};

use crate::ports::{
    CauseEnd, ClaimedMail, MailClaim, MailFilter, MailSender, MailStore, MailVerdict, SettledMail,
    StoreError, StrictCause, SuppressedAddress, Suppressions, Verdict,
};

struct Row {
    record: MailRecord,
    claim: Option<MailClaim>,
    attempts: Vec<Attempt>,
}

impl Row {
    fn shown(&self) -> Mail {
        Mail {
            id: self.record.id,
            template: self.record.template,
            recipient: self.record.recipient.clone(),
            state: self.record.state,
            suppressed_by: self.record.suppressed_by,
            created_at: self.record.created_at,
            expires_at: self.record.expires_at,
            attempts: self.attempts.clone(),
            next_attempt_at: self.record.next_attempt_at,
            error: self.record.error.clone(),
        }
    }

    fn is_free(&self, now: Timestamp) -> bool {
        self.claim.is_none_or(|claim| claim.until <= now)
    }
}

/// Tables of mails, with the semantics that [`MailStore`] promises.
#[derive(Default)]
pub struct MemoryMails {
    rows: Mutex<BTreeMap<DeliveryId, Row>>,
    members: Mutex<Vec<(OrgId, Role, String)>>,
    suppressed: Mutex<Vec<SuppressedAddress>>,
    settles_to_fail: AtomicUsize,
}

impl MemoryMails {
    /// Tables without a mail.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a member of an org.
    pub fn add_member(&self, org_id: OrgId, role: Role, email: &str) {
        self.members.lock().push((org_id, role, email.to_owned()));
    }

    /// The database does not take the next `count` outcomes.
    pub fn fail_settles(&self, count: usize) {
        self.settles_to_fail.store(count, Ordering::SeqCst);
    }

    /// All mails, oldest first, each with how often it was tried.
    #[must_use]
    pub fn records(&self) -> Vec<(MailRecord, usize)> {
        self.rows.lock().values().map(|row| (row.record.clone(), row.attempts.len())).collect()
    }

    fn insert(&self, record: MailRecord, claim: Option<MailClaim>) -> (DeliveryId, bool) {
        let mut rows = self.rows.lock();
        let same = |row: &&Row| {
            let of =
                |record: &MailRecord| (record.org_id, record.key.clone(), record.recipient.clone());
            of(&row.record) == of(&record)
        };
        if let Some(there) = rows.values().find(same) {
            return (there.record.id, false);
        }
        let id = record.id;
        rows.insert(id, Row { record, claim, attempts: vec![] });
        (id, true)
    }
}

fn down() -> StoreError {
    StoreError::Unavailable("the test's database is down".into())
}

#[async_trait]
impl Suppressions for MemoryMails {
    async fn suppression(
        &self,
        org_id: OrgId,
        given: &str,
    ) -> Result<Option<SuppressionReason>, StoreError> {
        let all = self.suppressed.lock();
        let its = all.iter().filter(|one| [org_id, NO_ORG].contains(&one.org_id));
        let its = its.filter(|one| one.address == address(given)).map(|one| one.reason);
        Ok(its.min_by_key(|reason| *reason == SuppressionReason::Unsubscribed))
    }
}

#[async_trait]
impl MailStore for MemoryMails {
    async fn enqueue(
        &self,
        org_id: OrgId,
        request: &MailRequest,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let recipients: Vec<String> = match &request.to {
            To::Addresses(addresses) => addresses.clone(),
            To::Members(roles) => {
                let members = self.members.lock();
                let its =
                    members.iter().filter(|(org, role, _)| *org == org_id && roles.contains(role));
                its.map(|(_, _, email)| email.clone()).collect()
            }
        };
        let record = |recipient: &String| request.record(org_id, DeliveryId::new(), recipient);
        let records: Result<Vec<_>, _> = recipients.iter().map(record).collect();
        let records = records
            .map_err(|error| StoreError::Corrupt { what: "mail", source: Box::new(error) })?;
        Ok(records.into_iter().map(|record| self.insert(record, None).0).collect())
    }

    async fn claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedMail>, StoreError> {
        let claim = MailClaim::new(now, lease);
        let mut rows = self.rows.lock();
        let mut due: Vec<&mut Row> = rows
            .values_mut()
            .filter(|row| row.is_free(now))
            .filter(|row| row.record.next_attempt_at.is_some_and(|at| at <= now))
            .collect();
        due.sort_by_key(|row| row.record.next_attempt_at);
        let taken = due.into_iter().take(limit as usize).map(|row| {
            row.claim = Some(claim);
            ClaimedMail { mail: row.record.clone(), claim }
        });
        Ok(taken.collect())
    }

    async fn settle(&self, claim: &MailClaim, settled: &SettledMail) -> Result<bool, StoreError> {
        let failing = |left: usize| left.checked_sub(1);
        if self.settles_to_fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing).is_ok() {
            return Err(down());
        }
        let mut rows = self.rows.lock();
        let Some(row) = rows.get_mut(&settled.mail.id) else { return Ok(false) };
        if row.claim.map(|held| held.by) != Some(claim.by) {
            return Ok(false);
        }
        (row.record, row.claim) = (settled.mail.clone(), None);
        row.attempts.extend(settled.attempt.clone());
        if let Some(reason) = settled.suppress {
            self.suppressed.lock().push(SuppressedAddress {
                org_id: settled.mail.org_id,
                address: settled.mail.recipient.clone(),
                reason,
                created_at: settled.mail.created_at,
            });
        }
        Ok(true)
    }

    async fn next_mail_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.rows.lock();
        let free = rows.values().filter(|row| row.is_free(now));
        Ok(free.filter_map(|row| row.record.next_attempt_at).min())
    }

    async fn mails(
        &self,
        org_id: OrgId,
        filter: MailFilter,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreError> {
        let rows = self.rows.lock();
        let wanted = rows.values().rev().filter(|row| {
            let record = &row.record;
            record.org_id == org_id
                && filter.state.is_none_or(|state| record.state == state)
                && filter.template.is_none_or(|template| record.template == template)
                && filter.before.is_none_or(|before| record.id < before)
        });
        Ok(wanted.take(limit as usize).map(Row::shown).collect())
    }

    async fn mail(
        &self,
        org_id: OrgId,
        id: DeliveryId,
    ) -> Result<Option<(MailRecord, Mail)>, StoreError> {
        let rows = self.rows.lock();
        let row = rows.get(&id).filter(|row| row.record.org_id == org_id);
        Ok(row.map(|row| (row.record.clone(), row.shown())))
    }

    async fn change_mail(
        &self,
        before: &MailRecord,
        after: &MailRecord,
    ) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock();
        let Some(row) = rows.get_mut(&before.id).filter(|row| row.record == *before) else {
            return Ok(false);
        };
        (row.record, row.claim) = (after.clone(), None);
        Ok(true)
    }

    async fn suppress(&self, suppressed: &SuppressedAddress) -> Result<(), StoreError> {
        let one = SuppressedAddress { address: address(&suppressed.address), ..suppressed.clone() };
        self.suppressed.lock().push(one);
        Ok(())
    }

    async fn suppressions(
        &self,
        org_id: Option<OrgId>,
    ) -> Result<Vec<SuppressedAddress>, StoreError> {
        let all = self.suppressed.lock();
        let its = all.iter().filter(|one| org_id.is_none_or(|org_id| one.org_id == org_id));
        Ok(its.cloned().collect())
    }

    async fn unsuppress(&self, org_id: OrgId, given: &str) -> Result<bool, StoreError> {
        let mut all = self.suppressed.lock();
        let before = all.len();
        all.retain(|one| one.org_id != org_id || one.address != address(given));
        Ok(all.len() < before)
    }
}

/// The cause of a strict mail, in memory: there or taken back.
pub struct MemoryCause {
    mails: Arc<MemoryMails>,
    mail: MailRecord,
    /// Whether it is there, and whether it was confirmed.
    pub state: Mutex<(bool, bool)>,
}

impl MemoryCause {
    /// A cause that has not begun.
    #[must_use]
    pub fn new(mails: &Arc<MemoryMails>, mail: MailRecord) -> Self {
        Self { mails: Arc::clone(mails), mail, state: Mutex::default() }
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.state.lock().0
    }
}

#[async_trait]
impl StrictCause for MemoryCause {
    async fn begin(&self, claim: &MailClaim) -> Result<MailRecord, StoreError> {
        if !self.mails.insert(self.mail.clone(), Some(*claim)).1 {
            return Err(StoreError::Exists { what: "such a mail" });
        }
        self.state.lock().0 = true;
        Ok(self.mail.clone())
    }

    async fn end(
        &self,
        claim: &MailClaim,
        settled: &SettledMail,
        end: CauseEnd,
    ) -> Result<bool, StoreError> {
        let is_held = self.mails.settle(claim, settled).await?;
        if is_held {
            *self.state.lock() = match end {
                CauseEnd::Confirm => (true, true),
                CauseEnd::Undo => (false, false),
            };
        }
        Ok(is_held)
    }
}

/// Answers the verdicts it was given, then accepts, and notes what it was asked to send.
#[derive(Default)]
pub struct ScriptedMailSender {
    verdicts: Mutex<VecDeque<MailVerdict>>,
    hangs: AtomicUsize,
    sent: Mutex<Vec<(DeliveryId, String)>>,
}

impl ScriptedMailSender {
    /// A mail server that accepts everything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The answer to the next mail without one.
    pub fn will_answer(&self, verdict: MailVerdict) {
        self.verdicts.lock().push_back(verdict);
    }

    /// The next `count` mails are never answered.
    pub fn hang(&self, count: usize) {
        self.hangs.store(count, Ordering::SeqCst);
    }

    /// What was sent, in order: the mail and its recipient.
    #[must_use]
    pub fn sent(&self) -> Vec<(DeliveryId, String)> {
        self.sent.lock().clone()
    }
}

#[async_trait]
impl MailSender for ScriptedMailSender {
    async fn send(&self, mail: &MailRecord) -> MailVerdict {
        self.sent.lock().push((mail.id, mail.recipient.clone()));
        let hanging = |left: usize| left.checked_sub(1);
        if self.hangs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hanging).is_ok() {
            std::future::pending::<()>().await;
        }
        // Not at once, as a socket would not either.
        tokio::task::yield_now().await;
        let accepted =
            MailVerdict::Tried { verdict: Verdict::accepted(Some(250)), is_bounce: false };
        self.verdicts.lock().pop_front().unwrap_or(accepted)
    }
}
