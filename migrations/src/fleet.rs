//! Agents, segments, devices, scans and commands.

use sea_orm_migration::prelude::*;

use crate::shape::{
    Schema, Shape, flag, hash, number, optional_hash, optional_number, optional_text, text,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0003_fleet"
    }
}

const TABLES: [&str; 8] = [
    "commands",
    "scans",
    "device_states",
    "devices",
    "segments",
    "agent_positions",
    "agent_presences",
    "agents",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager);
        agents(&schema).await?;
        devices(&schema).await?;
        scans(&schema).await?;
        commands(&schema).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&TABLES).await
    }
}

async fn agents(schema: &Schema<'_>) -> Result<(), DbErr> {
    let agents = vec![
        schema.id("org_id"),
        schema.id("id"),
        text("name"),
        flag("enabled"),
        hash("key_hash"),
        text("key_prefix"),
        optional_hash("previous_key_hash"),
        optional_number("previous_key_until"),
        optional_text("facts"),
        number("created_at"),
    ];
    schema.create("agents", Shape::Keyed, &["org_id", "id"], agents, vec![]).await?;
    schema
        .index(
            Index::create().name("agents_by_key").table("agents").col("key_hash").unique().take(),
        )
        .await?;
    let previous = Index::create()
        .name("agents_by_previous_key")
        .table("agents")
        .col("previous_key_hash")
        .take();
    schema.index(previous).await?;

    let key = ["org_id", "agent_id"];
    let presences = vec![
        schema.id("org_id"),
        schema.id("agent_id"),
        text("state"),
        number("since"),
        optional_number("last_seen_at"),
        optional_number("back_by"),
    ];
    schema.create("agent_presences", Shape::Keyed, &key, presences, vec![]).await?;
    let positions =
        vec![schema.id("org_id"), schema.id("agent_id"), text("spool_id"), number("acked_seq")];
    schema.create("agent_positions", Shape::Keyed, &key, positions, vec![]).await
}

async fn devices(schema: &Schema<'_>) -> Result<(), DbErr> {
    let segments = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("agent_id"),
        text("name"),
        text("cidr"),
        text("interface"),
        number("scan_interval_s"),
        flag("enabled"),
        optional_number("last_scan_at"),
    ];
    schema.create("segments", Shape::Keyed, &["org_id", "id"], segments, vec![]).await?;
    let devices = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("agent_id"),
        schema.optional_id("segment_id"),
        schema.optional_id("category_id"),
        text("name"),
        text("address"),
        optional_text("mac"),
        text("checks"),
        number("created_at"),
    ];
    schema.create("devices", Shape::Keyed, &["org_id", "id"], devices, vec![]).await?;
    let states = vec![
        schema.id("org_id"),
        schema.id("device_id"),
        text("status"),
        optional_text("known"),
        number("since"),
        ColumnDef::new("response_time_ms").double().take(),
        text("checks"),
    ];
    schema.create("device_states", Shape::Keyed, &["org_id", "device_id"], states, vec![]).await
}

async fn scans(schema: &Schema<'_>) -> Result<(), DbErr> {
    let scans = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("agent_id"),
        schema.id("segment_id"),
        text("segment_name"),
        text("state"),
        number("started_at"),
        optional_number("finished_at"),
        number("devices_found"),
        number("devices_new"),
        optional_text("error"),
        optional_number("open_since"),
    ];
    schema.create("scans", Shape::Keyed, &["org_id", "id"], scans, vec![]).await?;
    let ended =
        Index::create().name("scans_by_end").table("scans").col("org_id").col("finished_at").take();
    schema.index(ended).await?;
    schema.index(open("scans_open", "scans")).await
}

async fn commands(schema: &Schema<'_>) -> Result<(), DbErr> {
    let commands = vec![
        schema.id("org_id"),
        schema.id("id"),
        schema.id("agent_id"),
        text("kind"),
        text("payload"),
        text("state"),
        number("issued_at"),
        number("deadline"),
        optional_text("result"),
        optional_text("error"),
        optional_number("open_since"),
    ];
    schema.create("commands", Shape::Keyed, &["org_id", "id"], commands, vec![]).await?;
    let by_agent = Index::create()
        .name("commands_by_agent")
        .table("commands")
        .col("org_id")
        .col("agent_id")
        .col("id")
        .take();
    schema.index(by_agent).await?;
    schema.index(open("commands_open", "commands")).await
}

/// An index of the few rows that have not ended, whatever the length of the history.
fn open(name: &'static str, table: &'static str) -> IndexCreateStatement {
    Index::create()
        .name(name)
        .table(table)
        .col("org_id")
        .cond_where(Expr::col("open_since").is_not_null())
        .take()
}
