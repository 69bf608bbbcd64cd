//! Who asks: a signed-in browser, or a program with an API token.

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use pulse_protocol::api::User;
use pulse_protocol::ids::{OrgId, SessionId, TokenId};
use pulse_protocol::problem::ProblemCode;
use subtle::ConstantTimeEq;

use crate::WebState;
use crate::error::ApiError;
use crate::secrets::hash_secret;

/// The cookie of a signed-in browser.
pub const SESSION_COOKIE: &str = "pulse_session";
/// What a browser must show with every change, because it sends the cookie whoever wrote the page.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// How somebody proved who they are.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The cookie of a session.
    Session {
        /// The session.
        session_id: SessionId,
        /// What its changes must show.
        csrf_token: String,
    },
    /// An API token.
    Token {
        /// The token.
        token_id: TokenId,
        /// The only org it is good for.
        org_id: Option<OrgId>,
    },
}

/// Somebody who proved who they are; for a change by a browser, its CSRF token was right too.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Who.
    pub user: User,
    /// How they proved it.
    pub proof: Proof,
}

impl Principal {
    /// Whether the proof is good in this org at all.
    #[must_use]
    pub fn may_enter(&self, org_id: OrgId) -> bool {
        match self.proof {
            Proof::Session { .. } | Proof::Token { org_id: None, .. } => true,
            Proof::Token { org_id: Some(only), .. } => only == org_id,
        }
    }

    /// Proves who sent the request.
    ///
    /// # Errors
    ///
    /// 401 when nobody did, 403 for a browser's change without its CSRF token, 503 when nobody can tell.
    pub async fn prove(request: &HttpRequest) -> Result<Self, ApiError> {
        let state = state_of(request)?;
        // A header was set on purpose; the cookie comes along by itself.
        let Some(authorization) = request.headers().get(header::AUTHORIZATION) else {
            return Self::from_cookie(request, &state).await;
        };
        let token = authorization
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or_else(ApiError::unauthenticated)?
            .1;
        Self::from_token(token.trim(), &state).await
    }

    async fn from_token(token: &str, state: &WebState) -> Result<Self, ApiError> {
        let login = state
            .accounts
            .api_token(&hash_secret(token), state.clock.now())
            .await?
            .ok_or_else(ApiError::unauthenticated)?;
        let proof = Proof::Token { token_id: login.token_id, org_id: login.org_id };
        Ok(Self { user: login.user, proof })
    }

    async fn from_cookie(request: &HttpRequest, state: &WebState) -> Result<Self, ApiError> {
        let cookie = request.cookie(SESSION_COOKIE).ok_or_else(ApiError::unauthenticated)?;
        let login = state
            .accounts
            .session(&hash_secret(cookie.value()), state.clock.now())
            .await?
            .ok_or_else(ApiError::unauthenticated)?;
        if !request.method().is_safe() && !shows_csrf_token(request, &login.csrf_token) {
            return Err(ApiError::new(
                ProblemCode::Forbidden,
                "a browser's change needs the header `x-csrf-token`; `/api/v1/me` tells its value",
            ));
        }
        let proof = Proof::Session { session_id: login.session_id, csrf_token: login.csrf_token };
        Ok(Self { user: login.user, proof })
    }
}

fn shows_csrf_token(request: &HttpRequest, wanted: &str) -> bool {
    request
        .headers()
        .get(CSRF_HEADER)
        .is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(wanted.as_bytes())))
}

/// What the hub gave the app.
pub(crate) fn state_of(request: &HttpRequest) -> Result<web::Data<WebState>, ApiError> {
    request
        .app_data::<web::Data<WebState>>()
        .cloned()
        .ok_or_else(|| ApiError::internal("the app was started without its state"))
}

impl FromRequest for Principal {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::prove(&request).await })
    }
}
