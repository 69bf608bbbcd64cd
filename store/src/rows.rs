//! Many rows in one statement, for both databases.

use std::any::TypeId;
use std::collections::HashMap;

use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn,
    Statement, Value, Values,
};

use crate::entity::{ColumnOf, Row};

/// Most rows in one statement. At twelve columns this is 3,072 parameters, far below the limits of SQLite
/// (32,766) and PostgreSQL (65,535); a larger one would save a round trip in 256 rows.
const ROWS_MAX: usize = 256;

/// How many different statements a connection must keep prepared: each table in each size, and some.
pub(crate) const PREPARED_MAX: usize = 500;

/// What happens when a row with the same key exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// It is an error.
    Insert,
    /// The row is replaced, but for the columns a table keeps.
    Upsert,
}

/// The texts of the statements, made once.
///
/// A statement takes a power of two of rows, so that few different texts cover every number of rows and the
/// connection finds each one prepared.
pub(crate) struct Statements {
    backend: DbBackend,
    texts: HashMap<(TypeId, Mode, usize), String>,
}

impl Statements {
    pub(crate) fn new(backend: DbBackend) -> Self {
        Self { backend, texts: HashMap::new() }
    }

    /// Writes all of `rows`; no two may have the same key.
    pub(crate) async fn write<R: Row + 'static>(
        &mut self,
        db: &impl ConnectionTrait,
        mode: Mode,
        rows: Vec<R>,
    ) -> Result<(), DbErr> {
        let width = ColumnOf::<R>::iter().count();
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let count = chunk(rows.len());
            let mut values = Vec::with_capacity(count * width);
            rows.by_ref().take(count).for_each(|row| row.into_values(&mut values));
            let statement = self.statement::<R>(mode, count, values);
            db.execute_raw(statement).await?;
        }
        Ok(())
    }

    fn statement<R: Row + 'static>(
        &mut self,
        mode: Mode,
        count: usize,
        values: Vec<Value>,
    ) -> Statement {
        let backend = self.backend;
        let text = self
            .texts
            .entry((TypeId::of::<R>(), mode, count))
            .or_insert_with(|| insert_text::<R>(backend, mode, count));
        Statement { sql: text.clone(), values: Some(Values(values)), db_backend: backend }
    }
}

/// The largest power of two that is not more than `rows` and [`ROWS_MAX`].
pub(crate) fn chunk(rows: usize) -> usize {
    1 << rows.clamp(1, ROWS_MAX).ilog2()
}

fn insert_text<R: Row>(backend: DbBackend, mode: Mode, count: usize) -> String {
    let columns: Vec<ColumnOf<R>> = ColumnOf::<R>::iter().collect();
    let mut insert = Query::insert();
    insert.into_table(R::Entity::default()).columns(columns.iter().copied());
    for _ in 0..count {
        // Only the placeholders are wanted; the values come with each use.
        insert.values_panic(columns.iter().map(|_| Expr::val(0)));
    }
    if mode == Mode::Upsert {
        let key: Vec<&str> = <R::Entity as EntityTrait>::PrimaryKey::iter()
            .map(|key| key.into_column().as_str())
            .collect();
        let replaced: Vec<&str> = columns
            .iter()
            .map(IdenStatic::as_str)
            .filter(|name| !key.contains(name) && !R::KEPT.contains(name))
            .collect();
        insert.on_conflict(OnConflict::columns(key).update_columns(replaced).to_owned());
    }
    backend.build(&insert).sql
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::{org, position};

    proptest! {
        #[test]
        fn few_chunks_cover_any_number_of_rows(rows in 1_usize..5_000) {
            let (mut left, mut chunks) = (rows, 0);
            while left > 0 {
                prop_assert!(chunk(left) <= left && chunk(left) <= ROWS_MAX);
                left -= chunk(left);
                chunks += 1;
            }
            prop_assert!(chunks <= rows / ROWS_MAX + 8);
        }
    }

    #[test]
    fn an_upsert_replaces_all_but_the_key() {
        let text = insert_text::<position::Model>(DbBackend::Postgres, Mode::Upsert, 2);
        assert_eq!(
            text,
            r#"INSERT INTO "agent_positions" ("org_id", "agent_id", "spool_id", "acked_seq") VALUES ($1, $2, $3, $4), ($5, $6, $7, $8) ON CONFLICT ("org_id", "agent_id") DO UPDATE SET "spool_id" = "excluded"."spool_id", "acked_seq" = "excluded"."acked_seq""#
        );
    }

    #[test]
    fn an_upsert_of_an_org_leaves_alone_what_is_written_from_outside() {
        let text = insert_text::<org::Model>(DbBackend::Sqlite, Mode::Upsert, 1);
        let (_, replaced) = text.split_once("DO UPDATE SET").unwrap();
        assert!(replaced.contains("name"));
        for kept in ["plan", "status", "status_reason", "changed_at"] {
            assert!(!replaced.contains(kept), "{kept}");
        }
    }
}
