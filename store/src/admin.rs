//! What the command line does to accounts and orgs, also beside a live hub.

use pulse_actors::ports::StoreError;
use pulse_domain::notification::mail::{MailRequest, Welcome};
use pulse_domain::record::{OrgRecord, SecretHash};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{OrgStatus, Plan, Role};
use pulse_protocol::ids::{OrgId, TokenId, UserId};
use rand::Rng;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, Statement,
};

use crate::Database;
use crate::entity::{Row, api_token, head, member, org, session, user};
use crate::error::failed;
use crate::mails;
use crate::record::Record;

/// What the token of a bootstrap is called.
const TOKEN_NAME: &str = "bootstrap";
/// Names the advisory lock under which one process at a time bootstraps; any fixed number will do.
const BOOTSTRAP_LOCK: i64 = 0x7075_6c73_6502;
/// How long an org may try.
const TRIAL_DAYS: u32 = 14;
/// Longest slug without its suffix.
const SLUG_CHARS_MAX: usize = 40;

/// A first account and its org.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// The owner's mail address.
    pub email: &'a str,
    /// The org's name.
    pub org_name: &'a str,
    /// What a new org pays for.
    pub plan: Plan,
    /// For a new owner, or on rotation: the hash of the password (PHC string).
    pub password_hash: &'a str,
    /// For a new org, or on rotation: the hash of the API token.
    pub token_hash: &'a SecretHash,
    /// Whether to replace password and token of an owner who exists.
    pub rotate: bool,
    /// The instant now.
    pub now: Timestamp,
}

/// What a bootstrap found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    /// The org.
    pub org_id: OrgId,
    /// Its owner.
    pub user_id: UserId,
    /// Whether the org is new.
    pub org_created: bool,
    /// Whether the password given is now the owner's.
    pub password_set: bool,
    /// Whether the token given is now good.
    pub token_set: bool,
}

/// Makes sure that the owner and the org exist. Run again for the same address and name (letter case aside)
/// it finds what it made and changes nothing, unless it is to rotate.
///
/// # Errors
///
/// Returns [`StoreError`]; then nothing was changed.
pub async fn bootstrap(
    store: &Database,
    wanted: &Bootstrap<'_>,
) -> Result<Bootstrapped, StoreError> {
    let transaction = store.begin_write().await.map_err(failed)?;
    lock(&transaction).await.map_err(failed)?;
    let (user_id, user_created) = ensure_user(&transaction, wanted).await.map_err(failed)?;
    let existing = find_org(&transaction, user_id, wanted.org_name).await.map_err(failed)?;
    let (org_id, org_created) = match existing {
        Some(org_id) => (org_id, false),
        None => (create_org(store, &transaction, user_id, wanted).await?, true),
    };
    let password_set = user_created || wanted.rotate;
    if wanted.rotate && !user_created {
        replace_password(&transaction, user_id, wanted).await.map_err(failed)?;
    }
    let token_set = org_created || wanted.rotate;
    if token_set {
        replace_token(&transaction, user_id, wanted).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Bootstrapped { org_id, user_id, org_created, password_set, token_set })
}

/// Gives an org, named by its id or its slug, another status. A live hub that asks for changed orgs sees it.
/// None if there is no such org.
///
/// # Errors
///
/// Returns [`StoreError`]; then nothing was changed.
pub async fn set_org_status(
    store: &Database,
    org: &str,
    status: OrgStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Option<OrgId>, StoreError> {
    let named = match org.parse::<OrgId>() {
        Ok(org_id) => org::Column::Id.eq(org_id.uuid()),
        Err(_) => org::Column::Slug.eq(org.to_lowercase()),
    };
    let transaction = store.begin_write().await.map_err(failed)?;
    let found = org::Entity::find().filter(named).one(&transaction).await.map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    org::Entity::update_many()
        .col_expr(org::Column::Status, Expr::value(status.as_str()))
        .col_expr(org::Column::StatusReason, Expr::value(reason.map(str::to_owned)))
        .col_expr(org::Column::ChangedAt, Expr::value(now.unix_ms()))
        .filter(org::Column::Id.eq(found.id))
        .exec(&transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(Some(OrgId::from_uuid(found.id)))
}

/// SQLite's write transactions come one after the other anyway.
async fn lock(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() == DbBackend::Postgres {
        let lock = format!("SELECT pg_advisory_xact_lock({BOOTSTRAP_LOCK})");
        transaction.execute_raw(Statement::from_string(DbBackend::Postgres, lock)).await?;
    }
    Ok(())
}

async fn insert<R>(transaction: &DatabaseTransaction, row: R) -> Result<(), DbErr>
where
    R: Row + IntoActiveModel<<R::Entity as EntityTrait>::ActiveModel>,
    <R::Entity as EntityTrait>::ActiveModel: Send,
    R::Entity: EntityTrait<Model = R>,
{
    let row = row.into_active_model().reset_all();
    R::Entity::insert(row).exec_without_returning(transaction).await.map(drop)
}

async fn ensure_user(
    transaction: &DatabaseTransaction,
    wanted: &Bootstrap<'_>,
) -> Result<(UserId, bool), DbErr> {
    let email = wanted.email.trim().to_lowercase();
    let found =
        user::Entity::find().filter(user::Column::Email.eq(&email)).one(transaction).await?;
    if let Some(found) = found {
        return Ok((UserId::from_uuid(found.id), false));
    }
    let user_id = UserId::new();
    let name = name_of(&email);
    let row = user::Model {
        id: user_id.uuid(),
        email,
        name,
        password_hash: wanted.password_hash.to_owned(),
        created_at: wanted.now.unix_ms(),
    };
    insert(transaction, row).await?;
    Ok((user_id, true))
}

/// The user's org of this name.
async fn find_org(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    name: &str,
) -> Result<Option<OrgId>, DbErr> {
    let memberships = member::Entity::find()
        .filter(member::Column::UserId.eq(user_id.uuid()))
        .all(transaction)
        .await?;
    let orgs = org::Entity::find()
        .filter(org::Column::Id.is_in(memberships.iter().map(|row| row.org_id)))
        .all(transaction)
        .await?;
    let name = name.trim().to_lowercase();
    let same = orgs.iter().find(|org| org.name.to_lowercase() == name);
    Ok(same.map(|org| OrgId::from_uuid(org.id)))
}

async fn create_org(
    store: &Database,
    transaction: &DatabaseTransaction,
    owner: UserId,
    wanted: &Bootstrap<'_>,
) -> Result<OrgId, StoreError> {
    let id = OrgId::new();
    let record = OrgRecord {
        id,
        name: wanted.org_name.trim().to_owned(),
        slug: free_slug(transaction, wanted.org_name).await.map_err(failed)?,
        plan: wanted.plan,
        status: match wanted.plan {
            Plan::Trial => OrgStatus::Trial,
            Plan::Starter | Plan::Unlimited => OrgStatus::Active,
        },
        status_reason: None,
        heartbeat_interval_ms: None,
        heartbeat_timeout_ms: None,
        offline_grace_ms: None,
        created_at: wanted.now,
    };
    insert(transaction, record.row(id, &store.sealer)?).await.map_err(failed)?;
    insert(transaction, head::Model { org_id: id.uuid(), seq: 0 }).await.map_err(failed)?;
    let owner = member::Model {
        org_id: id.uuid(),
        user_id: owner.uuid(),
        role: Role::Owner.as_str().to_owned(),
    };
    insert(transaction, owner).await.map_err(failed)?;
    welcome(store, transaction, id, wanted).await?;
    Ok(id)
}

/// The creator's welcome is written with the org. A hub that has no way to send mail shows so.
async fn welcome(
    store: &Database,
    transaction: &DatabaseTransaction,
    org_id: OrgId,
    wanted: &Bootstrap<'_>,
) -> Result<(), StoreError> {
    let welcome = Welcome {
        name: name_of(wanted.email),
        org_name: wanted.org_name.trim().to_owned(),
        trial_days: (wanted.plan == Plan::Trial).then_some(TRIAL_DAYS),
    };
    let request = MailRequest::to_addresses(welcome, vec![wanted.email.to_owned()], wanted.now);
    mails::call_for(transaction, &store.sealer, org_id, &request).await.map(drop)
}

/// What a person is called until they say otherwise.
fn name_of(email: &str) -> String {
    let email = email.trim().to_lowercase();
    email.split('@').next().unwrap_or(&email).to_owned()
}

async fn replace_password(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    wanted: &Bootstrap<'_>,
) -> Result<(), DbErr> {
    user::Entity::update_many()
        .col_expr(user::Column::PasswordHash, Expr::value(wanted.password_hash))
        .filter(user::Column::Id.eq(user_id.uuid()))
        .exec(transaction)
        .await?;
    // Whoever signed in with the old password must sign in again.
    session::Entity::delete_many()
        .filter(session::Column::UserId.eq(user_id.uuid()))
        .exec(transaction)
        .await
        .map(drop)
}

async fn replace_token(
    transaction: &DatabaseTransaction,
    user_id: UserId,
    wanted: &Bootstrap<'_>,
) -> Result<(), DbErr> {
    if wanted.rotate {
        api_token::Entity::delete_many()
            .filter(api_token::Column::UserId.eq(user_id.uuid()))
            .filter(api_token::Column::Name.eq(TOKEN_NAME))
            .exec(transaction)
            .await?;
    }
    let row = api_token::Model {
        token_hash: wanted.token_hash.to_vec(),
        id: TokenId::new().uuid(),
        user_id: user_id.uuid(),
        org_id: None,
        name: TOKEN_NAME.to_owned(),
        created_at: wanted.now.unix_ms(),
        expires_at: None,
        last_used_at: None,
    };
    insert(transaction, row).await
}

async fn free_slug(transaction: &DatabaseTransaction, name: &str) -> Result<String, DbErr> {
    let wanted = slug(name);
    let mut candidate = wanted.clone();
    while org::Entity::find()
        .filter(org::Column::Slug.eq(&candidate))
        .one(transaction)
        .await?
        .is_some()
    {
        candidate = format!("{wanted}-{:06x}", rand::rng().random_range(0..1 << 24_u32));
    }
    Ok(candidate)
}

/// A name in links: lower case, everything but `a-z0-9` becomes `-`.
fn slug(name: &str) -> String {
    let words: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    let slug: String = words.join("-").chars().take(SLUG_CHARS_MAX).collect();
    match slug.trim_end_matches('-') {
        "" => "org".to_owned(),
        slug => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_keeps_letters_and_digits() {
        for (name, expected) in [
            ("Acme", "acme"),
            ("  Acme & Sons, Ltd. ", "acme-sons-ltd"),
            ("Zürich 24/7", "z-rich-24-7"),
            ("日本", "org"),
            ("", "org"),
        ] {
            assert_eq!(slug(name), expected);
        }
        assert!(slug(&"a-".repeat(100)).len() <= SLUG_CHARS_MAX);
    }
}
