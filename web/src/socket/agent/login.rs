//! Who may connect as an agent.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use pulse_actors::ports::AgentLogin;
use pulse_domain::request::Refusal;
use pulse_protocol::api::OrgStatus;
use pulse_protocol::key::AgentKey;
use pulse_protocol::problem::ProblemCode;

use crate::WebState;
use crate::error::ApiError;
use crate::secrets::hash_secret;

/// How long an agent whose org is closed is to stay away.
const CLOSED_ORG_RETRY: Duration = Duration::from_secs(300);

/// Finds the agent whose key the request bears.
///
/// # Errors
///
/// 401 without a key that is somebody's, 403 where the org or the agent is switched off.
pub(super) async fn log_in(
    request: &HttpRequest,
    state: &WebState,
) -> Result<AgentLogin, ApiError> {
    let refused = || {
        ApiError::new(
            ProblemCode::Unauthenticated,
            "send the agent's key as `Authorization: Bearer`",
        )
    };
    let key = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .ok_or_else(refused)?
        .1;
    let key = AgentKey::parse(key.trim())
        .map_err(|error| ApiError::new(ProblemCode::Unauthenticated, error.to_string()))?;
    let login = state.accounts.agent_by_key(&hash_secret(key.secret()), state.clock.now()).await?;
    let login = login.ok_or_else(|| {
        ApiError::new(
            ProblemCode::Unauthenticated,
            "no agent has this key; it was removed or its key replaced",
        )
    })?;
    match login.org_status {
        OrgStatus::Suspended => {
            return Err(ApiError::from(Refusal::OrgSuspended).retry_after(CLOSED_ORG_RETRY));
        }
        OrgStatus::Cancelled => {
            return Err(ApiError::from(Refusal::OrgCancelled).retry_after(CLOSED_ORG_RETRY));
        }
        OrgStatus::Trial | OrgStatus::Active | OrgStatus::PastDue => {}
    }
    if !login.enabled {
        return Err(ApiError::new(
            ProblemCode::AgentDisabled,
            "the agent is switched off; a member can enable it",
        ));
    }
    Ok(login)
}
