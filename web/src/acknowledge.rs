//! The page behind the link in a message about an alert: says what it is, and takes the acknowledgement.
//!
//! Mail scanners and chat previews follow links, so looking at the page acknowledges nothing; pressing its button does.
//! The token is the proof: it is good for this one alert, and for nothing else.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pulse_actors::directory::AskError;
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::api::{Alert, AlertState};
use pulse_protocol::ids::{AlertId, OrgId};
use sha2::{Digest, Sha256};

use crate::WebState;
use crate::error::ApiError;

/// Who acknowledged by a link.
const BY_LINK: &str = "link";
const STYLE: &str = "body{font-family:system-ui,sans-serif;margin:0;background:#f6f7f9;color:#1a1d21}\
main{max-width:32rem;margin:4rem auto;padding:2rem;background:#fff;border:1px solid #dfe3e8;border-radius:8px}\
h1{font-size:1.25rem;margin:0 0 1rem}dt{color:#5b6570;font-size:.85rem}dd{margin:0 0 .75rem;overflow-wrap:anywhere}\
button{font:inherit;padding:.6rem 1.2rem;border:0;border-radius:6px;background:#1f5fd0;color:#fff;cursor:pointer}\
@media(prefers-color-scheme:dark){body{background:#111417;color:#e8eaed}main{background:#1a1e23;border-color:#30363d}\
dt{color:#9aa4af}}";

#[derive(Template)]
#[template(path = "acknowledge.html")]
struct Page<'a> {
    style: &'static str,
    title: &'a str,
    text: &'a str,
    alert: Option<&'a Alert>,
    /// Whether there is a button.
    asks: bool,
}

/// `GET /acknowledge/{token}`: changes nothing.
pub(crate) async fn show(
    state: web::Data<WebState>,
    token: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let Some((org_id, alert_id)) = state.links.acknowledged(&token) else { return no_link() };
    answer(state.directory.read(org_id, Query::Alert(alert_id)).await)
}

/// `POST /acknowledge/{token}`: acknowledges the alert; again is as good as once.
pub(crate) async fn acknowledge(
    state: web::Data<WebState>,
    token: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let Some((org_id, alert_id)) = state.links.acknowledged(&token) else { return no_link() };
    answer(request(&state, org_id, alert_id).await)
}

async fn request(state: &WebState, org_id: OrgId, alert_id: AlertId) -> Result<Reply, AskError> {
    let by = BY_LINK.to_owned();
    state.directory.request(org_id, Request::AcknowledgeAlert { alert_id, by }).await
}

fn answer(answered: Result<Reply, AskError>) -> Result<HttpResponse, ApiError> {
    match answered {
        Ok(Reply::Alert(alert)) => page_of(&alert),
        Ok(_) => Err(ApiError::mismatched_reply()),
        Err(AskError::NoSuchOrg | AskError::Refused(Refusal::NotFound { .. })) => page(
            StatusCode::OK,
            "This alert is over",
            "There is nothing left to acknowledge.",
            None,
            false,
        ),
        Err(AskError::Refused(Refusal::OrgSuspended | Refusal::OrgCancelled)) => page(
            StatusCode::FORBIDDEN,
            "This organisation is closed",
            "Its alerts cannot be acknowledged now.",
            None,
            false,
        ),
        Err(error) => Err(error.into()),
    }
}

fn page_of(alert: &Alert) -> Result<HttpResponse, ApiError> {
    let (title, text, asks) = match (alert.state, alert.acknowledged_at) {
        (AlertState::Resolved, _) => {
            ("This alert is over", "There is nothing left to acknowledge.", false)
        }
        (_, Some(_)) => ("Acknowledged", "Nobody else is told while this lasts.", false),
        (_, None) => (
            "Acknowledge this alert?",
            "Acknowledging says that you look after it. Nobody else is told then.",
            true,
        ),
    };
    page(StatusCode::OK, title, text, Some(alert), asks)
}

fn no_link() -> Result<HttpResponse, ApiError> {
    let text = "Use the link as it is in the message, or acknowledge the alert on the dashboard.";
    page(StatusCode::NOT_FOUND, "This link is not valid", text, None, false)
}

fn page(
    status: StatusCode,
    title: &str,
    text: &str,
    alert: Option<&Alert>,
    asks: bool,
) -> Result<HttpResponse, ApiError> {
    let page = Page { style: STYLE, title, text, alert, asks };
    let body = page.render().map_err(ApiError::internal)?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy()?))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // The path is the secret.
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(body))
}

/// Nothing but this one style, and a form to here.
fn policy() -> Result<HeaderValue, ApiError> {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&text).map_err(ApiError::internal)
}
