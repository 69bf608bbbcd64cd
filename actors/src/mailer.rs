//! The product's own mail: tries what is due, a few at a time. One on each node.
//!
//! - In: [`Wake`], a nudge that something may be due.
//! - Out: attempts to the mail server; what became of each goes to its row.
//! - Shared with the other nodes: a mail is tried by who holds its claim. A node that falls lets its claims end, and
//!   another takes its mails over.
//! - Lost on restart: an attempt whose outcome was not stored is made again, under the same id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::stream;
use pulse_domain::notification::mail::{MailRecord, Tried};
use pulse_protocol::api::{Attempt, SuppressionReason};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, info, info_span, warn};

use crate::metrics::Metrics;
use crate::ports::{
    ClaimedMail, Clock, MAIL_ATTEMPT_WITHIN, MailSender, MailStore, MailVerdict, SettledMail,
    StoreError, Verdict,
};

/// How long a claim lasts: several times as long as an attempt.
pub const LEASE: Duration = Duration::from_secs(120);
/// Mails claimed at a time.
const CLAIMED_MAX: u32 = 16;
/// Mails tried at the same time.
const AT_ONCE: usize = 4;
/// Nudges that were lost, and claims that ended, are made up for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// After a fault of the store, look again this late.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(2);

/// Something may be due.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// Begin no attempt any more; answered when those under way have ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop {
    /// Answered then, or dropped with the mailer.
    pub stopped: oneshot::Sender<()>,
}

/// Tries mails that somebody holds.
#[derive(Clone)]
pub struct Courier {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where the rows are.
    pub store: Arc<dyn MailStore>,
    /// Carries mails.
    pub sender: Arc<dyn MailSender>,
    /// Numbers for the operator.
    pub metrics: Metrics,
    /// Draws from 0 to 1, to spread retries.
    pub jitter: fn() -> f64,
}

impl Courier {
    /// Makes one attempt, or finds that there is none to make. Nothing is stored yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be told whether the recipient wants mail; then nothing was sent.
    pub async fn attempt(&self, mail: MailRecord) -> Result<SettledMail, StoreError> {
        let suppressed = self.store.suppression(mail.org_id, &mail.recipient).await?;
        let at = self.clock.now();
        let mail = match mail.unless_pointless(suppressed, at) {
            Ok(mail) => mail,
            Err(ended) => return Ok(self.told(*ended, None, None)),
        };
        let began = Instant::now();
        let span = info_span!("mail.attempt", mail.id = %mail.id, org.id = %mail.org_id, template = %mail.template, attempt = mail.tries + 1);
        let sent = timeout(MAIL_ATTEMPT_WITHIN, self.sender.send(&mail)).instrument(span).await;
        let (verdict, is_bounce) = match sent {
            Ok(MailVerdict::Tried { verdict, is_bounce }) => (verdict, is_bounce),
            Ok(MailVerdict::NotConfigured) => {
                let mail = mail.not_configured(self.clock.now());
                return Ok(self.told(mail, None, None));
            }
            Err(_) => {
                (Verdict::retry(None, "the mail server did not answer in time").ours(), false)
            }
        };
        let Verdict { outcome, status, answer, error, retry_after, is_ours: _ } = verdict;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let attempt = Attempt { at, duration_ms, outcome, status, answer, error: error.clone() };
        let tried = Tried { outcome, status, error, retry_after };
        let mail = mail.after_attempt(tried, (self.jitter)(), self.clock.now());
        let suppress = is_bounce.then_some(SuppressionReason::Bounce);
        Ok(self.told(mail, Some(attempt), suppress))
    }

    fn told(
        &self,
        mail: MailRecord,
        attempt: Option<Attempt>,
        suppress: Option<SuppressionReason>,
    ) -> SettledMail {
        if let Some(attempt) = &attempt {
            self.metrics.mail_attempts.with_label_values(&[attempt.outcome.as_str()]).inc();
        }
        let (template, state) = (mail.template.as_str(), mail.state.as_str());
        self.metrics.mails.with_label_values(&[template, state]).inc();
        let error = mail.error.as_deref();
        info!(mail.id = %mail.id, org.id = %mail.org_id, template, state, error, "mail tried");
        SettledMail { mail, attempt, suppress }
    }

    /// Claims what is due and tries all of it, unless it `stops`; after how long to look again.
    async fn round(&self, stops: &AtomicBool) -> Result<Duration, StoreError> {
        while !stops.load(Ordering::Acquire) {
            let claimed = self.store.claim_due(self.clock.now(), LEASE, CLAIMED_MAX).await?;
            let may_be_more = claimed.len() >= CLAIMED_MAX as usize;
            let trying = stream::iter(claimed).map(|claimed| self.deliver(claimed, stops));
            trying.buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
            if !may_be_more {
                break;
            }
        }
        let now = self.clock.now();
        let next = self.store.next_mail_at(now).await?;
        Ok(next.map_or(SWEEP_EVERY, |at| at.duration_since(now).min(SWEEP_EVERY)))
    }

    async fn deliver(&self, claimed: ClaimedMail, stops: &AtomicBool) {
        let ClaimedMail { mail, claim } = claimed;
        let ends_too_soon = self.clock.now() + MAIL_ATTEMPT_WITHIN >= claim.until;
        // Another takes it over when the claim has ended: none may begin that could still be under way then.
        if ends_too_soon || stops.load(Ordering::Acquire) {
            return;
        }
        let id = mail.id;
        let stored = match self.attempt(mail).await {
            Ok(settled) => self.store.settle(&claim, &settled).await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(true) => {}
            Ok(false) => info!(mail.id = %id, "somebody else ended this mail meanwhile"),
            Err(error) => {
                warn!(%error, mail.id = %id, "what became of a mail could not be stored; it is tried again when its claim has ended");
            }
        }
    }
}

/// The mailbox of the mailer.
pub struct Mailer {
    courier: Courier,
    busy: bool,
    nudged: bool,
    wake_up: Option<SpawnHandle>,
    stops: Arc<AtomicBool>,
    stopped: Option<oneshot::Sender<()>>,
}

impl Mailer {
    /// A mailer that has not looked yet; nothing runs until it is started.
    #[must_use]
    pub fn new(courier: Courier) -> Self {
        Self {
            courier,
            busy: false,
            nudged: false,
            wake_up: None,
            stops: Arc::default(),
            stopped: None,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            self.nudged = true;
            return;
        }
        self.busy = true;
        if let Some(armed) = self.wake_up.take() {
            ctx.cancel_future(armed);
        }
        let (courier, stops) = (self.courier.clone(), Arc::clone(&self.stops));
        let round = async move {
            courier.round(&stops).await.unwrap_or_else(|error| {
                warn!(%error, "mails could not be read; looking again");
                RETRY_AFTER_FAULT
            })
        };
        ctx.spawn(round.into_actor(self).map(|delay, mailer, ctx| mailer.looked(delay, ctx)));
    }

    fn looked(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        self.busy = false;
        if let Some(stopped) = self.stopped.take() {
            // Whoever asked may have stopped waiting.
            let _ = stopped.send(());
            return ctx.stop();
        }
        if std::mem::take(&mut self.nudged) {
            return self.look(ctx);
        }
        self.wake_up = Some(ctx.run_later(delay, |mailer, ctx| {
            mailer.wake_up = None;
            mailer.look(ctx);
        }));
    }
}

impl Actor for Mailer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Wake> for Mailer {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Stop> for Mailer {
    type Result = ();

    fn handle(&mut self, stop: Stop, ctx: &mut Context<Self>) {
        self.stops.store(true, Ordering::Release);
        self.stopped = Some(stop.stopped);
        if !self.busy {
            self.looked(SWEEP_EVERY, ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::Timestamp;

    use super::*;

    #[test]
    fn a_claim_outlasts_all_attempts_that_are_made_under_it() {
        let rounds = u32::try_from((CLAIMED_MAX as usize).div_ceil(AT_ONCE)).unwrap();
        assert!(MAIL_ATTEMPT_WITHIN * rounds <= LEASE);
        let now = Timestamp::from_unix_ms(0);
        assert!(now + MAIL_ATTEMPT_WITHIN < now + LEASE);
    }
}
