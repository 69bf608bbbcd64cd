//! Who claimed each shard last.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, number, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0005_cluster"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let shards = vec![
            ColumnDef::new("shard").integer().not_null().take(),
            number("epoch"),
            text("node"),
            number("claimed_at"),
        ];
        Schema::new(manager).create("shards", Shape::Keyed, &["shard"], shards, vec![]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["shards"]).await
    }
}
