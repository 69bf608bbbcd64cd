//! Deliveries: what was told to whom.

use actix_web::HttpResponse;
use pulse_actors::ports::DeliveryFilter;
use pulse_domain::record::DeliveryRecord;
use pulse_domain::request::{Refusal, Reply, Request};
use pulse_protocol::api::{Delivery, DeliveryState};
use pulse_protocol::ids::DeliveryId;

use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageChannels, Right, Tenant, View};

/// `GET …/deliveries?state=&channel=`: newest first.
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    let words: Vec<_> = DeliveryState::ALL.iter().map(|state| state.as_str()).collect();
    let state =
        params.read("state", &format!("one of {}", words.join(", ")), DeliveryState::from_word);
    let channel_id = params.read("channel", "the id of a channel", |text| text.parse().ok());
    params.finish()?;
    let filter = DeliveryFilter { state, channel_id, before: paging.after };
    let limit = u32::try_from(paging.probe()).unwrap_or(u32::MAX);
    let deliveries = tenant.state().store.deliveries(tenant.org.id, filter, limit).await?;
    Ok(HttpResponse::Ok().json(paging.page(deliveries, |delivery| delivery.id)))
}

/// `GET …/deliveries/{delivery_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let (_, delivery) = stored(&tenant).await?;
    Ok(HttpResponse::Ok().json(delivery))
}

/// `POST …/deliveries/{delivery_id}/replay`
pub(crate) async fn replay(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    change(&tenant, Request::ReplayDelivery).await
}

/// `POST …/deliveries/{delivery_id}/discard`
pub(crate) async fn discard(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    change(&tenant, Request::DiscardDelivery).await
}

async fn change(
    tenant: &Tenant<ManageChannels>,
    request: fn(DeliveryRecord) -> Request,
) -> Result<HttpResponse, ApiError> {
    let (record, _) = stored(tenant).await?;
    let Reply::Delivery(_) = tenant.request(request(record)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    let (_, changed) = stored(tenant).await?;
    Ok(HttpResponse::Ok().json(changed))
}

async fn stored<R: Right>(tenant: &Tenant<R>) -> Result<(DeliveryRecord, Delivery), ApiError> {
    let delivery_id: DeliveryId = tenant.id("delivery_id", "delivery")?;
    let found = tenant.state().store.delivery(tenant.org.id, delivery_id).await?;
    found.ok_or_else(|| Refusal::NotFound { what: "delivery".into() }.into())
}
