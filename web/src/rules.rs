//! Notification rules.

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{NewRule, RulePatch};
use pulse_protocol::ids::RuleId;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageChannels, Right, Tenant, View};

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
