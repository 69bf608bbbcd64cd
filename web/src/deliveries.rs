//! Deliveries: what was told to whom.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use futures_util::stream::{self, StreamExt};
use pulse_actors::directory::AskError;
use pulse_actors::ports::DeliveryFilter;
use pulse_domain::record::DeliveryRecord;
use pulse_domain::request::{DeliveryChange, Refusal, Reply, Request};
use pulse_protocol::api::{Delivery, DeliveryState, ReplayFilter, Replayed};
use pulse_protocol::ids::{ChannelId, DeliveryId};
use pulse_protocol::problem::FieldError;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::{Paging, Params};
use crate::tenant::{ManageChannels, Right, Tenant, View};

/// Deliveries replayed by one request.
const REPLAY_MAX: usize = 1_000;
/// Deliveries read at a time.
const REPLAY_PAGE: usize = 250;
/// Deliveries replayed at the same time.
const REPLAY_CONCURRENCY: usize = 8;
/// A person waits for the answer: what is left then is told as `more`.
const REPLAY_WITHIN: Duration = Duration::from_secs(20);
/// States in which a delivery did not reach its receiver and nothing more happens by itself.
const REPLAYABLE: [DeliveryState; 4] = [
    DeliveryState::Dead,
    DeliveryState::Discarded,
    DeliveryState::Superseded,
    DeliveryState::Suppressed,
];
/// Characters of a free text.
const TEXT_MAX: usize = 200;

/// `GET …/deliveries?state=&channel=&rule=&event=&resource=&from=&to=&q=`: newest first.
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    let filter = DeliveryFilter { before: paging.after, ..read_filter(&mut params) };
    params.finish()?;
    let limit = u32::try_from(paging.probe()).unwrap_or(u32::MAX);
    let deliveries = tenant.state().store.deliveries(tenant.org.id, filter, limit).await?;
    Ok(HttpResponse::Ok().json(paging.page(deliveries, |delivery| delivery.id)))
}

fn read_filter(params: &mut Params) -> DeliveryFilter {
    let words: Vec<_> = DeliveryState::ALL.iter().map(|state| state.as_str()).collect();
    let states = format!("one of {}", words.join(", "));
    let text = |text: &str| (1..=TEXT_MAX).contains(&text.chars().count()).then(|| text.to_owned());
    let text_form = "1 to 200 characters";
    let time_form = "an RFC 3339 time";
    DeliveryFilter {
        state: params.read("state", &states, DeliveryState::from_word),
        channel_id: params.read("channel", "the id of a channel", |text| text.parse().ok()),
        rule_id: params.read("rule", "the id of a rule", |text| text.parse().ok()),
        event: params.read("event", text_form, text),
        resource: params.read("resource", text_form, text),
        from: params.read("from", time_form, |text| text.parse().ok()),
        to: params.read("to", time_form, |text| text.parse().ok()),
        text: params.read("q", text_form, text),
        before: None,
    }
}

/// `GET …/deliveries/{delivery_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let (_, delivery) = stored(&tenant).await?;
    Ok(HttpResponse::Ok().json(delivery))
}

/// `POST …/deliveries/{delivery_id}/replay`
pub(crate) async fn replay(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    change(&tenant, DeliveryChange::Replay).await
}

/// `POST …/deliveries/{delivery_id}/discard`
pub(crate) async fn discard(tenant: Tenant<ManageChannels>) -> Result<HttpResponse, ApiError> {
    change(&tenant, DeliveryChange::Discard).await
}

/// `POST …/deliveries/replay`: all that a filter names, up to 1,000.
pub(crate) async fn replay_all(
    tenant: Tenant<ManageChannels>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let filter = replayable(body.json().await?)?;
    let started = Instant::now();
    let mut done = Replayed { more: true, ..Replayed::default() };
    let mut before = None;
    for _ in 0..REPLAY_MAX / REPLAY_PAGE {
        let filter = DeliveryFilter { before, ..filter.clone() };
        let probe = u32::try_from(REPLAY_PAGE + 1).unwrap_or(u32::MAX);
        let mut page = tenant.state().store.deliveries(tenant.org.id, filter, probe).await?;
        done.more = page.len() > REPLAY_PAGE;
        page.truncate(REPLAY_PAGE);
        before = page.last().map(|delivery| delivery.id);
        let page: Vec<_> = page.into_iter().map(|one| (one.id, one.channel_id)).collect();
        let told = replay_page(&tenant, page).await?;
        done.replayed += told.replayed;
        done.skipped += told.skipped;
        done.more |= told.more;
        // Who could not answer now will not a moment later either.
        if told.more || !done.more || started.elapsed() > REPLAY_WITHIN {
            break;
        }
    }
    Ok(HttpResponse::Ok().json(done))
}

fn replayable(wanted: ReplayFilter) -> Result<DeliveryFilter, ApiError> {
    let state = wanted.state.unwrap_or(DeliveryState::Dead);
    if !REPLAYABLE.contains(&state) {
        let message = "one of dead, discarded, superseded, suppressed";
        return Err(ApiError::invalid(vec![FieldError::new("state", "invalid", message)]));
    }
    Ok(DeliveryFilter {
        state: Some(state),
        channel_id: wanted.channel,
        event: wanted.event,
        from: wanted.from,
        to: wanted.to,
        ..DeliveryFilter::default()
    })
}

/// How many were replayed, how many left alone, and whether some of those are to be asked for again.
async fn replay_page(
    tenant: &Tenant<ManageChannels>,
    page: Vec<(DeliveryId, ChannelId)>,
) -> Result<Replayed, ApiError> {
    let (directory, org_id) = (&tenant.state().directory, tenant.org.id);
    let mut answers = stream::iter(page)
        .map(|(delivery_id, channel_id)| {
            directory.request(org_id, Request::ReplayDelivery { delivery_id, channel_id })
        })
        .buffer_unordered(REPLAY_CONCURRENCY);
    let mut told = Replayed::default();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => told.replayed += 1,
            Err(AskError::Refused(Refusal::Conflict { .. } | Refusal::NotFound { .. })) => {
                told.skipped += 1;
            }
            // What was replayed before it must be told all the same.
            Err(AskError::Unavailable) => {
                told.skipped += 1;
                told.more = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(told)
}

async fn change(
    tenant: &Tenant<ManageChannels>,
    change: DeliveryChange,
) -> Result<HttpResponse, ApiError> {
    let (DeliveryRecord { id: delivery_id, channel_id, .. }, _) = stored(tenant).await?;
    let request = match change {
        DeliveryChange::Replay => Request::ReplayDelivery { delivery_id, channel_id },
        DeliveryChange::Discard => Request::DiscardDelivery { delivery_id, channel_id },
    };
    let Reply::Delivery(_) = tenant.request(request).await? else {
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

#[cfg(test)]
mod tests {
    use pulse_protocol::problem::ProblemCode;

    use super::*;

    #[test]
    fn only_what_ended_without_reaching_its_receiver_is_replayed_by_filter() {
        let refused = |state| {
            let filter = ReplayFilter { state, ..ReplayFilter::default() };
            replayable(filter).err().map(|error| error.code())
        };
        assert_eq!(refused(None), None, "dead by default");
        for state in ["dead", "discarded", "superseded", "suppressed"] {
            assert_eq!(refused(DeliveryState::from_word(state)), None, "{state}");
        }
        for state in ["queued", "retrying", "delivered"] {
            let state = DeliveryState::from_word(state);
            assert!(state.is_some());
            assert_eq!(refused(state), Some(ProblemCode::ValidationFailed), "{state:?}");
        }
    }
}
