//! An index of what waits by what it is about: deliveries about one resource are sent in order.

use sea_orm_migration::prelude::*;

use crate::shape::Schema;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0008_delivery_lanes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Holds unfinished deliveries only, as `deliveries_due` does.
        let lanes = Index::create()
            .name("deliveries_lanes")
            .table("deliveries")
            .col("org_id")
            .col("channel_id")
            .col("resource")
            .col("event_seq")
            .cond_where(Expr::col("next_attempt_at").is_not_null())
            .take();
        Schema::new(manager).index(lanes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let lanes = Index::drop().name("deliveries_lanes").table("deliveries").to_owned();
        manager.drop_index(lanes).await
    }
}
