//! Which node may write for a shard.

use async_trait::async_trait;
use pulse_actors::cluster::{Claims, Fence, NodeId, Shard};
use pulse_actors::ports::StoreError;
use pulse_protocol::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait, Func, InsertStatement, OnConflict, Query};
use sea_orm::{ConnectionTrait, QueryResult};

use crate::Database;
use crate::entity::shard::{Column, Entity};
use crate::error::{corrupt, failed};
use crate::record::number;

/// What a claim waits for: the journal's transactions hold a share lock on the rows of their shards until they
/// end, so a claim gets its rows only after every transaction under an earlier epoch was committed or rolled
/// back; one that begins later waits for the claim, sees the new epoch and is refused. On SQLite the same
/// follows from there being one writer at a time.
#[async_trait]
impl Claims for Database {
    async fn claim(&self, node: &NodeId, shards: &[Shard]) -> Result<Vec<Fence>, StoreError> {
        // In this order the rows are locked, here and by the journal: two claims cannot each wait for the other.
        let mut shards = shards.to_vec();
        shards.sort_unstable();
        shards.dedup();
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let (database, node) = (self.clone(), node.clone());
        // In a task of its own, as in `load`: whoever asked may hang up. The claim then still ends, and its epochs
        // are nobody's; that can only end somebody's homes early, never let two write.
        let claiming =
            tokio::spawn(async move { database.bounded(claim(&database, &node, &shards)).await });
        claiming.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
    }

    async fn epochs(&self) -> Result<u64, StoreError> {
        // A sum of 64-bit numbers is a decimal in PostgreSQL.
        let sum = Expr::col((Entity, Column::Epoch)).sum().cast_as("bigint");
        let select = Query::select().expr(Func::coalesce([sum, 0_i64.into()])).from(Entity).take();
        let row = self.reader().query_one(&select).await.map_err(failed)?;
        let sum: Option<i64> =
            row.map(|row| row.try_get_by_index(0)).transpose().map_err(failed)?;
        number(sum.unwrap_or_default(), "sum of epochs")
    }

    fn can_write(&self) -> bool {
        !self.is_lost()
    }
}

async fn claim(
    database: &Database,
    node: &NodeId,
    shards: &[Shard],
) -> Result<Vec<Fence>, StoreError> {
    let transaction = database.begin_write().await.map_err(failed)?;
    let insert = next_epochs(node, shards, Timestamp::wall_clock());
    let rows = transaction.query_all(&insert).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    let mut fences = rows.iter().map(read_fence).collect::<Result<Vec<_>, _>>()?;
    // `RETURNING` promises no order.
    fences.sort_unstable();
    Ok(fences)
}

/// All in one statement: at most 1,024 rows of four values.
fn next_epochs(node: &NodeId, shards: &[Shard], now: Timestamp) -> InsertStatement {
    let next = Expr::col((Entity, Column::Epoch)).add(1_i64);
    let claimed_again = OnConflict::column(Column::Shard)
        .value(Column::Epoch, next)
        .update_columns([Column::Node, Column::ClaimedAt])
        .to_owned();
    let mut insert = Query::insert();
    insert.into_table(Entity).columns([
        Column::Shard,
        Column::Epoch,
        Column::Node,
        Column::ClaimedAt,
    ]);
    for shard in shards {
        insert.values_panic([
            i32::from(shard.number()).into(),
            1_i64.into(),
            node.0.as_str().into(),
            now.unix_ms().into(),
        ]);
    }
    let returned = Query::returning().columns([Column::Shard, Column::Epoch]);
    insert.on_conflict(claimed_again).returning(returned).take()
}

/// A row of a shard and its epoch.
pub(crate) fn read_fence(row: &QueryResult) -> Result<Fence, StoreError> {
    let shard: i32 = row.try_get_by_index(0).map_err(failed)?;
    let epoch: i64 = row.try_get_by_index(1).map_err(failed)?;
    let shard = number::<u16>(shard.into(), "shard")?;
    let shard = Shard::numbered(shard).ok_or_else(|| corrupt("shard", UnknownShard(shard)))?;
    Ok(Fence { shard, epoch: number(epoch, "epoch")? })
}

/// A number in the table that is no shard's.
#[derive(Debug, thiserror::Error)]
#[error("there is no shard {0}")]
struct UnknownShard(u16);
