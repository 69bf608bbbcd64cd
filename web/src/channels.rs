//! Notification channels.

use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::{ChannelRecord, Content, Hidden, JournalEvent};
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::api::{
    AttemptOutcome, Channel, ChannelCreated, ChannelKind, ChannelPatch, NewChannel, Reason,
};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId};
use pulse_protocol::problem::ProblemCode;
use serde::Serialize;
use serde_json::json;

use crate::body::Body;
use crate::error::ApiError;
use crate::outbound::kind::Checked;
use crate::paging::Paging;
use crate::secrets::new_webhook_secret;
use crate::tenant::{ManageChannels, Right, Tenant, View};

/// The name in a test message; no rule can ask for it.
const TEST_EVENT: &str = "channel.test";

/// The answer to an accepted test message.
#[derive(Serialize)]
struct Tested {
    outcome: AttemptOutcome,
    status: Option<u16>,
    answer: Option<String>,
    duration_ms: u64,
}

/// `GET …/channels`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Channels { after: paging.after, limit: paging.probe() };
    let Reply::Channels(channels) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(channels, |channel| channel.id)))
}

/// `POST …/channels`: the only answer that shows the signing secret.
pub(crate) async fn create(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let mut new: NewChannel = body.json().await?;
    let kinds = &tenant.state().kinds;
    let Checked { shown, whole } =
        kinds.check(new.kind, &new.config, None).map_err(ApiError::invalid)?;
    new.config = shown;
    let secret = (new.kind == ChannelKind::Webhook).then(new_webhook_secret);
    let hidden = Hidden { signing: secret.clone().into_iter().collect(), config: whole };
    let request = Request::AddChannel { channel_id: ChannelId::new(), new, hidden };
    let channel = changed(&tenant, request).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, tenant.location("channels", channel.id)))
        .json(ChannelCreated { channel, secret }))
}

/// `GET …/channels/{channel_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(current(&tenant).await?))
}

/// `PATCH …/channels/{channel_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let channel_id = channel_id(&tenant)?;
    let mut patch: ChannelPatch = body.json().await?;
    let mut hidden_config = None;
    if let Some(config) = &patch.config {
        let stored = stored(&tenant).await?;
        let kinds = &tenant.state().kinds;
        let Checked { shown, whole } = kinds
            .check(stored.kind, config, Some(&stored.hidden.config))
            .map_err(ApiError::invalid)?;
        (patch.config, hidden_config) = (Some(shown), Some(whole));
    }
    let request = Request::PatchChannel { channel_id, patch, hidden_config };
    let channel = changed(&tenant, request).await?;
    Ok(HttpResponse::Ok().json(channel))
}

/// `DELETE …/channels/{channel_id}`
pub(crate) async fn remove(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let Reply::Removed = tenant.request(Request::RemoveChannel(channel_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::NoContent().finish())
}

/// `POST …/channels/{channel_id}/enable`
pub(crate) async fn enable(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let channel = changed(&tenant, Request::EnableChannel(channel_id(&tenant)?)).await?;
    Ok(HttpResponse::Ok().json(channel))
}

/// `POST …/channels/{channel_id}/rotate-secret`: the only answer that shows the new secret.
pub(crate) async fn rotate_secret(
    tenant: Tenant<ManageChannels>,
) -> Result<HttpResponse, ApiError> {
    let secret = new_webhook_secret();
    let request = Request::ReplaceSecret(channel_id(&tenant)?, secret.clone());
    let channel = changed(&tenant, request).await?;
    Ok(HttpResponse::Ok().json(ChannelCreated { channel, secret: Some(secret) }))
}

/// `POST …/channels/{channel_id}/test`: sends one signed message now, and answers the receiver's verdict.
pub(crate) async fn test(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let (state, org_id) = (tenant.state(), tenant.org.id);
    let channel = stored(&tenant).await?;
    let at = state.clock.now();
    let data = json!({ "channel_id": channel.id, "name": channel.name }).to_string();
    let event =
        JournalEvent { seq: 0, id: EventId::new(), name: TEST_EVENT.into(), at, data: data.into() };
    let content = Content {
        org_name: tenant.org.name.clone(),
        ..Content::about(Reason::Event, channel.name.clone())
    };
    let message = Message { org_id, delivery_id: DeliveryId::new(), event, content, at };

    let started = Instant::now();
    let verdict = state.sender.send(&channel, &message).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Verdict { outcome, status, answer, error, .. } = verdict;
    if outcome == AttemptOutcome::Accepted {
        return Ok(HttpResponse::Ok().json(Tested { outcome, status, answer, duration_ms }));
    }
    let why = error.unwrap_or_default();
    Err(ApiError::new(
        ProblemCode::DeliveryFailed,
        format!("the receiver did not accept the message: {why}"),
    ))
}

async fn current<R: Right>(tenant: &Tenant<R>) -> Result<Channel, ApiError> {
    let Reply::Channel(channel) = tenant.read(Query::Channel(channel_id(tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(*channel)
}

async fn changed(tenant: &Tenant<ManageChannels>, request: Request) -> Result<Channel, ApiError> {
    let Reply::Channel(channel) = tenant.request(request).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(*channel)
}

/// The channel with what of it is not shown.
async fn stored<R: Right>(tenant: &Tenant<R>) -> Result<ChannelRecord, ApiError> {
    let channel = tenant.state().store.channel(tenant.org.id, channel_id(tenant)?).await?;
    channel.ok_or_else(|| Refusal::NotFound { what: "channel".into() }.into())
}

fn channel_id<R: Right>(tenant: &Tenant<R>) -> Result<ChannelId, ApiError> {
    tenant.id("channel_id", "channel")
}
