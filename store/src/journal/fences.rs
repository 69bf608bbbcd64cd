//! Whether the homes whose writes a plan holds may still write.

use std::collections::HashMap;

use pulse_actors::cluster::Fence;
use pulse_actors::ports::StoreError;
use pulse_protocol::ids::OrgId;
use sea_orm::sea_query::{LockType, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, Statement, Values};

use super::commit::Fault;
use crate::claims::read_fence;
use crate::entity::shard::{Column, Entity};

/// Asks for the current epochs. Keeps the texts of its statements, few of which cover any number of shards.
pub(super) struct Fences {
    backend: DbBackend,
    texts: HashMap<usize, String>,
}

impl Fences {
    pub(super) fn new(backend: DbBackend) -> Self {
        Self { backend, texts: HashMap::new() }
    }

    /// Refuses unless every fence is the last of its shard. From then on until the transaction ends no shard of
    /// these can be claimed: on PostgreSQL a claim waits for the share locks taken here, on SQLite for the
    /// transaction.
    pub(super) async fn check(
        &mut self,
        transaction: &DatabaseTransaction,
        fences: &[(Fence, OrgId)],
    ) -> Result<(), Fault> {
        let Some(last) = fences.last() else { return Ok(()) };
        let rows = transaction.query_all_raw(self.statement(fences, *last)).await?;
        let current = rows.iter().map(read_fence).collect::<Result<Vec<_>, _>>()?;
        // A shard that nobody ever claimed has no row.
        let is_current = |fence| current.binary_search(fence).is_ok();
        match fences.iter().find(|(fence, _)| !is_current(fence)) {
            Some((_, org_id)) => Err(StoreError::Fenced { org_id: *org_id }.into()),
            None => Ok(()),
        }
    }

    /// The last shard is asked for again until the number of parameters is a power of two.
    fn statement(&mut self, fences: &[(Fence, OrgId)], last: (Fence, OrgId)) -> Statement {
        let backend = self.backend;
        let count = fences.len().next_power_of_two();
        let padded = fences.iter().copied().chain(std::iter::repeat(last)).take(count);
        let values = padded.map(|(fence, _)| i32::from(fence.shard.number()).into()).collect();
        let text = self.texts.entry(count).or_insert_with(|| text(backend, count));
        Statement { sql: text.clone(), values: Some(Values(values)), db_backend: backend }
    }
}

/// Locks the rows in the order in which claims lock them.
fn text(backend: DbBackend, count: usize) -> String {
    let mut select = Query::select();
    select
        .columns([Column::Shard, Column::Epoch])
        .from(Entity)
        .and_where(Column::Shard.is_in(std::iter::repeat_n(0_i32, count)))
        .order_by(Column::Shard, sea_orm::Order::Asc);
    if backend == DbBackend::Postgres {
        select.lock(LockType::Share);
    }
    backend.build(&select).sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_locked_in_order() {
        assert_eq!(
            text(DbBackend::Postgres, 2),
            r#"SELECT "shard", "epoch" FROM "shards" WHERE "shards"."shard" IN ($1, $2) ORDER BY "shard" ASC FOR SHARE"#
        );
        assert!(text(DbBackend::Sqlite, 1).ends_with("ASC"), "SQLite has no such lock");
    }
}
