//! What notifications need beside channels, rules and deliveries: settings of rules, the state of receivers, alerts and
//! maintenance windows. New columns have defaults, so that the version before still writes these tables.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, number, optional_number, optional_text, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0006_notifications"
    }
}

/// Table, column and what it holds in rows that are there or are written without it.
const ADDED: &[(&str, &str, &str)] = &[
    ("channels", "retry_schedule", "[]"),
    ("channels", "breaker", "{}"),
    ("rules", "settings", "{}"),
    ("deliveries", "resource", ""),
    ("deliveries", "content", r#"{"reason":"event","resource_name":""}"#),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column, default) in ADDED {
            let column = text(column).default(*default).take();
            manager.alter_table(Table::alter().table(*table).add_column(column).take()).await?;
        }
        let answer = optional_text("answer");
        manager
            .alter_table(Table::alter().table("delivery_attempts").add_column(answer).take())
            .await?;
        let schema = Schema::new(manager);
        alerts(&schema).await?;
        maintenance_windows(&schema).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["maintenance_windows", "alerts"]).await?;
        let added = ADDED.iter().map(|(table, column, _)| (*table, *column));
        for (table, column) in added.chain([("delivery_attempts", "answer")]) {
            manager.alter_table(Table::alter().table(table).drop_column(column).take()).await?;
        }
        Ok(())
    }
}

async fn alerts(schema: &Schema<'_>) -> Result<(), DbErr> {
    let columns = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("rule_id"),
        text("resource"),
        text("state"),
        optional_number("due_at"),
        number("updated_at"),
    ];
    schema.create("alerts", Shape::Keyed, &["org_id", "id"], columns, vec![]).await
}

async fn maintenance_windows(schema: &Schema<'_>) -> Result<(), DbErr> {
    let columns = vec![
        schema.id("org_id"),
        schema.id("id"),
        text("settings"),
        optional_number("next_change_at"),
        number("created_at"),
    ];
    schema.create("maintenance_windows", Shape::Keyed, &["org_id", "id"], columns, vec![]).await
}
