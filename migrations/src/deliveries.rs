//! Channels, rules, deliveries and their attempts.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, flag, number, optional_number, optional_text, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0004_deliveries"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager);
        channels(&schema).await?;
        deliveries(&schema).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["delivery_attempts", "deliveries", "rules", "channels"]).await
    }
}

async fn channels(schema: &Schema<'_>) -> Result<(), DbErr> {
    let channels = vec![
        schema.id("org_id"),
        schema.id("id"),
        text("name"),
        text("kind"),
        text("config"),
        text("secrets"),
        flag("enabled"),
        text("health"),
        number("created_at"),
    ];
    schema.create("channels", Shape::Keyed, &["org_id", "id"], channels, vec![]).await?;
    let rules = vec![
        schema.id("org_id"),
        schema.id("id"),
        text("name"),
        text("event_types"),
        text("channel_ids"),
        flag("enabled"),
        number("created_at"),
    ];
    schema.create("rules", Shape::Keyed, &["org_id", "id"], rules, vec![]).await
}

async fn deliveries(schema: &Schema<'_>) -> Result<(), DbErr> {
    let deliveries = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("channel_id"),
        schema.id("rule_id"),
        schema.id("event_id"),
        number("event_seq"),
        text("event_name"),
        text("state"),
        number("tries"),
        optional_number("next_attempt_at"),
        number("created_at"),
    ];
    schema.create("deliveries", Shape::Keyed, &["org_id", "id"], deliveries, vec![]).await?;
    // Holds unfinished deliveries only: a delivery leaves it when it ends, so it stays small.
    let due = Index::create()
        .name("deliveries_due")
        .table("deliveries")
        .col("org_id")
        .col("channel_id")
        .col("next_attempt_at")
        .col("id")
        .cond_where(Expr::col("next_attempt_at").is_not_null())
        .take();
    schema.index(due).await?;
    let by_channel = Index::create()
        .name("deliveries_by_channel")
        .table("deliveries")
        .col("org_id")
        .col("channel_id")
        .col("id")
        .take();
    schema.index(by_channel).await?;

    let attempts = vec![
        schema.id("org_id"),
        schema.id("delivery_id"),
        schema.id("id"),
        number("at"),
        number("duration_ms"),
        text("outcome"),
        optional_number("status"),
        optional_text("error"),
    ];
    let key = ["org_id", "delivery_id", "id"];
    schema.create("delivery_attempts", Shape::Keyed, &key, attempts, vec![]).await
}
