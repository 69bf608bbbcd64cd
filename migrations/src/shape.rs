//! What the migrations have in common: column types and the physical shape of tables.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// How a table lies on disk.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Rows are found by their key and rewritten in place.
    Keyed,
    /// Rows are appended and read in order.
    Log,
}

/// Describes tables for one database.
pub(crate) struct Schema<'a> {
    manager: &'a SchemaManager<'a>,
    backend: DbBackend,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(manager: &'a SchemaManager<'a>) -> Self {
        Self { manager, backend: manager.get_database_backend() }
    }

    /// Creates a table; its primary key are the columns in `key`.
    pub(crate) async fn create(
        &self,
        name: &'static str,
        shape: Shape,
        key: &[&'static str],
        columns: Vec<ColumnDef>,
        references: Vec<ForeignKeyCreateStatement>,
    ) -> Result<(), DbErr> {
        let mut table = Table::create();
        table.table(name);
        for column in columns {
            table.col(column);
        }
        let mut primary_key = Index::create();
        for column in key {
            primary_key.col(*column);
        }
        table.primary_key(&mut primary_key);
        for mut reference in references {
            table.foreign_key(&mut reference);
        }
        match (self.backend, shape) {
            // The row lies in the key's own tree: one look-up instead of two.
            (DbBackend::Sqlite, Shape::Keyed) => table.extra("WITHOUT ROWID"),
            // Room in every page for the next version of a row, so that its index entries stay as they are.
            (DbBackend::Postgres, Shape::Keyed) => table.extra("WITH (fillfactor = 70)"),
            _ => &mut table,
        };
        self.manager.create_table(table).await
    }

    /// Creates an index.
    pub(crate) async fn index(&self, mut index: IndexCreateStatement) -> Result<(), DbErr> {
        self.manager.create_index(index.take()).await
    }

    /// Drops tables, in this order.
    pub(crate) async fn drop(&self, names: &[&'static str]) -> Result<(), DbErr> {
        for name in names {
            self.manager.drop_table(Table::drop().table(*name).take()).await?;
        }
        Ok(())
    }

    /// A column of an id.
    pub(crate) fn id(&self, name: &'static str) -> ColumnDef {
        let mut column = self.optional_id(name);
        column.not_null().take()
    }

    /// A column of an id that may be absent.
    pub(crate) fn optional_id(&self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        match self.backend {
            DbBackend::Sqlite => column.binary_len(16),
            _ => column.uuid(),
        };
        column
    }
}

pub(crate) fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

pub(crate) fn optional_text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().take()
}

pub(crate) fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

pub(crate) fn optional_number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().take()
}

pub(crate) fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().take()
}

pub(crate) fn hash(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().not_null().take()
}

pub(crate) fn optional_hash(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().take()
}

/// A reference from `table.column` to `target.id`; rows go with what they refer to.
pub(crate) fn reference(
    table: &'static str,
    column: &'static str,
    target: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, column)
        .to(target, "id")
        .on_delete(ForeignKeyAction::Cascade)
        .take()
}
