//! Signing in and out, and who is signed in.

use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::{HttpRequest, HttpResponse, web};
use pulse_actors::ports::SessionLogin;
use pulse_protocol::api::{Login, Me, User};
use pulse_protocol::ids::SessionId;
use pulse_protocol::problem::ProblemCode;
use serde::Serialize;
use tracing::info;

use crate::WebState;
use crate::address::client_address;
use crate::body::Body;
use crate::error::ApiError;
use crate::principal::{Principal, Proof, SESSION_COOKIE};
use crate::secrets::{hash_secret, new_csrf_token, new_session_cookie};

/// How long a browser stays signed in.
const SESSION_LIFE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The answer to a sign-in.
#[derive(Serialize)]
struct SignedIn {
    user: User,
    csrf_token: String,
}

/// `POST /api/v1/auth/login`
pub(crate) async fn login(
    state: web::Data<WebState>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let login: Login = body.json().await?;
    let address = client_address(&request, &state.settings.trusted_proxies);
    let email = login.email.trim().to_lowercase();
    state.attempts.begin(address, &email, state.clock.now()).map_err(|wait| {
        ApiError::new(ProblemCode::RateLimited, "too many failed sign-ins; wait and try again")
            .retry_after(wait)
    })?;

    let (user, stored) = state.accounts.user_by_email(&email).await?.unzip();
    let is_right = state.passwords.verify(login.password, stored).await?;
    let Some(user) = user.filter(|_| is_right) else {
        state.metrics.login_failures.inc();
        return Err(ApiError::new(
            ProblemCode::Unauthenticated,
            "the e-mail address or the password is wrong",
        ));
    };
    state.attempts.succeeded(address, &email);
    open_session(&state, user).await
}

async fn open_session(state: &WebState, user: User) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let cookie = new_session_cookie();
    let session = SessionLogin {
        session_id: SessionId::new(),
        user,
        csrf_token: new_csrf_token(),
        expires_at: now + SESSION_LIFE,
    };
    state.accounts.create_session(&hash_secret(&cookie), &session, now).await?;
    info!(session.id = %session.session_id, user.id = %session.user.id, "signed in");
    let lifetime = time::Duration::try_from(SESSION_LIFE).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok()
        .cookie(session_cookie(state, cookie, lifetime))
        .json(SignedIn { user: session.user, csrf_token: session.csrf_token }))
}

/// `POST /api/v1/auth/logout`
pub(crate) async fn logout(
    state: web::Data<WebState>,
    principal: Principal,
) -> Result<HttpResponse, ApiError> {
    let Proof::Session { session_id, .. } = principal.proof else {
        return Err(ApiError::new(
            ProblemCode::Forbidden,
            "an API token has no session to end; delete the token instead",
        ));
    };
    state.accounts.end_session(session_id).await?;
    info!(session.id = %session_id, "signed out");
    let gone = session_cookie(&state, String::new(), time::Duration::ZERO);
    Ok(HttpResponse::NoContent().cookie(gone).finish())
}

/// `GET /api/v1/me`
pub(crate) async fn me(
    state: web::Data<WebState>,
    principal: Principal,
) -> Result<HttpResponse, ApiError> {
    let mut orgs = state.accounts.memberships(principal.user.id).await?;
    orgs.retain(|org| principal.may_enter(org.id));
    let csrf_token = match principal.proof {
        Proof::Session { csrf_token, .. } => Some(csrf_token),
        Proof::Token { .. } => None,
    };
    Ok(HttpResponse::Ok().json(Me { user: principal.user, csrf_token, orgs }))
}

fn session_cookie(state: &WebState, value: String, lifetime: time::Duration) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(state.settings.is_https())
        .max_age(lifetime)
        .finish()
}
