//! The product's own mail as the edge sees it: mails that must be accepted before an answer, and what became of an org's.

use actix_web::HttpResponse;
use pulse_actors::mailer::{Courier, LEASE};
use pulse_actors::ports::{CauseEnd, MailClaim, MailFilter, StoreError, StrictCause};
use pulse_domain::request::Refusal;
use pulse_protocol::api::{DeliveryState, MailDelivery, MailOutcome, MailTemplate};
use pulse_protocol::ids::DeliveryId;
use pulse_protocol::problem::ProblemCode;

use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageChannels, Tenant};

/// Why a strict mail and its cause are not there.
#[derive(Debug, thiserror::Error)]
pub enum StrictError {
    /// The mail was not accepted; its cause was taken back.
    #[error("the mail was not accepted ({}): {why}", .delivery.state)]
    NotAccepted {
        /// The mail.
        delivery: MailDelivery,
        /// Why.
        why: String,
    },
    /// The store failed. Whether the cause stands is not known, but if it does the mail is sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StrictError> for ApiError {
    fn from(error: StrictError) -> Self {
        match error {
            StrictError::Store(error) => error.into(),
            StrictError::NotAccepted { delivery, why } => Self::new(
                ProblemCode::DeliveryFailed,
                format!(
                    "nothing was changed, because the mail {} was not accepted: {why}",
                    delivery.id
                ),
            ),
        }
    }
}

/// Does what `cause` is only together with its mail: both are written, the mail is tried once, and then the cause is
/// confirmed or taken back.
///
/// Takes as long as one attempt, at most half a minute. Whoever falls meanwhile leaves a mail that the mailer sends when
/// the claim has ended, and a cause that stands.
///
/// # Errors
///
/// Returns [`StrictError`].
pub async fn strict(
    courier: &Courier,
    cause: &dyn StrictCause,
) -> Result<MailDelivery, StrictError> {
    let claim = MailClaim::new(courier.clock.now(), LEASE);
    let mail = cause.begin(&claim).await?;
    let (org_id, id) = (mail.org_id, mail.id);
    let mut settled = courier.attempt(mail).await?;
    // One attempt is all there is: whoever asked is told now.
    settled.mail = settled.mail.given_up(courier.clock.now());
    let outcome = settled.mail.outcome();
    let end = match outcome {
        MailOutcome::Sent => CauseEnd::Confirm,
        _ => CauseEnd::Undo,
    };
    if !cause.end(&claim, &settled, end).await? {
        // The claim ended first, and with it the right to decide: what the mailer makes of the mail holds.
        let found = courier.store.mail(org_id, id).await?;
        let state = found.map_or(MailOutcome::Queued, |(mail, _)| mail.outcome());
        return Ok(MailDelivery { id, state });
    }
    let delivery = MailDelivery { id, state: outcome };
    match end {
        CauseEnd::Confirm => Ok(delivery),
        CauseEnd::Undo => {
            let why = settled.mail.error.unwrap_or_else(|| "no reason was given".to_owned());
            Err(StrictError::NotAccepted { delivery, why })
        }
    }
}

/// `GET …/mails?state=&template=`: newest first. Who was mailed is for those who run the org.
pub(crate) async fn list(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    let words = |all: Vec<&str>| format!("one of {}", all.join(", "));
    let states = words(DeliveryState::ALL.iter().map(|state| state.as_str()).collect());
    let state = params.read("state", &states, DeliveryState::from_word);
    let templates = words(MailTemplate::ALL.iter().map(|template| template.as_str()).collect());
    let template = params.read("template", &templates, MailTemplate::from_word);
    params.finish()?;
    let filter = MailFilter { state, template, before: paging.after };
    let limit = u32::try_from(paging.probe()).unwrap_or(u32::MAX);
    let mails = tenant.state().courier.store.mails(tenant.org.id, filter, limit).await?;
    Ok(HttpResponse::Ok().json(paging.page(mails, |mail| mail.id)))
}

/// `POST …/mails/{delivery_id}/replay`
pub(crate) async fn replay(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let missing = || ApiError::from(Refusal::NotFound { what: "mail".into() });
    let id: DeliveryId = tenant.id("delivery_id", "mail")?;
    let state = tenant.state();
    let store = &state.courier.store;
    let (before, _) = store.mail(tenant.org.id, id).await?.ok_or_else(missing)?;
    let after = before.clone().replayed(state.clock.now())?;
    if !store.change_mail(&before, &after).await? {
        let message = "it has changed meanwhile; look at it again".to_owned();
        return Err(Refusal::Conflict { message }.into());
    }
    state.directory.wake_mailer();
    let (_, shown) = store.mail(tenant.org.id, id).await?.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(shown))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::Registry;
    use pulse_actors::metrics::Metrics;
    use pulse_actors::ports::{MailStore, MailVerdict, SuppressedAddress, Verdict};
    use pulse_actors::testing::{ManualClock, MemoryCause, MemoryMails, NOON, ScriptedMailSender};
    use pulse_domain::notification::mail::{Invitation, MailRequest};
    use pulse_protocol::api::{Role, SuppressionReason};
    use pulse_protocol::ids::OrgId;

    use super::*;

    struct Stage {
        mails: Arc<MemoryMails>,
        sender: Arc<ScriptedMailSender>,
        courier: Courier,
        org_id: OrgId,
    }

    impl Stage {
        fn new() -> Self {
            let (mails, sender) = (MemoryMails::new(), ScriptedMailSender::new());
            let courier = Courier {
                clock: Arc::new(ManualClock::new()),
                store: Arc::clone(&mails) as _,
                sender: Arc::clone(&sender) as _,
                metrics: Metrics::register(&Registry::new()).unwrap(),
                jitter: || 1.0,
            };
            Self { mails, sender, courier, org_id: OrgId::new() }
        }

        fn invitation(&self) -> MemoryCause {
            let invitation = Invitation {
                org_name: "Acme".to_owned(),
                inviter_name: "Ada".to_owned(),
                role: Role::Editor,
                invitation_id: "i1".to_owned(),
                token: "secret".to_owned(),
                expires_at: NOON + Duration::from_secs(7 * 86_400),
            };
            let request = MailRequest::to_addresses(invitation, vec![], NOON);
            let mail = request.record(self.org_id, DeliveryId::new(), "new@example.org").unwrap();
            MemoryCause::new(&self.mails, mail)
        }

        fn answers(&self, verdict: Verdict, is_bounce: bool) {
            self.sender.will_answer(MailVerdict::Tried { verdict, is_bounce });
        }

        /// The mail's state, how often it was tried, and whether its cause is there.
        fn left(&self, cause: &MemoryCause) -> (DeliveryState, usize, bool) {
            let (mail, attempts) = self.mails.records().remove(0);
            assert!(mail.next_attempt_at.is_none(), "nothing more is tried");
            (mail.state, attempts, cause.is_there())
        }
    }

    async fn refused(stage: &Stage, cause: &MemoryCause) -> (MailOutcome, String) {
        match strict(&stage.courier, cause).await {
            Err(StrictError::NotAccepted { delivery, why }) => (delivery.state, why),
            other => panic!("{other:?}"),
        }
    }

    /// N13
    #[tokio::test(start_paused = true)]
    async fn a_cause_stands_once_its_mail_was_accepted() {
        let stage = Stage::new();
        let cause = stage.invitation();
        let delivery = strict(&stage.courier, &cause).await.unwrap();
        assert_eq!(delivery.state, MailOutcome::Sent);
        assert_eq!(*cause.state.lock(), (true, true));
        assert_eq!(stage.left(&cause), (DeliveryState::Delivered, 1, true));
        let again = strict(&stage.courier, &stage.invitation()).await;
        assert!(matches!(again, Err(StrictError::Store(StoreError::Exists { .. }))), "{again:?}");
    }

    /// N14, N15, N17: whether it is refused for good or for now.
    #[tokio::test(start_paused = true)]
    async fn a_cause_is_taken_back_when_its_mail_is_refused() {
        for (verdict, is_bounce) in [
            (Verdict::permanent(Some(550), "no such user"), true),
            (Verdict::retry(Some(451), "try later"), false),
            (Verdict::retry(None, "no route").ours(), false),
        ] {
            let stage = Stage::new();
            let cause = stage.invitation();
            stage.answers(verdict.clone(), is_bounce);
            let (state, why) = refused(&stage, &cause).await;
            assert_eq!((state, Some(why)), (MailOutcome::Failed, verdict.error));
            assert_eq!(stage.left(&cause), (DeliveryState::Dead, 1, false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mail_server_that_hangs_is_waited_for_half_a_minute() {
        let stage = Stage::new();
        let cause = stage.invitation();
        stage.sender.hang(1);
        let began = tokio::time::Instant::now();
        assert_eq!(refused(&stage, &cause).await.0, MailOutcome::Failed);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(stage.left(&cause), (DeliveryState::Dead, 1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_way_to_send_or_to_a_suppressed_address_nothing_is_begun() {
        let stage = Stage::new();
        stage.sender.will_answer(MailVerdict::NotConfigured);
        let cause = stage.invitation();
        assert_eq!(refused(&stage, &cause).await.0, MailOutcome::NotConfigured);
        assert_eq!(stage.left(&cause), (DeliveryState::Suppressed, 0, false));

        let stage = Stage::new();
        let bounced = SuppressedAddress {
            org_id: stage.org_id,
            address: "new@example.org".to_owned(),
            reason: SuppressionReason::Bounce,
            created_at: NOON,
        };
        stage.mails.suppress(&bounced).await.unwrap();
        let cause = stage.invitation();
        assert_eq!(refused(&stage, &cause).await.0, MailOutcome::Suppressed);
        assert!(stage.sender.sent().is_empty() && !cause.is_there());
    }

    /// The store fails after the mail was accepted: the cause stands, and the mail is still to be sent.
    #[tokio::test(start_paused = true)]
    async fn when_the_end_cannot_be_stored_the_cause_stands_and_the_mail_is_taken_over() {
        let stage = Stage::new();
        let cause = stage.invitation();
        stage.mails.fail_settles(1);
        let failed = strict(&stage.courier, &cause).await;
        assert!(matches!(failed, Err(StrictError::Store(StoreError::Unavailable(_)))));
        assert!(cause.is_there());
        let now = stage.courier.clock.now();
        assert!(stage.mails.claim_due(now, LEASE, 1).await.unwrap().is_empty());
        assert_eq!(stage.mails.claim_due(now + LEASE, LEASE, 1).await.unwrap().len(), 1);
    }

    #[test]
    fn whoever_asked_is_told_what_the_mail_server_said() {
        let delivery = MailDelivery { id: DeliveryId::new(), state: MailOutcome::Failed };
        let error = StrictError::NotAccepted { delivery, why: "550 no such user".to_owned() };
        let answer = ApiError::from(error);
        assert!(answer.to_string().contains("550 no such user"));
    }
}
