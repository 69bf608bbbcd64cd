//! Who may come in: people, their sessions and tokens, and agents by their keys.

use async_trait::async_trait;
use pulse_domain::record::SecretHash;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Membership, OrgStatus, Role, User};
use pulse_protocol::ids::{AgentId, OrgId, SessionId, TokenId, UserId};

use super::store::StoreError;

/// Whose key an agent showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLogin {
    /// The agent.
    pub agent_id: AgentId,
    /// Its org.
    pub org_id: OrgId,
    /// Whether it may connect.
    pub enabled: bool,
    /// Where its org is in its life.
    pub org_status: OrgStatus,
}

/// A signed-in browser.
#[derive(Clone, Debug)]
pub struct SessionLogin {
    /// The session.
    pub session_id: SessionId,
    /// Who is signed in.
    pub user: User,
    /// What mutations must show in `x-csrf-token`.
    pub csrf_token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A program with an API token.
#[derive(Clone, Debug)]
pub struct TokenLogin {
    /// The token.
    pub token_id: TokenId,
    /// Whose it is.
    pub user: User,
    /// The only org it is good for; none when it is good for all of the user's.
    pub org_id: Option<OrgId>,
}

/// Accounts and credentials.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Whose key has this hash: the current key, or the one before it while `now` is in its overlap.
    async fn agent_by_key(
        &self,
        key_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<AgentLogin>, StoreError>;

    /// The account of a mail address (compared in lower case) with its password hash (PHC string).
    async fn user_by_email(&self, email: &str) -> Result<Option<(User, String)>, StoreError>;

    /// The orgs of a user, by name.
    async fn memberships(&self, user_id: UserId) -> Result<Vec<Membership>, StoreError>;

    /// What the user may do in the org; none if no member.
    async fn role(&self, user_id: UserId, org_id: OrgId) -> Result<Option<Role>, StoreError>;

    /// Stores a session under the hash of its cookie.
    async fn create_session(
        &self,
        cookie_hash: &SecretHash,
        session: &SessionLogin,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// The session of a cookie, if it has not ended.
    async fn session(
        &self,
        cookie_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<SessionLogin>, StoreError>;

    /// Ends a session; no fault if it is gone.
    async fn end_session(&self, session_id: SessionId) -> Result<(), StoreError>;

    /// Whether a session is still open.
    async fn session_is_open(
        &self,
        session_id: SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// The token with this hash, if it has not ended; notes its use at most once a minute.
    async fn api_token(
        &self,
        token_hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<TokenLogin>, StoreError>;

    /// Whether a token is still good.
    async fn token_is_good(&self, token_id: TokenId, now: Timestamp) -> Result<bool, StoreError>;
}
