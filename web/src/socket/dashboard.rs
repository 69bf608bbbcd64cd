//! One dashboard's socket: what this viewer has seen, its bounded queue, its return after a gap.
//!
//! - In: [`ViewerPush`] from the org's home; pings and filters from the viewer.
//! - Out: one snapshot, then every event once and in order. A viewer that shows the last number it has gets what
//!   comes after it from the store, and goes on with what is pushed.
//! - Lost when it ends: nothing. The viewer comes back with its last number.

mod filter;
mod session;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, WebsocketContext};
use pulse_domain::request::Refusal;
use pulse_protocol::api::OrgStatus;
use pulse_protocol::dashboard::DASHBOARD_SUBPROTOCOL;
use pulse_protocol::ids::OrgId;
use pulse_protocol::problem::ProblemCode;

use self::session::DashboardSession;
use super::check_upgrade;
use super::outbox::{Body, Outbox};
use crate::WebState;
use crate::error::ApiError;
use crate::paging::Params;
use crate::principal::Principal;

/// `GET /ws/dashboard?org=<org_id>&after=<seq>`.
///
/// # Errors
///
/// Everything that is refused before the upgrade: 401, 403, 400, 404.
pub async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<WebState>,
) -> Result<HttpResponse, ApiError> {
    check_origin(&request, &state)?;
    let principal = Principal::prove(&request).await?;
    let mut params = Params::new(request.query_string());
    let org_id = org_of(&mut params, &principal, &state).await?;
    let after =
        params.read("after", "the number of the last event you have", |text| text.parse().ok());
    // The protocol gives this fault the status 400.
    params.finish().map_err(|error| error.with_status(StatusCode::BAD_REQUEST))?;
    check_upgrade(&request, DASHBOARD_SUBPROTOCOL)?;
    let mut response =
        ws::handshake_with_protocols(&request, &[DASHBOARD_SUBPROTOCOL]).map_err(|error| {
            ApiError::new(ProblemCode::BadRequest, format!("this path is a websocket: {error}"))
        })?;
    let outbox = Outbox::default();
    let session = DashboardSession::new(org_id, principal, after, outbox.clone(), state);
    let body = Body::new(WebsocketContext::create(session, payload), outbox);
    Ok(response.streaming(body))
}

/// A browser says where its page came from, and a foreign page must not ride on the cookie.
fn check_origin(request: &HttpRequest, state: &WebState) -> Result<(), ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let own = state.settings.public_url.origin().ascii_serialization();
    let same_host = || {
        let host = request.headers().get(header::HOST)?.to_str().ok()?;
        let scheme = state.settings.public_url.scheme();
        Some(origin.as_bytes() == format!("{scheme}://{host}").as_bytes())
    };
    // On loopback the page may be opened under another of the machine's own names.
    let is_local = state.settings.public_url.host_str().is_some_and(is_loopback);
    if origin.as_bytes() == own.as_bytes() || (is_local && same_host().unwrap_or(false)) {
        return Ok(());
    }
    Err(ApiError::new(
        ProblemCode::Forbidden,
        format!("pages of another origin than {own} may not connect"),
    ))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

async fn org_of(
    params: &mut Params,
    principal: &Principal,
    state: &WebState,
) -> Result<OrgId, ApiError> {
    let text = params.read("org", "an organisation", |text| Some(text.to_owned()));
    let text = text.filter(|text| !text.is_empty()).ok_or_else(|| {
        ApiError::new(ProblemCode::OrgRequired, "name the organisation as `?org=org_…`")
    })?;
    let no_org = || ApiError::no_such("organisation");
    let org_id: OrgId = text.parse().map_err(|_| no_org())?;
    if !principal.may_enter(org_id) {
        return Err(no_org());
    }
    state.accounts.role(principal.user.id, org_id).await?.ok_or_else(no_org)?;
    let org = state.store.org(org_id).await?.ok_or_else(no_org)?;
    match org.status {
        OrgStatus::Suspended => Err(Refusal::OrgSuspended.into()),
        OrgStatus::Cancelled => Err(Refusal::OrgCancelled.into()),
        OrgStatus::Trial | OrgStatus::Active | OrgStatus::PastDue => Ok(org_id),
    }
}
