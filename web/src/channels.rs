//! Notification channels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::{ChannelRecord, Content, Hidden, JournalEvent};
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{
    AttemptOutcome, Channel, ChannelCreated, ChannelKind, ChannelPatch, DeliveryState, NewChannel,
    Reason,
};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId};
use pulse_protocol::problem::{ProblemCode, ReceiverAnswer};
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
/// A person waits for the answer. Senders are bounded by themselves, below this.
const TEST_WITHIN: Duration = Duration::from_secs(30);

/// How far back a channel's deliveries are counted.
const COUNTED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How a channel's deliveries of late are.
#[derive(Serialize)]
struct Stats {
    since: Timestamp,
    deliveries: BTreeMap<DeliveryState, u64>,
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

/// `GET …/channels/{channel_id}/stats`: how many deliveries of the last 7 days are in each state.
pub(crate) async fn stats(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let channel = current(&tenant).await?;
    let since = tenant.state().clock.now() - COUNTED;
    let counts = tenant.state().store.delivery_counts(tenant.org.id, channel.id, since).await?;
    let deliveries = counts.into_iter().collect();
    Ok(HttpResponse::Ok().json(Stats { since, deliveries }))
}

/// `POST …/channels/{channel_id}/test`: sends one signed message now, and answers the receiver's verdict.
pub(crate) async fn test(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    let (state, org_id) = (tenant.state(), tenant.org.id);
    let channel = stored(&tenant).await?;
    state.limits.admit_channel_test(org_id).map_err(|wait| {
        let detail = "too many test messages of this organisation; wait a little";
        ApiError::new(ProblemCode::RateLimited, detail).retry_after(wait)
    })?;
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
    let sent = state.sender.send(&channel, &message);
    let verdict = tokio::time::timeout(TEST_WITHIN, sent).await.unwrap_or_else(|_| {
        Verdict::retry(None, format!("no answer within {} seconds", TEST_WITHIN.as_secs()))
    });
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let Verdict { outcome, status, answer, error, .. } = verdict;
    let told = ReceiverAnswer { outcome, status, answer, duration_ms };
    if outcome == AttemptOutcome::Accepted {
        return Ok(HttpResponse::Ok().json(told));
    }
    let why = error.unwrap_or_default();
    let detail = format!("the receiver did not accept the message: {why}");
    Err(ApiError::new(ProblemCode::DeliveryFailed, detail).receiver(told))
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
