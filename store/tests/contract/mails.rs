use std::sync::Arc;
use std::time::Duration;

use pulse_actors::ports::{
    CauseEnd, ClaimedMail, MailClaim, MailFilter, MailStore, SettledMail, StoreError, StrictCause,
    SuppressedAddress, Suppressions,
};
use pulse_domain::notification::mail::{
    ChannelFailing, MailRecord, MailRequest, NO_ORG, PasswordReset, StaffMessage, Tried,
};
use pulse_domain::record::Write;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    Attempt, AttemptOutcome, ChannelKind, DeliveryState, MailTemplate, Role, SuppressionReason,
};
use pulse_protocol::ids::{ChannelId, DeliveryId, OrgId, UserId};
use pulse_store::{Database, MailAlone};
use sea_orm::{ConnectionTrait, Statement};

use crate::kit::*;

const LEASE: Duration = Duration::from_secs(120);

pub(crate) fn reset(request_id: &str, email: &str, now: Timestamp) -> MailRequest {
    let reset = PasswordReset {
        request_id: request_id.to_owned(),
        token: "tok_secret".to_owned(),
        expires_at: now + Duration::from_secs(600),
    };
    MailRequest::to_addresses(reset, vec![email.to_owned()], now)
}

fn failing(channel_id: ChannelId) -> MailRequest {
    let failing = ChannelFailing {
        org_name: "Acme".to_owned(),
        channel_id,
        channel_name: "Ops".to_owned(),
        kind: ChannelKind::Slack,
        failing_since: at(1),
        error: None,
    };
    MailRequest::to_members(failing, at(2_000)).unwrap()
}

/// An org whose welcome is out of the way.
async fn quiet_org(store: &Database) -> OrgId {
    let org_id = org(store).await;
    for claimed in store.claim_due(at(1_000), LEASE, 100).await.unwrap() {
        settle(store, &claimed, AttemptOutcome::Accepted).await;
    }
    org_id
}

fn after(claimed: &ClaimedMail, outcome: AttemptOutcome) -> SettledMail {
    let now = at(5_000);
    let attempt =
        Attempt { at: now, duration_ms: 3, outcome, status: Some(250), answer: None, error: None };
    let tried = Tried { outcome, status: Some(250), error: None, retry_after: None };
    let mail = claimed.mail.clone().after_attempt(tried, 1.0, now);
    SettledMail { mail, attempt: Some(attempt), suppress: None }
}

async fn settle(store: &Database, claimed: &ClaimedMail, outcome: AttemptOutcome) -> bool {
    store.settle(&claimed.claim, &after(claimed, outcome)).await.unwrap()
}

async fn add_member(db: &Fresh, org_id: OrgId, email: &str, role: Role) {
    let (raw, user) = (db.raw().await, UserId::new().uuid());
    let backend = raw.get_database_backend();
    for (text, values) in [
        (
            "INSERT INTO users (id, email, name, password_hash, created_at) VALUES ($1, $2, $3, 'x', 1)",
            vec![user.into(), email.into(), email.into()],
        ),
        (
            "INSERT INTO members (org_id, user_id, role) VALUES ($1, $2, $3)",
            vec![org_id.uuid().into(), user.into(), role.as_str().into()],
        ),
    ] {
        raw.execute_raw(Statement::from_sql_and_values(backend, text, values)).await.unwrap();
    }
}

/// M4, also when many call for it at once.
pub(crate) async fn of_one_key_each_address_gets_one_mail(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = quiet_org(&store).await;
    let mut calling = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        calling.spawn(async move {
            store.enqueue(org_id, &reset("r1", "A@example.org", at(2_000))).await.unwrap()
        });
    }
    let ids: Vec<Vec<DeliveryId>> = calling.join_all().await;
    assert!(ids.iter().all(|all| *all == ids[0] && all.len() == 1), "{ids:?}");
    let other = store.enqueue(org_id, &reset("r2", "a@example.org", at(2_000))).await.unwrap();
    let elsewhere = store.enqueue(NO_ORG, &reset("r1", "a@example.org", at(2_000))).await.unwrap();
    assert!(other != ids[0] && elsewhere != ids[0] && elsewhere != other);
    // Not even when it has ended.
    for claimed in store.claim_due(at(2_000), LEASE, 10).await.unwrap() {
        assert!(settle(&store, &claimed, AttemptOutcome::Accepted).await);
    }
    let again = store.enqueue(org_id, &reset("r1", "a@example.org", at(3_000))).await.unwrap();
    assert_eq!(again, ids[0]);
    assert_eq!(store.claim_due(at(9_000), LEASE, 10).await.unwrap(), []);
}

/// N34, N39: in the journal's own transaction, and to the members there are then.
pub(crate) async fn a_mail_for_members_is_written_with_its_cause_one_row_for_each(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let org_id = quiet_org(&store).await;
    add_member(&db, org_id, "admin@example.org", Role::Admin).await;
    add_member(&db, org_id, "editor@example.org", Role::Editor).await;
    add_member(&db, quiet_org(&store).await, "stranger@example.org", Role::Owner).await;
    let mut scribe = Scribe::new(org_id, 0);
    let request = failing(ChannelId::new());
    let write = || Write::Mail(Box::new(request.clone()));
    scribe.write(&writer, 1, vec![write(), write()]).await;
    scribe.write(&writer, 1, vec![write()]).await;
    let filter =
        MailFilter { template: Some(MailTemplate::ChannelFailing), ..MailFilter::default() };
    let mails = store.mails(org_id, filter, 10).await.unwrap();
    let mut to: Vec<&str> = mails.iter().map(|mail| mail.recipient.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to.len(), 2, "the owner and the admin, once: {to:?}");
    assert!(to.contains(&"admin@example.org"));

    // What is refused leaves no mail behind.
    let mut late = Scribe::new(org_id, 0);
    submit(&writer, late.submission(1, vec![Write::Mail(Box::new(failing(ChannelId::new())))]))
        .await;
    assert_eq!(late.outcome().await, Told::Conflict);
    assert_eq!(store.mails(org_id, filter, 10).await.unwrap().len(), 2);
}

/// N01
pub(crate) async fn an_org_is_welcomed_in_the_transaction_that_makes_it(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = org(&store).await;
    let mails = store.mails(org_id, MailFilter::default(), 10).await.unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].template, mails[0].state), (MailTemplate::Welcome, DeliveryState::Queued));
    assert!(mails[0].recipient.ends_with("@example.org"));
    assert_eq!(store.next_mail_at(at(1_000)).await.unwrap(), Some(at(1_000)));
}

pub(crate) async fn what_a_mail_says_is_sealed_and_what_it_is_can_be_listed(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = quiet_org(&store).await;
    let id = store.enqueue(org_id, &reset("r1", "a@example.org", at(2_000))).await.unwrap()[0];
    let raw = db.raw().await;
    let text = "SELECT params FROM mails WHERE template = 'password_reset'";
    let select = Statement::from_string(raw.get_database_backend(), text);
    let row = raw.query_one_raw(select).await.unwrap().unwrap();
    let stored: String = row.try_get_by_index(0).unwrap();
    assert!(stored.starts_with("v1.") && !stored.contains("tok_secret"));

    let (record, view) = store.mail(org_id, id).await.unwrap().unwrap();
    assert_eq!(record.params["token"], "tok_secret");
    assert_eq!(
        (record.key.as_str(), view.recipient.as_str()),
        ("password_reset:r1", "a@example.org")
    );
    assert!(!serde_json::to_string(&view).unwrap().contains("tok_secret"));
    let list = async |filter| store.mails(org_id, filter, 10).await.unwrap();
    let all = MailFilter::default();
    assert_eq!(list(all).await.len(), 2);
    assert_eq!(
        list(MailFilter { before: Some(id), ..all }).await[0].template,
        MailTemplate::Welcome
    );
    let queued = list(MailFilter { state: Some(DeliveryState::Queued), ..all }).await;
    assert_eq!(queued, [view]);
    assert!(store.mail(NO_ORG, id).await.unwrap().is_none());
}

pub(crate) async fn two_who_claim_at_once_share_no_mail(db: Arc<Fresh>) {
    let (here, there) = (db.store().await, db.connect().await);
    let org_id = quiet_org(&here).await;
    for nth in 0..40 {
        here.enqueue(org_id, &reset(&nth.to_string(), "a@example.org", at(2_000))).await.unwrap();
    }
    let mut claiming = tokio::task::JoinSet::new();
    for nth in 0..6 {
        let store = if nth % 2 == 0 { here.clone() } else { there.clone() };
        claiming.spawn(async move { store.claim_due(at(3_000), LEASE, 8).await.unwrap() });
    }
    let claimed: Vec<ClaimedMail> = claiming.join_all().await.into_iter().flatten().collect();
    let mut ids: Vec<DeliveryId> = claimed.iter().map(|claimed| claimed.mail.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), claimed.len(), "nobody's mail was somebody else's");
    assert!(here.claim_due(at(1_999), LEASE, 50).await.unwrap().is_empty(), "not yet due");
    let rest = here.claim_due(at(3_000), LEASE, 50).await.unwrap();
    assert_eq!(ids.len() + rest.len(), 40);
    assert_eq!(here.next_mail_at(at(3_000)).await.unwrap(), None);
}

/// N35
pub(crate) async fn a_mail_is_taken_over_when_its_claim_has_ended_and_the_late_one_changes_nothing(
    db: Arc<Fresh>,
) {
    let (fallen, other) = (db.store().await, db.connect().await);
    let org_id = quiet_org(&fallen).await;
    let id = fallen.enqueue(org_id, &reset("r1", "a@example.org", at(2_000))).await.unwrap()[0];
    let held = fallen.claim_due(at(3_000), LEASE, 10).await.unwrap().remove(0);
    let end = at(3_000) + LEASE;
    let before = end - Duration::from_millis(1);
    assert!(other.claim_due(before, LEASE, 10).await.unwrap().is_empty());
    let taken = other.claim_due(end, LEASE, 10).await.unwrap().remove(0);
    assert_eq!((taken.mail.id, &taken.mail), (id, &held.mail));

    assert!(!settle(&fallen, &held, AttemptOutcome::Permanent).await);
    let (_, view) = other.mail(org_id, id).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempts.len()), (DeliveryState::Queued, 0));
    assert!(settle(&other, &taken, AttemptOutcome::Retry).await);
    assert!(!settle(&other, &taken, AttemptOutcome::Accepted).await, "it gave its claim back");
    let (record, view) = other.mail(org_id, id).await.unwrap().unwrap();
    assert_eq!((record.state, record.tries), (DeliveryState::Retrying, 1));
    assert_eq!((view.attempts.len(), view.attempts[0].status), (1, Some(250)));
    let due = record.next_attempt_at.unwrap();
    assert_eq!(other.next_mail_at(at(0)).await.unwrap(), Some(due));
    assert_eq!(other.claim_due(due, LEASE, 10).await.unwrap()[0].mail, record);
}

pub(crate) async fn a_refused_address_is_suppressed_for_its_org_alone(db: Arc<Fresh>) {
    let store = db.store().await;
    let (org_id, other) = (quiet_org(&store).await, quiet_org(&store).await);
    store.enqueue(org_id, &reset("r1", "Gone@example.org", at(2_000))).await.unwrap();
    let claimed = store.claim_due(at(3_000), LEASE, 10).await.unwrap().remove(0);
    let mut settled = after(&claimed, AttemptOutcome::Permanent);
    settled.suppress = Some(SuppressionReason::Bounce);
    assert!(store.settle(&claimed.claim, &settled).await.unwrap());
    let why = async |org, address: &str| store.suppression(org, address).await.unwrap();
    assert_eq!(why(org_id, "GONE@example.org ").await, Some(SuppressionReason::Bounce));
    assert_eq!(why(other, "gone@example.org").await, None);

    let unsubscribed = SuppressedAddress {
        org_id,
        address: "gone@example.org".to_owned(),
        reason: SuppressionReason::Unsubscribed,
        created_at: at(7),
    };
    for _ in 0..2 {
        store.suppress(&unsubscribed).await.unwrap();
    }
    assert_eq!(
        why(org_id, "gone@example.org").await,
        Some(SuppressionReason::Bounce),
        "the stronger"
    );
    assert_eq!(store.suppressions(Some(org_id)).await.unwrap().len(), 2);
    assert!(store.suppressions(Some(other)).await.unwrap().is_empty());
    assert!(store.unsuppress(org_id, "Gone@example.org").await.unwrap());
    assert!(!store.unsuppress(org_id, "gone@example.org").await.unwrap());
    assert_eq!(why(org_id, "gone@example.org").await, None);

    store.suppress(&SuppressedAddress { org_id: NO_ORG, ..unsubscribed }).await.unwrap();
    assert_eq!(
        why(other, "gone@example.org").await,
        Some(SuppressionReason::Unsubscribed),
        "of all"
    );
    assert_eq!(store.suppressions(None).await.unwrap().len(), 1);
}

/// N38
pub(crate) async fn a_replayed_mail_is_due_again_and_one_that_changed_is_left(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = quiet_org(&store).await;
    let id = store.enqueue(org_id, &reset("r1", "a@example.org", at(2_000))).await.unwrap()[0];
    let claimed = store.claim_due(at(3_000), LEASE, 10).await.unwrap().remove(0);
    assert!(settle(&store, &claimed, AttemptOutcome::Permanent).await);
    let dead = store.mail(org_id, id).await.unwrap().unwrap().0;
    assert_eq!(dead.state, DeliveryState::Dead);
    let replayed = dead.clone().replayed(at(6_000)).unwrap();
    assert!(store.change_mail(&dead, &replayed).await.unwrap());
    assert!(!store.change_mail(&dead, &replayed).await.unwrap(), "only once");
    // A person gives it up while it is on its way: its attempt changes nothing any more.
    let again = store.claim_due(at(6_000), LEASE, 10).await.unwrap().remove(0);
    assert_eq!(again.mail, replayed);
    let discarded = replayed.clone().discarded(at(6_500)).unwrap();
    assert!(store.change_mail(&replayed, &discarded).await.unwrap());
    assert!(!settle(&store, &again, AttemptOutcome::Accepted).await);
    assert_eq!(store.mail(org_id, id).await.unwrap().unwrap().0, discarded);
}

/// N18
pub(crate) async fn a_strict_mail_is_held_until_it_ends_or_its_sender_fell(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = quiet_org(&store).await;
    let strict = |message_id: &str| -> MailRecord {
        let message = StaffMessage {
            org_name: "Acme".to_owned(),
            message_id: message_id.to_owned(),
            subject: "Hello".to_owned(),
            text: "There".to_owned(),
        };
        let request = MailRequest::to_addresses(message, vec![], at(2_000));
        request.record(org_id, DeliveryId::new(), "owner@example.org").unwrap()
    };
    let alone = |mail: MailRecord| MailAlone { database: store.clone(), mail };
    let ends = alone(strict("m1"));
    let claim = MailClaim::new(at(2_000), LEASE);
    let mail = ends.begin(&claim).await.unwrap();
    assert!(store.claim_due(at(3_000), LEASE, 10).await.unwrap().is_empty(), "it is held");
    let again = alone(strict("m1")).begin(&MailClaim::new(at(2_000), LEASE)).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    let settled = after(&ClaimedMail { mail, claim }, AttemptOutcome::Accepted);
    assert!(ends.end(&claim, &settled, CauseEnd::Confirm).await.unwrap());

    let falls = alone(strict("m2"));
    let claim = MailClaim::new(at(2_000), LEASE);
    let mail = falls.begin(&claim).await.unwrap();
    let taken = store.claim_due(claim.until, LEASE, 10).await.unwrap().remove(0);
    assert_eq!(taken.mail, mail);
    let late = after(&ClaimedMail { mail, claim }, AttemptOutcome::Permanent);
    assert!(!falls.end(&claim, &late, CauseEnd::Undo).await.unwrap());
}
