//! The journal: every org's events and the number of its last one.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, number, reference, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0002_journal"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager);
        let heads = vec![schema.id("org_id"), number("seq")];
        let references = vec![reference("org_heads", "org_id", "orgs")];
        schema.create("org_heads", Shape::Keyed, &["org_id"], heads, references).await?;

        // No reference to the org and no index on the id: each costs on every row of the busiest table.
        let events = vec![
            schema.id("org_id"),
            number("seq"),
            schema.id("id"),
            text("name"),
            number("at"),
            text("data"),
        ];
        schema.create("events", Shape::Log, &["org_id", "seq"], events, vec![]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["events", "org_heads"]).await
    }
}
