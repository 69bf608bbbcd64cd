//! Alerts: what is wrong now, as the rules see it.

use actix_web::HttpResponse;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::AlertState;
use pulse_protocol::ids::AlertId;

use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{AcknowledgeAlerts, Right, Tenant, View};

/// `GET …/alerts?state=`: oldest first.
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    let words: Vec<_> = AlertState::ALL.iter().map(|state| state.as_str()).collect();
    let form = format!("one of {}", words.join(", "));
    let state = params.read("state", &form, AlertState::from_word);
    params.finish()?;
    let query = Query::Alerts { state, after: paging.after, limit: paging.probe() };
    let Reply::Alerts(alerts) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(alerts, |alert| alert.id)))
}

/// `GET …/alerts/{alert_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let Reply::Alert(alert) = tenant.read(Query::Alert(alert_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(alert))
}

/// `POST …/alerts/{alert_id}/acknowledge`: again is as good as once.
pub(crate) async fn acknowledge(
    tenant: Tenant<AcknowledgeAlerts>,
) -> Result<HttpResponse, ApiError> {
    let (alert_id, by) = (alert_id(&tenant)?, tenant.principal.user.email.clone());
    let request = Request::AcknowledgeAlert { alert_id, by };
    let Reply::Alert(alert) = tenant.request(request).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(alert))
}

fn alert_id<R: Right>(tenant: &Tenant<R>) -> Result<AlertId, ApiError> {
    tenant.id("alert_id", "alert")
}
