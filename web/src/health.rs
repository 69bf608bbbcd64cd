//! Whether the hub lives, and whether it may take traffic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde_json::json;
use tokio::time::timeout;

use crate::WebState;
use crate::error::ApiError;

/// How long the database may take to answer; a load balancer rarely waits longer itself.
const PING_MAX: Duration = Duration::from_secs(1);

/// `GET /healthz`
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`
pub(crate) async fn ready(state: web::Data<WebState>) -> Result<HttpResponse, ApiError> {
    if !state.ready.load(Ordering::Acquire) {
        return Err(ApiError::unavailable().caused_by("the hub is starting or draining"));
    }
    match timeout(PING_MAX, state.store.ping()).await {
        Ok(Ok(())) => Ok(HttpResponse::Ok().json(json!({ "status": "ready" }))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::unavailable().caused_by("the database did not answer within 1 s")),
    }
}
