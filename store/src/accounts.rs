//! Who may come in.

use std::time::Duration;

use async_trait::async_trait;
use pulse_actors::ports::{Accounts, AgentLogin, SessionLogin, StoreError, TokenLogin};
use pulse_domain::record::SecretHash;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Membership, Role, User};
use pulse_protocol::ids::{AgentId, OrgId, SessionId, TokenId, UserId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect,
};
use uuid::Uuid;

use crate::Database;
use crate::entity::{agent, api_token, member, org, session, user};
use crate::error::failed;
use crate::record::{org_status, word};

/// How exactly a token's last use is known: a write for every request would cost more than the request.
const LAST_USE_STEP: Duration = Duration::from_secs(60);

fn role(stored: &str) -> Result<Role, StoreError> {
    word(Role::from_word, stored, "membership")
}

fn user_view(row: &user::Model) -> User {
    User { id: UserId::from_uuid(row.id), email: row.email.clone(), name: row.name.clone() }
}

fn open_tokens(now: Timestamp) -> Condition {
    Condition::any()
        .add(api_token::Column::ExpiresAt.is_null())
        .add(api_token::Column::ExpiresAt.gt(now.unix_ms()))
}

impl Database {
    async fn user(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let row = user::Entity::find_by_id(id).one(&self.reader()).await.map_err(failed)?;
        Ok(row.as_ref().map(user_view))
    }

    async fn note_use(&self, token_hash: &SecretHash, now: Timestamp) -> Result<(), StoreError> {
        let noted = api_token::Entity::update_many()
            .col_expr(api_token::Column::LastUsedAt, Expr::value(now.unix_ms()))
            .filter(api_token::Column::TokenHash.eq(token_hash.to_vec()));
        noted.exec(&self.writer()).await.map(drop).map_err(failed)
    }
}

#[async_trait]
impl Accounts for Database {
    async fn agent_by_key(
        &self,
        key_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<AgentLogin>, StoreError> {
        let previous = Condition::all()
            .add(agent::Column::PreviousKeyHash.eq(key_hash.to_vec()))
            .add(agent::Column::PreviousKeyUntil.gt(now.unix_ms()));
        let keys = Condition::any().add(agent::Column::KeyHash.eq(key_hash.to_vec())).add(previous);
        let found = agent::Entity::find().filter(keys).one(&self.reader()).await.map_err(failed)?;
        let Some(agent) = found else { return Ok(None) };
        let org =
            org::Entity::find_by_id(agent.org_id).one(&self.reader()).await.map_err(failed)?;
        let Some(org) = org else { return Ok(None) };
        Ok(Some(AgentLogin {
            agent_id: AgentId::from_uuid(agent.id),
            org_id: OrgId::from_uuid(agent.org_id),
            enabled: agent.enabled,
            org_status: org_status(&org.status)?,
        }))
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, StoreError> {
        let found = user::Entity::find()
            .filter(user::Column::Email.eq(email.trim().to_lowercase()))
            .one(&self.reader())
            .await
            .map_err(failed)?;
        Ok(found.map(|row| (user_view(&row), row.password_hash)))
    }

    async fn memberships(&self, user_id: UserId) -> Result<Vec<Membership>, StoreError> {
        let roles = member::Entity::find()
            .filter(member::Column::UserId.eq(user_id.uuid()))
            .all(&self.reader())
            .await
            .map_err(failed)?;
        let orgs = org::Entity::find()
            .filter(org::Column::Id.is_in(roles.iter().map(|row| row.org_id)))
            .all(&self.reader())
            .await
            .map_err(failed)?;
        let mut memberships = Vec::with_capacity(orgs.len());
        for org in orgs {
            let Some(member) = roles.iter().find(|row| row.org_id == org.id) else { continue };
            let role = role(&member.role)?;
            let id = OrgId::from_uuid(org.id);
            memberships.push(Membership { id, name: org.name, slug: org.slug, role });
        }
        memberships.sort_by_cached_key(|org| (org.name.to_lowercase(), org.id));
        Ok(memberships)
    }

    async fn role(&self, user_id: UserId, org_id: OrgId) -> Result<Option<Role>, StoreError> {
        let row = member::Entity::find_by_id((org_id.uuid(), user_id.uuid()));
        let row = row.one(&self.reader()).await.map_err(failed)?;
        row.map(|row| role(&row.role)).transpose()
    }

    async fn create_session(
        &self,
        cookie_hash: &SecretHash,
        login: &SessionLogin,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = session::Model {
            cookie_hash: cookie_hash.to_vec(),
            id: login.session_id.uuid(),
            user_id: login.user.id.uuid(),
            csrf_token: login.csrf_token.clone(),
            created_at: now.unix_ms(),
            expires_at: login.expires_at.unix_ms(),
        };
        let row = row.into_active_model().reset_all();
        session::Entity::insert(row)
            .exec_without_returning(&self.writer())
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn session(
        &self,
        cookie_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<SessionLogin>, StoreError> {
        let row = session::Entity::find_by_id(cookie_hash.to_vec())
            .filter(session::Column::ExpiresAt.gt(now.unix_ms()))
            .one(&self.reader())
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let user = self.user(row.user_id).await?;
        Ok(user.map(|user| SessionLogin {
            session_id: SessionId::from_uuid(row.id),
            user,
            csrf_token: row.csrf_token,
            expires_at: Timestamp::from_unix_ms(row.expires_at),
        }))
    }

    async fn end_session(&self, session_id: SessionId) -> Result<(), StoreError> {
        let ended = session::Entity::delete_many()
            .filter(session::Column::Id.eq(session_id.uuid()))
            .exec(&self.writer())
            .await;
        ended.map(drop).map_err(failed)
    }

    async fn session_is_open(
        &self,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let open: Option<Uuid> = session::Entity::find()
            .filter(session::Column::Id.eq(session_id.uuid()))
            .filter(session::Column::ExpiresAt.gt(now.unix_ms()))
            .select_only()
            .column(session::Column::Id)
            .into_tuple()
            .one(&self.reader())
            .await
            .map_err(failed)?;
        Ok(open.is_some())
    }

    async fn api_token(
        &self,
        token_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<TokenLogin>, StoreError> {
        let row = api_token::Entity::find_by_id(token_hash.to_vec())
            .filter(open_tokens(now))
            .one(&self.reader())
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let Some(user) = self.user(row.user_id).await? else { return Ok(None) };
        let noted_at = row.last_used_at.map(Timestamp::from_unix_ms);
        if noted_at.is_none_or(|at| now >= at + LAST_USE_STEP) {
            self.note_use(token_hash, now).await?;
        }
        Ok(Some(TokenLogin {
            token_id: TokenId::from_uuid(row.id),
            user,
            org_id: row.org_id.map(OrgId::from_uuid),
        }))
    }

    async fn token_is_good(&self, token_id: TokenId, now: Timestamp) -> Result<bool, StoreError> {
        let good: Option<Uuid> = api_token::Entity::find()
            .filter(api_token::Column::Id.eq(token_id.uuid()))
            .filter(open_tokens(now))
            .select_only()
            .column(api_token::Column::Id)
            .into_tuple()
            .one(&self.reader())
            .await
            .map_err(failed)?;
        Ok(good.is_some())
    }
}
