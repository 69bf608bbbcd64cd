//! The journal.

use std::ops::RangeInclusive;

use actix_web::HttpResponse;
use pulse_domain::record::JournalEvent;
use pulse_protocol::api::Page;
use pulse_protocol::event::Event;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::tenant::{Tenant, View};

/// Events on one page.
const LIMITS: RangeInclusive<usize> = 1..=1_000;

/// `GET …/events?after=&limit=`: in order of `seq`. The cursor is the last number of the page, so that
/// `cursor` and `after` mean the same.
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let limit = params.limit(&LIMITS);
    let [cursor, after] = ["cursor", "after"].map(|name| {
        params.read(name, "the number of an event, or 0", |text| {
            // A number beyond the table's largest stands for the end as well as any.
            text.parse::<u64>().ok().filter(|seq| i64::try_from(*seq).is_ok())
        })
    });
    params.finish()?;
    let after = cursor.or(after).unwrap_or(0);
    let probe = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut found = tenant.state().store.events_after(tenant.org.id, after, probe).await?;
    let is_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| is_more).map(|event| event.seq.to_string());
    let items = found.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

fn shown(event: JournalEvent) -> Result<Event, ApiError> {
    let JournalEvent { seq, id, name, at, data } = event;
    let data = RawValue::from_string(data.to_string()).map_err(ApiError::internal)?;
    Ok(Event { seq, id, event: name.to_string(), at, data })
}
