//! The product's own mail, and addresses that get none.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, number, optional_number, optional_text, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0007_mail"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager);
        mails(&schema).await?;
        suppressions(&schema).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["mail_suppressions", "mails"]).await
    }
}

async fn mails(schema: &Schema<'_>) -> Result<(), DbErr> {
    let columns = vec![
        schema.id("org_id"),
        schema.id("id"),
        text("template"),
        text("key"),
        text("recipient"),
        text("params"),
        text("state"),
        optional_text("suppressed_by"),
        number("tries"),
        optional_number("next_attempt_at"),
        number("expires_at"),
        number("created_at"),
        optional_number("ended_at"),
        optional_number("status"),
        optional_text("error"),
        schema.optional_id("claimed_by"),
        optional_number("claimed_until"),
    ];
    schema.create("mails", Shape::Keyed, &["org_id", "id"], columns, vec![]).await?;
    // What makes a mail go out once, whoever calls for it again.
    let once = Index::create()
        .name("mails_once")
        .table("mails")
        .col("org_id")
        .col("key")
        .col("recipient")
        .unique()
        .take();
    schema.index(once).await?;
    // Holds unfinished mails only, so it stays small.
    let due = Index::create()
        .name("mails_due")
        .table("mails")
        .col("next_attempt_at")
        .cond_where(Expr::col("next_attempt_at").is_not_null())
        .take();
    schema.index(due).await?;
    // What retention looks for.
    let ended = Index::create()
        .name("mails_ended")
        .table("mails")
        .col("ended_at")
        .cond_where(Expr::col("ended_at").is_not_null())
        .take();
    schema.index(ended).await
}

async fn suppressions(schema: &Schema<'_>) -> Result<(), DbErr> {
    let columns = vec![schema.id("org_id"), text("address"), text("reason"), number("created_at")];
    let key = ["org_id", "address", "reason"];
    schema.create("mail_suppressions", Shape::Keyed, &key, columns, vec![]).await
}
