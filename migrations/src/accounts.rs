//! Orgs, people, and what they sign in with.

use sea_orm_migration::prelude::*;

use crate::shape::{Schema, Shape, hash, number, optional_number, optional_text, reference, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "0001_accounts"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager);
        orgs(&schema).await?;
        people(&schema).await?;
        credentials(&schema).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Schema::new(manager).drop(&["api_tokens", "sessions", "members", "users", "orgs"]).await
    }
}

async fn orgs(schema: &Schema<'_>) -> Result<(), DbErr> {
    let columns = vec![
        schema.id("id"),
        text("name"),
        text("slug"),
        text("plan"),
        text("status"),
        optional_text("status_reason"),
        optional_number("heartbeat_interval_ms"),
        optional_number("heartbeat_timeout_ms"),
        optional_number("offline_grace_ms"),
        number("created_at"),
        number("changed_at"),
    ];
    schema.create("orgs", Shape::Keyed, &["id"], columns, vec![]).await?;
    let slug = Index::create().name("orgs_by_slug").table("orgs").col("slug").unique().take();
    schema.index(slug).await?;
    schema
        .index(Index::create().name("orgs_by_change").table("orgs").col("changed_at").take())
        .await
}

async fn people(schema: &Schema<'_>) -> Result<(), DbErr> {
    let users = vec![
        schema.id("id"),
        text("email"),
        text("name"),
        text("password_hash"),
        number("created_at"),
    ];
    schema.create("users", Shape::Keyed, &["id"], users, vec![]).await?;
    schema
        .index(Index::create().name("users_by_email").table("users").col("email").unique().take())
        .await?;

    let members = vec![schema.id("org_id"), schema.id("user_id"), text("role")];
    let references =
        vec![reference("members", "org_id", "orgs"), reference("members", "user_id", "users")];
    schema.create("members", Shape::Keyed, &["org_id", "user_id"], members, references).await?;
    schema
        .index(Index::create().name("members_by_user").table("members").col("user_id").take())
        .await
}

async fn credentials(schema: &Schema<'_>) -> Result<(), DbErr> {
    let sessions = vec![
        hash("cookie_hash"),
        schema.id("id"),
        schema.id("user_id"),
        text("csrf_token"),
        number("created_at"),
        number("expires_at"),
    ];
    let references = vec![reference("sessions", "user_id", "users")];
    schema.create("sessions", Shape::Keyed, &["cookie_hash"], sessions, references).await?;

    let tokens = vec![
        hash("token_hash"),
        schema.id("id"),
        schema.id("user_id"),
        schema.optional_id("org_id"),
        text("name"),
        number("created_at"),
        optional_number("expires_at"),
        optional_number("last_used_at"),
    ];
    let references = vec![
        reference("api_tokens", "user_id", "users"),
        reference("api_tokens", "org_id", "orgs"),
    ];
    schema.create("api_tokens", Shape::Keyed, &["token_hash"], tokens, references).await?;

    for (table, by_id, by_user, by_end) in [
        ("sessions", "sessions_by_id", "sessions_by_user", "sessions_by_end"),
        ("api_tokens", "api_tokens_by_id", "api_tokens_by_user", "api_tokens_by_end"),
    ] {
        schema.index(Index::create().name(by_id).table(table).col("id").unique().take()).await?;
        schema.index(Index::create().name(by_user).table(table).col("user_id").take()).await?;
        schema.index(Index::create().name(by_end).table(table).col("expires_at").take()).await?;
    }
    Ok(())
}
