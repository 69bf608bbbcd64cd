//! Notification rules.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use pulse_domain::notification::preview;
use pulse_domain::org::Org;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{NewRule, RulePatch};
use pulse_protocol::ids::RuleId;
use pulse_protocol::problem::ProblemCode;
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageChannels, Right, Tenant, View};

/// How far back a preview looks.
const PREVIEW_OF: Duration = Duration::from_secs(7 * 86_400);
/// Events a preview reads: the latest ones, some 25 MiB of them.
const PREVIEW_EVENTS_MAX: usize = 50_000;
/// Previews at the same time, on one node: they are the only requests that read so much, and nobody queues for them.
static PREVIEWS: Semaphore = Semaphore::const_new(2);
/// How long a client is asked to wait for its turn.
const PREVIEW_RETRY: Duration = Duration::from_secs(1);

/// `GET …/rules`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Rules { after: paging.after, limit: paging.probe() };
    let Reply::Rules(rules) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(rules, |rule| rule.id)))
}

/// `POST …/rules`
pub(crate) async fn create(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let new: NewRule = body.json().await?;
    let Reply::Rule(rule) = tenant.request(Request::AddRule(RuleId::new(), new)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, tenant.location("rules", rule.id)))
        .json(rule))
}

/// `GET …/rules/{rule_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let Reply::Rule(rule) = tenant.read(Query::Rule(rule_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(rule))
}

/// `PATCH …/rules/{rule_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let rule_id = rule_id(&tenant)?;
    let patch: RulePatch = body.json().await?;
    let Reply::Rule(rule) = tenant.request(Request::PatchRule(rule_id, patch)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(rule))
}

/// `DELETE …/rules/{rule_id}`
pub(crate) async fn remove(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let Reply::Removed = tenant.request(Request::RemoveRule(rule_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::NoContent().finish())
}

fn rule_id<R: Right>(tenant: &Tenant<R>) -> Result<RuleId, ApiError> {
    tenant.id("rule_id", "rule")
}

/// `POST …/rules/preview`: what a rule would have told over the last 7 days.
pub(crate) async fn preview(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let new: NewRule = body.json().await?;
    let turn = PREVIEWS.try_acquire().map_err(|_| {
        let detail = "too many previews at the same time; try again shortly";
        ApiError::new(ProblemCode::RateLimited, detail).retry_after(PREVIEW_RETRY)
    })?;
    let (store, org_id) = (&tenant.state().store, tenant.org.id);
    let to = tenant.state().clock.now();
    let mut from = to - PREVIEW_OF;
    let image = store.load(org_id).await?.ok_or_else(|| ApiError::no_such("organisation"))?;
    // Whether it is a rule at all is told before the journal is read.
    let (org, rule) = (image.clone(), new.clone());
    let empty = web::block(move || Org::preview(org, rule, &[], [from, to], false));
    empty.await.map_err(ApiError::internal)??;
    let names = preview::names(&new.event_types);
    let limit = u32::try_from(PREVIEW_EVENTS_MAX + 1).unwrap_or(u32::MAX);
    let mut events = store.events_since(org_id, from, &names, limit).await?;
    let is_truncated = events.len() > PREVIEW_EVENTS_MAX;
    if is_truncated {
        events.remove(0);
        from = events.first().map_or(from, |event| event.at);
    }
    let rehearsed = web::block(move || {
        // Its turn is over when the work is, even if nobody waits for the answer any more.
        let _turn = turn;
        Org::preview(image, new, &events, [from, to], is_truncated)
    });
    let preview = rehearsed.await.map_err(ApiError::internal)??;
    Ok(HttpResponse::Ok().json(preview))
}
