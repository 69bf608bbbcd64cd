use std::sync::Arc;

use pulse_actors::ports::OrgStore;
use pulse_domain::record::Write;
use pulse_protocol::ids::{ChannelId, OrgId};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use tokio::time::{Instant, sleep};

use crate::kit::*;
use crate::samples::{self, Draw};

/// A write that no table takes: a second agent with the key of the first.
fn refused(draw: &mut Draw) -> Vec<Write> {
    let (first, mut second) = (draw.one(samples::agent()), draw.one(samples::agent()));
    second.key_hash = first.key_hash;
    vec![Write::Agent(first), Write::Agent(second)]
}

pub(crate) async fn a_refused_row_leaves_nothing_of_its_batch(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let channel_id = ChannelId::new();
    let mut writes = vec![Write::Delivery(samples::delivery(channel_id, 1, Some(1)))];
    writes.extend(refused(&mut Draw::new()));
    submit(&writer, scribe.submission(1, writes)).await;
    assert_eq!(scribe.outcome().await, Told::Refused);
    let org_id = scribe.home.org_id;
    assert_eq!(store.event_range(org_id).await.unwrap(), (0, 0));
    assert!(store.channels_with_deliveries().await.unwrap().is_empty());
    let image = store.load(org_id).await.unwrap().unwrap();
    assert_eq!((image.seq, image.agents.len()), (0, 0));
    // The next life begins where the tables are.
    Scribe::new(org_id, image.seq).write(&writer, 1, vec![]).await;
}

pub(crate) async fn a_conflict_fails_its_home_alone(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribes = Vec::new();
    for place in 0..12 {
        // Every third believes the journal to be further than it is.
        let believed = if place % 3 == 1 { 5 } else { 0 };
        scribes.push(Scribe::new(org(&store).await, believed));
    }
    for _ in 0..3 {
        for scribe in &mut scribes {
            submit(&writer, scribe.submission(2, vec![])).await;
        }
    }
    for (place, scribe) in scribes.iter_mut().enumerate() {
        let (told, last) = match place % 3 {
            1 => (Told::Conflict, 0),
            _ => (Told::Committed(3), 6),
        };
        assert_eq!(scribe.outcome().await, told);
        assert_eq!(store.load(scribe.home.org_id).await.unwrap().unwrap().seq, last);
    }
}

pub(crate) async fn a_failed_home_takes_nothing_more(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    submit(&writer, scribe.submission(1, refused(&mut Draw::new()))).await;
    for _ in 0..20 {
        submit(&writer, scribe.submission(1, vec![])).await;
    }
    assert_eq!(scribe.outcome().await, Told::Refused);
    // Even one that the table would take.
    scribe.seq = 0;
    submit(&writer, scribe.submission(1, vec![])).await;
    writer.close().await;
    assert_eq!(scribe.told(), [Told::Refused], "told once, and of no success");
    assert_eq!(store.event_range(scribe.home.org_id).await.unwrap(), (0, 0));
}

pub(crate) async fn two_lives_of_an_org_cannot_both_write(db: Arc<Fresh>) {
    let store = db.store().await;
    let (here, there) = (journal(&store), journal(&db.connect().await));
    let org_id = org(&store).await;
    let (mut old, mut new) = (Scribe::new(org_id, 0), Scribe::new(org_id, 0));
    new.write(&there, 3, vec![]).await;
    submit(&here, old.submission(1, vec![])).await;
    assert_eq!(old.outcome().await, Told::Conflict);
    // Also without an event: a row of an old life is as wrong.
    let mut older = Scribe::new(org_id, 0);
    submit(&here, older.submission(0, vec![])).await;
    assert_eq!(older.outcome().await, Told::Conflict);
    new.write(&there, 1, vec![]).await;
    assert_eq!(store.event_range(org_id).await.unwrap(), (1, 4));
}

pub(crate) async fn numbers_that_do_not_follow_are_refused(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let org_id = org(&store).await;
    let mut skips = Scribe::new(org_id, 0);
    let mut submission = skips.submission(2, vec![]);
    submission.batch.events[1].seq = 3;
    submit(&writer, submission).await;
    assert_eq!(skips.outcome().await, Told::Conflict);

    let mut leaps = Scribe::new(org_id, 0);
    let (first, mut second) = (leaps.submission(1, vec![]), leaps.submission(1, vec![]));
    second.batch.after_seq = 7;
    second.batch.events[0].seq = 8;
    submit(&writer, first).await;
    submit(&writer, second).await;
    assert_eq!(
        leaps.told_until(|told| told.len() == 2).await,
        [Told::Committed(1), Told::Conflict]
    );
    assert_eq!(store.event_range(org_id).await.unwrap(), (1, 1));
}

pub(crate) async fn an_unknown_org_is_refused(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(OrgId::new(), 0);
    submit(&writer, scribe.submission(1, vec![])).await;
    assert_eq!(scribe.outcome().await, Told::Conflict);
}

/// PostgreSQL only: an operator ends the journal's connection in the middle of a transaction. What a full disk
/// does on SQLite is tested beside the journal, which alone can reach its connection.
pub(crate) async fn a_lost_connection_is_unavailable_and_comes_back(db: Arc<Fresh>) {
    if !db.is_postgres() {
        return;
    }
    let store = db.store().await;
    let writer = journal(&store);
    let (org_id, other_id) = (org(&store).await, org(&store).await);
    let operator = db.raw().await;
    // Another session holds the org's row, so that the journal stops inside its transaction.
    let holder = db.raw().await.begin().await.unwrap();
    let hold = format!("SELECT seq FROM org_heads WHERE org_id = '{}' FOR UPDATE", org_id.uuid());
    holder.execute_unprepared(&hold).await.unwrap();

    let (mut scribe, mut other) = (Scribe::new(org_id, 0), Scribe::new(other_id, 0));
    submit(&writer, scribe.submission(1, vec![])).await;
    terminate_the_waiting(&operator).await;
    assert_eq!(scribe.outcome().await, Told::Unavailable);
    holder.rollback().await.unwrap();

    other.write(&writer, 1, vec![]).await;
    let seq = store.load(org_id).await.unwrap().unwrap().seq;
    assert_eq!(seq, 0);
    Scribe::new(org_id, seq).write(&writer, 1, vec![]).await;
}

async fn terminate_the_waiting(operator: &DatabaseConnection) {
    let text = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let until = Instant::now() + DEADLINE;
    loop {
        let statement = Statement::from_string(operator.get_database_backend(), text);
        let row = operator.query_one_raw(statement).await.unwrap().unwrap();
        if row.try_get_by_index::<i64>(0).unwrap() > 0 {
            return;
        }
        assert!(Instant::now() < until, "the journal never waited for the row");
        sleep(std::time::Duration::from_millis(5)).await;
    }
}
