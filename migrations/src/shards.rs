//! Who may write for which part of the orgs: the epochs that fence a cluster's homes.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, number, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0005_shards"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = vec![number("shard"), number("epoch"), text("node"), number("claimed_at")];
        Schema::new(manager).create("shards", Shape::Keyed, &["shard"], columns, vec![]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["shards"]).await
    }
}
