//! Epochs of shards: who claimed a shard last, and so may write for its orgs.
//!
//! A transaction of the journal holds a share lock on the rows of its shards until it ends, and a claim changes those
//! rows. So a claim waits for what is being written under the epoch before it, and what comes later finds that its
//! epoch is over. This holds whatever the nodes' clocks and pauses are.

use async_trait::async_trait;
use pulse_actors::cluster::{Claims, Fence, NodeId, Shard};
use pulse_actors::ports::StoreError;
use pulse_protocol::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait, LockType, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult};

use crate::Database;
use crate::error::failed;

#[async_trait]
impl Claims for Database {
    async fn claim(&self, node: &NodeId, shards: &[Shard]) -> Result<Vec<Fence>, StoreError> {
        let mut shards = shards.to_vec();
        // In one order, so that two nodes that claim at once wait for each other and never in a circle.
        shards.sort_unstable();
        shards.dedup();
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let (database, node) = (self.clone(), node.clone());
        // In a task of its own: a `begin` that is dropped half way leaves its connection inside a transaction.
        let claiming = tokio::spawn(async move {
            let transaction = database.begin_write().await?;
            let fences = claim(&transaction, &node, &shards).await?;
            transaction.commit().await?;
            Ok(fences)
        });
        let claimed = claiming.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        claimed.map_err(failed)
    }
}

async fn claim(
    transaction: &DatabaseTransaction,
    node: &NodeId,
    shards: &[Shard],
) -> Result<Vec<Fence>, DbErr> {
    let next = OnConflict::column("shard")
        .value("epoch", Expr::col(("shards", "epoch")).add(1))
        .update_columns(["node", "claimed_at"])
        .to_owned();
    let mut insert = Query::insert();
    insert.into_table("shards").columns(["shard", "epoch", "node", "claimed_at"]);
    let now = Timestamp::wall_clock().unix_ms();
    for shard in shards {
        let number = i64::from(shard.number());
        insert.values_panic([number.into(), 1_i64.into(), node.0.clone().into(), now.into()]);
    }
    insert.on_conflict(next).returning(Query::returning().columns(["shard", "epoch"]));
    fences(transaction.query_all(&insert).await?)
}

/// The current epochs of these shards, held as they are until the transaction ends.
pub(crate) async fn current(
    transaction: &DatabaseTransaction,
    shards: impl Iterator<Item = Shard>,
) -> Result<Vec<Fence>, DbErr> {
    let mut select = Query::select();
    select
        .columns(["shard", "epoch"])
        .from("shards")
        .and_where(Expr::col("shard").is_in(shards.map(|shard| i64::from(shard.number()))))
        .order_by("shard", sea_orm::Order::Asc);
    // SQLite has one writer, and this is it.
    if transaction.get_database_backend() == DbBackend::Postgres {
        select.lock(LockType::Share);
    }
    fences(transaction.query_all(&select).await?)
}

fn fences(rows: Vec<QueryResult>) -> Result<Vec<Fence>, DbErr> {
    let fence = |row: QueryResult| {
        let (shard, epoch): (i64, i64) = (row.try_get("", "shard")?, row.try_get("", "epoch")?);
        let shard = u16::try_from(shard).ok().and_then(Shard::numbered);
        let epoch = u64::try_from(epoch).ok();
        shard
            .zip(epoch)
            .map(|(shard, epoch)| Fence { shard, epoch })
            .ok_or_else(|| DbErr::Custom("a shard's row holds no shard or no epoch".to_owned()))
    };
    rows.into_iter().map(fence).collect()
}
