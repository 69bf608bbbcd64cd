//! From one database to another, table by table.

use std::collections::BTreeMap;
use std::error::Error;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Iterable,
    PrimaryKeyToColumn, QueryFilter, QueryOrder, QuerySelect, Select, Statement,
};

use crate::Database;
use crate::entity::{self, ColumnOf, Row, Visit};
use crate::rows::{Mode, Statements};

/// Rows read at a time: four statements' worth, a few hundred kibibytes of events.
const BATCH_ROWS: u64 = 1_024;

/// Why nothing was copied. The target is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A database was migrated by another version, or not at all.
    #[error(
        "the {side} does not have the tables of this version: run `pulse-hub migrate` on it first"
    )]
    Schema {
        /// The source or the target.
        side: &'static str,
    },
    /// Copying would mix two hubs.
    #[error("the target already has rows in the table {table}: copy into an empty database")]
    NotEmpty {
        /// The first such table.
        table: &'static str,
    },
    /// Somebody else wrote meanwhile, or a row was not taken as it is.
    #[error("the table {table} has {wanted} rows in the source but {found} in the target")]
    Count {
        /// The table.
        table: &'static str,
        /// Rows in the source.
        wanted: u64,
        /// Rows in the target.
        found: u64,
    },
    /// A statement failed.
    #[error("the {side} refused a statement")]
    Failed {
        /// The source or the target.
        side: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Copies everything in `from` to `to`, whose tables must be there and empty, and counts the rows of each table.
/// Values are copied as they are, sealed secrets too: whoever opens `to` needs the keys of `from`.
///
/// All of it is one transaction of the target, which keeps others from writing there until it ends.
///
/// # Errors
///
/// Returns [`CopyError`]; then nothing was changed.
pub async fn copy(
    from: &Database,
    to: &Database,
) -> Result<BTreeMap<&'static str, u64>, CopyError> {
    let source = from.begin_read().await.map_err(failed(SOURCE))?;
    let target = to.begin_write().await.map_err(failed(TARGET))?;
    check_schema(&source, SOURCE).await?;
    check_schema(&target, TARGET).await?;
    entity::each(&mut Claim(&target)).await?;
    let statements = Statements::new(target.get_database_backend());
    let mut rows = Rows { source: &source, target: &target, statements, written: BTreeMap::new() };
    entity::each(&mut rows).await?;
    let written = rows.written;
    target.commit().await.map_err(failed(TARGET))?;
    Ok(written)
}

const SOURCE: &str = "source";
const TARGET: &str = "target";

fn failed(side: &'static str) -> impl Fn(DbErr) -> CopyError {
    move |error| CopyError::Failed { side, source: Box::new(error) }
}

/// Rows of another version might lack columns, or have some that would be left behind.
async fn check_schema(db: &DatabaseTransaction, side: &'static str) -> Result<(), CopyError> {
    let backend = db.get_database_backend();
    let exists = match backend {
        DbBackend::Sqlite => "SELECT 1 FROM sqlite_master WHERE name = 'seaql_migrations'",
        _ => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
    };
    let exists = Statement::from_string(backend, exists);
    if db.query_one_raw(exists).await.map_err(failed(side))?.is_none() {
        return Err(CopyError::Schema { side });
    }
    let applied =
        Statement::from_string(backend, "SELECT version FROM seaql_migrations ORDER BY version");
    let applied = db.query_all_raw(applied).await.map_err(failed(side))?;
    let applied: Result<Vec<String>, DbErr> =
        applied.iter().map(|row| row.try_get_by_index(0)).collect();
    let mut known = pulse_migrations::names();
    known.sort();
    match applied.map_err(failed(side))? == known {
        true => Ok(()),
        false => Err(CopyError::Schema { side }),
    }
}

/// Makes sure that the tables are empty and stay so.
struct Claim<'a>(&'a DatabaseTransaction);

impl Visit for Claim<'_> {
    type Error = CopyError;

    async fn table<R>(&mut self, name: &'static str) -> Result<(), CopyError>
    where
        R: Row + 'static,
        R::Entity: EntityTrait<Model = R>,
    {
        let backend = self.0.get_database_backend();
        // A write transaction of SQLite is the only one anyway.
        if backend == DbBackend::Postgres {
            let lock = format!(r#"LOCK TABLE "{name}" IN EXCLUSIVE MODE"#);
            let lock = Statement::from_string(backend, lock);
            self.0.execute_raw(lock).await.map_err(failed(TARGET))?;
        }
        let any = Statement::from_string(backend, format!(r#"SELECT 1 FROM "{name}" LIMIT 1"#));
        match self.0.query_one_raw(any).await.map_err(failed(TARGET))? {
            None => Ok(()),
            Some(_) => Err(CopyError::NotEmpty { table: name }),
        }
    }
}

/// Copies the rows and counts them on both sides.
struct Rows<'a> {
    source: &'a DatabaseTransaction,
    target: &'a DatabaseTransaction,
    statements: Statements,
    written: BTreeMap<&'static str, u64>,
}

impl Visit for Rows<'_> {
    type Error = CopyError;

    async fn table<R>(&mut self, name: &'static str) -> Result<(), CopyError>
    where
        R: Row + 'static,
        R::Entity: EntityTrait<Model = R>,
    {
        let mut last: Option<R> = None;
        loop {
            let batch = next_rows(last.as_ref()).all(self.source).await.map_err(failed(SOURCE))?;
            let Some(end) = batch.last() else { break };
            last = Some(end.clone());
            let write = self.statements.write(self.target, Mode::Insert, batch);
            write.await.map_err(failed(TARGET))?;
        }
        let wanted = count(self.source, name).await.map_err(failed(SOURCE))?;
        let found = count(self.target, name).await.map_err(failed(TARGET))?;
        if wanted != found {
            return Err(CopyError::Count { table: name, wanted, found });
        }
        self.written.insert(name, found);
        Ok(())
    }
}

/// The next batch in the order of the key. Going on from the last key costs the same at any depth; counting an
/// offset would not.
fn next_rows<R>(last: Option<&R>) -> Select<R::Entity>
where
    R: Row,
    R::Entity: EntityTrait<Model = R>,
{
    let key: Vec<ColumnOf<R>> = <R::Entity as EntityTrait>::PrimaryKey::iter()
        .map(PrimaryKeyToColumn::into_column)
        .collect();
    let mut select = R::Entity::find().limit(BATCH_ROWS);
    for column in &key {
        select = select.order_by_asc(*column);
    }
    let Some(last) = last else { return select };
    let columns = Expr::tuple(key.iter().map(|column| Expr::col(column.as_column_ref())));
    let values = Expr::tuple(key.iter().map(|column| Expr::val(last.get(*column))));
    select.filter(columns.gt(values))
}

async fn count(db: &DatabaseTransaction, table: &str) -> Result<u64, DbErr> {
    let count = format!(r#"SELECT COUNT(*) FROM "{table}""#);
    let count = Statement::from_string(db.get_database_backend(), count);
    let row = db.query_one_raw(count).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(table.to_owned()))?;
    let count: i64 = row.try_get_by_index(0)?;
    Ok(u64::try_from(count).unwrap_or_default())
}
