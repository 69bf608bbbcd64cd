//! Maintenance windows.

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{MaintenanceWindowPatch, NewMaintenanceWindow};
use pulse_protocol::ids::WindowId;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageChannels, Right, Tenant, View};

/// `GET …/maintenance-windows`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let at = tenant.state().clock.now();
    let query = Query::Windows { at, after: paging.after, limit: paging.probe() };
    let Reply::Windows(windows) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(windows, |window| window.id)))
}

/// `POST …/maintenance-windows`
pub(crate) async fn create(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let new: NewMaintenanceWindow = body.json().await?;
    let Reply::Window(window) = tenant.request(Request::AddWindow(WindowId::new(), new)).await?
    else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, tenant.location("maintenance-windows", window.id)))
        .json(window))
}

/// `GET …/maintenance-windows/{window_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let query = Query::Window(window_id(&tenant)?, tenant.state().clock.now());
    let Reply::Window(window) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(window))
}

/// `PATCH …/maintenance-windows/{window_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let window_id = window_id(&tenant)?;
    let patch: MaintenanceWindowPatch = body.json().await?;
    let Reply::Window(window) = tenant.request(Request::PatchWindow(window_id, patch)).await?
    else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(window))
}

/// `DELETE …/maintenance-windows/{window_id}`
pub(crate) async fn remove(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let Reply::Removed = tenant.request(Request::RemoveWindow(window_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::NoContent().finish())
}

fn window_id<R: Right>(tenant: &Tenant<R>) -> Result<WindowId, ApiError> {
    tenant.id("window_id", "maintenance window")
}
