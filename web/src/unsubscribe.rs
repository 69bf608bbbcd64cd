//! The link that ends an org's mail to one address (RFC 8058): a page for people, one click for mail programs.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpResponse, web};
use askama::Template;
use pulse_actors::ports::SuppressedAddress;
use pulse_protocol::api::SuppressionReason;
use pulse_protocol::ids::OrgId;
use tracing::info;

use crate::WebState;
use crate::error::ApiError;

#[derive(Template)]
#[template(path = "unsubscribe.html")]
struct Page<'a> {
    title: &'a str,
    text: &'a str,
    asks: bool,
}

/// `GET /unsubscribe/{token}`: asks. Programs that look at links in mail change nothing.
pub(crate) async fn ask(
    state: web::Data<WebState>,
    token: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let Some((org_id, address)) = state.links.unsubscribed(&token) else { return unknown() };
    let org = name_of(&state, org_id).await?;
    let text = format!("{address} gets no more notifications and notices of {org}.");
    page(StatusCode::OK, &Page { title: "Unsubscribe?", text: &text, asks: true })
}

/// `POST /unsubscribe/{token}`: does it, whatever the body says.
pub(crate) async fn confirm(
    state: web::Data<WebState>,
    token: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let Some((org_id, address)) = state.links.unsubscribed(&token) else { return unknown() };
    let suppressed = SuppressedAddress {
        org_id,
        address,
        reason: SuppressionReason::Unsubscribed,
        created_at: state.clock.now(),
    };
    state.courier.store.suppress(&suppressed).await?;
    info!(org.id = %org_id, "an address was unsubscribed");
    let org = name_of(&state, org_id).await?;
    let text = format!(
        "{} gets no more notifications and notices of {org}. What you ask for, such as a new password, still comes.",
        suppressed.address
    );
    page(StatusCode::OK, &Page { title: "Unsubscribed", text: &text, asks: false })
}

async fn name_of(state: &WebState, org_id: OrgId) -> Result<String, ApiError> {
    let org = state.store.org(org_id).await?;
    Ok(org.map_or_else(|| "VelocityPulse".to_owned(), |org| org.name))
}

fn unknown() -> Result<HttpResponse, ApiError> {
    let text = "It may have been cut off by your mail program. Try the link in a later mail.";
    let asks = false;
    page(StatusCode::NOT_FOUND, &Page { title: "This link is not good", text, asks })
}

fn page(status: StatusCode, page: &Page<'_>) -> Result<HttpResponse, ApiError> {
    let html = page.render().map_err(ApiError::internal)?;
    Ok(HttpResponse::build(status)
        .content_type(ContentType::html())
        // The address of this page is all that is needed to act on it.
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(html))
}
