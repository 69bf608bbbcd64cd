use std::sync::Arc;
use std::time::Duration;

use pulse_actors::ports::{
    Accounts, DeliveryFilter, MailFilter, MailStore, OrgStore, SessionLogin, SettledMail,
};
use pulse_domain::notification::board::Tracked;
use pulse_domain::record::Write;
use pulse_protocol::api::{Attempt, AttemptOutcome, DeliveryState, MailTemplate};
use pulse_protocol::ids::{ChannelId, SessionId};
use pulse_store::{Database, Pruned, Retention};

use crate::accounts::owner;
use crate::kit::*;
use crate::mails::reset;
use crate::samples::{Draw, alert, delivery};

fn retention(store: &Database, batch: u32) -> Retention {
    Retention { database: store.clone(), keep_events: Duration::ZERO, batch }
}

/// The kit's events happen at 1, 2, 3, … seconds.
pub(crate) async fn old_events_go_and_the_newest_stays(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let (mut long, mut short) =
        (Scribe::new(org(&store).await, 0), Scribe::new(org(&store).await, 0));
    let old = delivery(ChannelId::new(), 3, None);
    let attempt = Attempt {
        at: at(1),
        duration_ms: 1,
        outcome: AttemptOutcome::Accepted,
        status: Some(200),
        answer: None,
        error: None,
    };
    let kept = delivery(ChannelId::new(), 20, None);
    let writes = vec![
        Write::Delivery(old.clone()),
        Write::Attempt(old.id, attempt),
        Write::Delivery(kept.clone()),
    ];
    long.write(&writer, 20, writes).await;
    short.write(&writer, 5, vec![]).await;

    let pruned = retention(&store, 4).run_once(at(11_000)).await.unwrap();
    assert_eq!(pruned, Pruned { events: 10 + 4, deliveries: 1, ..Pruned::default() });
    let (long_id, short_id) = (long.home.org_id, short.home.org_id);
    assert_eq!(store.event_range(long_id).await.unwrap(), (11, 20));
    assert_eq!(store.event_range(short_id).await.unwrap(), (5, 5));
    let left = store.deliveries(long_id, DeliveryFilter::default(), 10).await.unwrap();
    assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [kept.id]);
    // The numbers go on.
    short.write(&writer, 1, vec![]).await;
    assert_eq!(store.event_range(short_id).await.unwrap(), (5, 6));
    let again = retention(&store, 4).run_once(at(5_000)).await.unwrap();
    assert_eq!(again, Pruned::default());
}

pub(crate) async fn an_unfinished_delivery_keeps_its_event_and_what_follows(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let mut waiting = delivery(ChannelId::new(), 7, Some(1));
    scribe.write(&writer, 20, vec![Write::Delivery(waiting.clone())]).await;
    let retention = retention(&store, 5);
    assert_eq!(retention.run_once(at(100_000)).await.unwrap().events, 6);
    assert_eq!(store.event_range(org_id).await.unwrap(), (7, 20));
    let due = store.due_deliveries(org_id, waiting.channel_id, at(1), 10).await.unwrap();
    assert_eq!(due.deliveries[0].event.seq, 7);

    (waiting.state, waiting.next_attempt_at) = (DeliveryState::Delivered, None);
    scribe.write(&writer, 0, vec![Write::Delivery(waiting)]).await;
    let pruned = retention.run_once(at(100_000)).await.unwrap();
    assert_eq!((pruned.events, pruned.deliveries), (13, 1));
}

pub(crate) async fn an_alert_that_is_still_to_be_told_keeps_its_event(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let mut alert = Draw::new().one(alert());
    let Tracked::Alert(told) = &mut alert.state else { unreachable!("samples are alerts") };
    (told.recovery, told.problem.seq) = (None, 7);
    alert.due_at = Some(at(1));
    scribe.write(&writer, 20, vec![Write::Alert(alert.clone())]).await;
    let retention = retention(&store, 5);
    assert_eq!(retention.run_once(at(100_000)).await.unwrap().events, 6);
    assert_eq!(store.event_range(org_id).await.unwrap(), (7, 20));

    // Not for ever: an alert that is held back for longer than any window stays behind its event.
    let week_later = at(20_000) + Duration::from_secs(8 * 24 * 3_600 - 14);
    assert_eq!(retention.run_once(week_later).await.unwrap().events, 0);
    let later = week_later + Duration::from_secs(2);
    let mut held = Scribe::new(org(&store).await, 0);
    held.write(&writer, 20, vec![Write::Alert(alert.clone())]).await;
    let pruned = retention.prune_events(held.home.org_id, later).await.unwrap();
    assert_eq!(pruned.events, 19);

    alert.due_at = None;
    scribe.write(&writer, 0, vec![Write::Alert(alert)]).await;
    assert_eq!(retention.prune_events(org_id, at(100_000)).await.unwrap().events, 13);
}

pub(crate) async fn pruning_in_batches_of_one_ends(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let writes = (1..=3).map(|seq| Write::Delivery(delivery(ChannelId::new(), seq, None)));
    scribe.write(&writer, 6, writes.collect()).await;
    let pruned = retention(&store, 1).prune_events(scribe.home.org_id, at(5_000)).await.unwrap();
    assert_eq!((pruned.events, pruned.deliveries), (4, 3));
    assert_eq!(store.event_range(scribe.home.org_id).await.unwrap(), (5, 6));
}

pub(crate) async fn ended_logins_go(db: Arc<Fresh>) {
    let store = db.store().await;
    let user = owner(&store, "a@example.org").await;
    for (name, ends_at) in [("short", 50), ("long", 500)] {
        let login = SessionLogin {
            session_id: SessionId::new(),
            user: user.clone(),
            csrf_token: "csrf".to_owned(),
            expires_at: at(ends_at),
        };
        store.create_session(&hash(name), &login, at(1)).await.unwrap();
    }
    let pruned = retention(&store, 10).run_once(at(100)).await.unwrap();
    assert_eq!((pruned.sessions, pruned.tokens), (1, 0));
    assert!(store.session(&hash("long"), at(100)).await.unwrap().is_some());
}

pub(crate) async fn ended_mails_go_and_unfinished_ones_stay(db: Arc<Fresh>) {
    let store = db.store().await;
    // Its welcome has not ended.
    let org_id = org(&store).await;
    for nth in 0..3 {
        let request = reset(&nth.to_string(), "a@example.org", at(2_000));
        store.enqueue(org_id, &request).await.unwrap();
    }
    for claimed in store.claim_due(at(2_000), Duration::from_secs(120), 10).await.unwrap() {
        let attempt = Attempt {
            at: at(3_000),
            duration_ms: 1,
            outcome: AttemptOutcome::Retry,
            status: None,
            answer: None,
            error: None,
        };
        let mail = match claimed.mail.template {
            MailTemplate::PasswordReset => claimed.mail.given_up(at(3_000)),
            _ => claimed.mail,
        };
        let settled = SettledMail { mail, attempt: Some(attempt), suppress: None };
        assert!(store.settle(&claimed.claim, &settled).await.unwrap());
    }
    let retention = retention(&store, 2);
    assert_eq!(retention.run_once(at(3_000)).await.unwrap().mails, 0);
    assert_eq!(retention.run_once(at(3_001)).await.unwrap().mails, 3);
    let left = store.mails(org_id, MailFilter::default(), 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].template, left[0].attempts.len()), (MailTemplate::Welcome, 1));
    assert_eq!(retention.run_once(at(9_000_000)).await.unwrap(), Pruned::default());
}
