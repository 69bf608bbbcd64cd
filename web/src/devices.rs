//! Devices and their checks.

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{DevicePatch, NewDevice};
use pulse_protocol::ids::DeviceId;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageDevices, Right, Tenant, View};

/// `GET …/devices`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Devices { after: paging.after, limit: paging.probe() };
    let Reply::Devices(devices) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(devices, |device| device.id)))
}

/// `POST …/devices`
pub(crate) async fn create(
    tenant: Tenant<ManageDevices>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let new: NewDevice = body.json().await?;
    let Reply::Device(device) = tenant.request(Request::AddDevice(DeviceId::new(), new)).await?
    else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, tenant.location("devices", device.id)))
        .json(device))
}

/// `GET …/devices/{device_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let Reply::Device(device) = tenant.read(Query::Device(device_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(device))
}

/// `PATCH …/devices/{device_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageDevices>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let device_id = device_id(&tenant)?;
    let patch: DevicePatch = body.json().await?;
    let Reply::Device(device) = tenant.request(Request::PatchDevice(device_id, patch)).await?
    else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(device))
}

/// `DELETE …/devices/{device_id}`
pub(crate) async fn remove(tenant: Tenant<ManageDevices>) -> Result<HttpResponse, ApiError> {
    let Reply::Removed = tenant.request(Request::RemoveDevice(device_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::NoContent().finish())
}

fn device_id<R: Right>(tenant: &Tenant<R>) -> Result<DeviceId, ApiError> {
    tenant.id("device_id", "device")
}
