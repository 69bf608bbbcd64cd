//! Organisations.

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{Membership, Org, OrgPatch};
use pulse_protocol::ids::OrgId;

use crate::WebState;
use crate::body::Body;
use crate::error::ApiError;
use crate::paging::{Paging, Params};
use crate::principal::Principal;
use crate::tenant::{ManageOrg, Tenant, View, ViewOrg};

/// Homes that are asked at once for one list.
const ASKED_AT_ONCE: usize = 8;

/// `GET …/orgs`: those of the caller.
pub(crate) async fn list(
    state: web::Data<WebState>,
    principal: Principal,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mut params = Params::new(request.query_string());
    let paging = Paging::<OrgId>::read(&mut params);
    params.finish()?;
    let mut memberships = state.accounts.memberships(principal.user.id).await?;
    memberships.retain(|org| {
        principal.may_enter(org.id) && paging.after.is_none_or(|after| org.id > after)
    });
    memberships.sort_by_key(|org| org.id);
    let page = paging.page(memberships, |org| org.id);
    let asked = page.items.into_iter().map(|org: Membership| read_org(&state, org.id));
    let items: Vec<Org> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
    Ok(HttpResponse::Ok().json(pulse_protocol::api::Page { items, next_cursor: page.next_cursor }))
}

async fn read_org(state: &WebState, org_id: OrgId) -> Result<Org, ApiError> {
    let Reply::Org(org) = state.directory.read(org_id, Query::Org).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(*org)
}

/// `GET …/orgs/{org_id}`
pub(crate) async fn show(tenant: Tenant<ViewOrg>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(read_org(tenant.state(), tenant.org.id).await?))
}

/// `PATCH …/orgs/{org_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageOrg>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let patch: OrgPatch = body.json().await?;
    let Reply::Org(org) = tenant.request(Request::PatchOrg(patch)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(org))
}

/// `GET …/usage`
pub(crate) async fn usage(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let Reply::Usage(usage) = tenant.read(Query::Usage).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(usage))
}
