use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use pulse_actors::cluster::{Claims, Fence, NodeId, SHARDS, Shard};
use pulse_actors::ports::OrgStore;
use pulse_protocol::ids::OrgId;
use pulse_store::{Database, JournalOptions, JournalWriter, Outcome};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::kit::*;

fn node(name: &str) -> NodeId {
    NodeId(name.to_owned())
}

fn shard(number: u16) -> Shard {
    Shard::numbered(number).unwrap()
}

/// Claims the shard of an org.
async fn claim(store: &Database, org_id: OrgId) -> Fence {
    let fences = store.claim(&node("a"), &[Shard::of(org_id)]).await.unwrap();
    assert_eq!(fences.len(), 1);
    fences[0]
}

async fn number(db: &impl ConnectionTrait, text: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), text);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Asks again and again until the number is this.
async fn number_becomes(db: &impl ConnectionTrait, text: &str, wanted: i64) {
    let asking = async {
        while number(db, text).await != wanted {
            yield_now().await;
        }
    };
    timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("`{text}` never was {wanted}"));
}

/// Until this many sessions wait for a lock on a row or for another's transaction (PostgreSQL).
async fn waiting_becomes(operator: &DatabaseConnection, wanted: i64) {
    let text = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
    number_becomes(operator, text, wanted).await;
}

/// Keeps the journal inside the transaction in which it writes for this org; on SQLite before any.
async fn hold(db: &Fresh, org_id: OrgId) -> DatabaseTransaction {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let holder = db.raw().await.begin_with_options(options).await.unwrap();
    if db.is_postgres() {
        let text = format!("SELECT 1 FROM org_heads WHERE org_id = '{}' FOR UPDATE", org_id.uuid());
        holder.execute_unprepared(&text).await.unwrap();
    }
    holder
}

pub(crate) async fn each_claim_begins_the_next_epoch_of_its_shards_alone(db: Arc<Fresh>) {
    let store = db.store().await;
    let fences = async |name: &str, shards: &[u16]| {
        let shards: Vec<Shard> = shards.iter().copied().map(shard).collect();
        let fences = store.claim(&node(name), &shards).await.unwrap();
        fences.iter().map(|fence| (fence.shard.number(), fence.epoch)).collect::<Vec<_>>()
    };
    assert_eq!(fences("a", &[]).await, []);
    assert_eq!(fences("a", &[7]).await, [(7, 1)]);
    assert_eq!(fences("a", &[7]).await, [(7, 2)], "also when it is the same node");
    assert_eq!(fences("b", &[1_023, 7, 0, 7]).await, [(0, 1), (7, 3), (1_023, 1)]);
    assert_eq!(fences("a", &[0]).await, [(0, 2)]);

    let raw = db.raw().await;
    assert_eq!(number(&raw, "SELECT count(*) FROM shards").await, 3);
    let of_b = "SELECT count(*) FROM shards WHERE node = 'b' AND claimed_at > 0";
    assert_eq!(number(&raw, of_b).await, 2);
}

pub(crate) async fn all_shards_are_claimed_at_once(db: Arc<Fresh>) {
    let store = db.store().await;
    let all: Vec<Shard> = Shard::all().collect();
    for epoch in 1..=3 {
        let fences = store.claim(&node("a"), &all).await.unwrap();
        assert!(fences.iter().map(|fence| fence.shard).eq(Shard::all()));
        assert!(fences.iter().all(|fence| fence.epoch == epoch));
    }
}

pub(crate) async fn two_nodes_claiming_everything_do_not_block_each_other(db: Arc<Fresh>) {
    let (here, there) = (db.store().await, db.connect().await);
    let forth: Vec<Shard> = Shard::all().collect();
    let back: Vec<Shard> = forth.iter().rev().copied().collect();
    let (a, b) = (node("a"), node("b"));
    let both = async { tokio::join!(here.claim(&a, &forth), there.claim(&b, &back)) };
    let (first, second) = timeout(DEADLINE, both).await.expect("no deadlock");
    let epochs = |fences: Vec<Fence>| {
        assert_eq!(fences.len(), usize::from(SHARDS));
        let epoch = fences[0].epoch;
        assert!(fences.iter().all(|fence| fence.epoch == epoch), "one after the other");
        epoch
    };
    let mut epochs = [epochs(first.unwrap()), epochs(second.unwrap())];
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2]);
    let at_two = number(&db.raw().await, "SELECT count(*) FROM shards WHERE epoch = 2").await;
    assert_eq!(at_two, i64::from(SHARDS));
}

pub(crate) async fn a_claim_whose_caller_hung_up_ends_in_order(db: Arc<Fresh>) {
    let store = db.store().await;
    let mut epoch = 1;
    assert_eq!(store.claim(&node("a"), &[shard(5)]).await.unwrap()[0].epoch, epoch);
    for _ in 0..8 {
        let dropped = store.claim(&node("a"), &[shard(5)]).now_or_never();
        assert!(dropped.is_none(), "a claim has to wait for the database");
        epoch += 1;
    }
    let text = "SELECT epoch FROM shards WHERE shard = 5";
    number_becomes(&db.raw().await, text, i64::try_from(epoch).unwrap()).await;
    // No connection was left inside a transaction.
    for _ in 0..8 {
        epoch += 1;
        assert_eq!(store.claim(&node("a"), &[shard(5)]).await.unwrap()[0].epoch, epoch);
    }
}

pub(crate) async fn the_current_epoch_may_write_and_an_earlier_one_may_not(db: Arc<Fresh>) {
    let (store, other) = (db.store().await, db.connect().await);
    let writer = journal(&store);
    let org_id = org(&store).await;
    let mut old = Scribe::under(Some(claim(&store, org_id).await), org_id, 0);
    old.write(&writer, 2, vec![]).await;

    let fence = claim(&other, org_id).await;
    let mut new =
        Scribe::under(Some(fence), org_id, other.load(org_id).await.unwrap().unwrap().seq);
    // Its numbers would fit: only the fence tells.
    submit(&writer, old.submission(1, vec![])).await;
    assert_eq!(old.outcome().await, Told::Fenced);
    assert_eq!(store.event_range(org_id).await.unwrap(), (1, 2));
    let later = Fence { epoch: fence.epoch + 1, ..fence };
    let mut early = Scribe::under(Some(later), org_id, 2);
    submit(&writer, early.submission(1, vec![])).await;
    assert_eq!(early.outcome().await, Told::Fenced);
    new.write(&journal(&other), 1, vec![]).await;
    assert_eq!(store.event_range(org_id).await.unwrap(), (1, 3));
}

pub(crate) async fn a_shard_that_nobody_claimed_takes_nothing(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let org_id = org(&store).await;
    let fence = Fence { shard: Shard::of(org_id), epoch: 1 };
    let mut scribe = Scribe::under(Some(fence), org_id, 0);
    submit(&writer, scribe.submission(1, vec![])).await;
    assert_eq!(scribe.outcome().await, Told::Fenced);
    assert_eq!(store.load(org_id).await.unwrap().unwrap().seq, 0);
}

pub(crate) async fn a_fenced_home_fails_alone(db: Arc<Fresh>) {
    let store = db.store().await;
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let on_commit: pulse_store::OnCommit = Arc::new(move |stats| seen.lock().unwrap().push(*stats));
    let options = JournalOptions { on_commit, ..JournalOptions::default() };
    let writer = JournalWriter::start(&store, options);
    let mut scribes: Vec<Scribe> = Vec::new();
    while scribes.len() < 3 {
        let org_id = org(&store).await;
        // Once in hundreds of runs two orgs share a shard: another one, then.
        if scribes.iter().any(|scribe| Shard::of(scribe.home.org_id) == Shard::of(org_id)) {
            continue;
        }
        scribes.push(Scribe::under(Some(claim(&store, org_id).await), org_id, 0));
    }
    let mut first = Scribe::new(org(&store).await, 0);
    claim(&store, scribes[1].home.org_id).await;
    // While the first is held up, the others gather behind it.
    let holder = hold(&db, first.home.org_id).await;
    submit(&writer, first.submission(1, vec![])).await;
    for scribe in &mut scribes {
        submit(&writer, scribe.submission(1, vec![])).await;
        submit(&writer, scribe.submission(1, vec![])).await;
    }
    holder.rollback().await.unwrap();

    assert_eq!(first.outcome().await, Told::Committed(1));
    let wanted = [(Told::Committed(2), 2), (Told::Fenced, 0), (Told::Committed(2), 2)];
    for (scribe, (told, seq)) in scribes.iter_mut().zip(wanted) {
        assert_eq!(scribe.outcome().await, told);
        assert_eq!(store.load(scribe.home.org_id).await.unwrap().unwrap().seq, seq);
    }
    let commits = commits.lock().unwrap();
    let shared =
        commits.iter().filter(|stats| stats.outcome == Outcome::Refused && stats.homes >= 3);
    assert_eq!(shared.count(), 1, "the three shared a transaction: {commits:?}");
}

/// PostgreSQL only: SQLite has one writer at a time.
pub(crate) async fn a_claim_waits_for_a_transaction_in_flight(db: Arc<Fresh>) {
    if !db.is_postgres() {
        return;
    }
    let (store, other) = (db.store().await, db.connect().await);
    let writer = journal(&store);
    let operator = db.raw().await;
    let org_id = org(&store).await;
    let mut scribe = Scribe::under(Some(claim(&store, org_id).await), org_id, 0);
    let holder = hold(&db, org_id).await;
    submit(&writer, scribe.submission(3, vec![])).await;
    waiting_becomes(&operator, 1).await;

    let claiming = tokio::spawn(async move {
        let fence = claim(&other, org_id).await;
        (fence, other.load(org_id).await.unwrap().unwrap().seq)
    });
    waiting_becomes(&operator, 2).await;
    assert!(!claiming.is_finished() && scribe.told().is_empty());

    holder.rollback().await.unwrap();
    let (fence, seq) = timeout(DEADLINE, claiming).await.expect("claimed in time").unwrap();
    assert_eq!((fence.epoch, seq), (2, 3));
    assert_eq!(scribe.outcome().await, Told::Committed(1));
    submit(&writer, scribe.submission(1, vec![])).await;
    assert_eq!(scribe.outcome().await, Told::Fenced);
    Scribe::under(Some(fence), org_id, seq).write(&writer, 1, vec![]).await;
}
