//! Reads of deliveries and their attempts.

use std::collections::HashMap;

use pulse_actors::ports::{DeliveryFilter, DueDelivery, StoreError};
use pulse_domain::record::{DeliveryRecord, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, Delivery};
use pulse_protocol::ids::{ChannelId, DeliveryId, OrgId};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use uuid::Uuid;

use crate::Database;
use crate::entity::{attempt, delivery, event};
use crate::error::failed;
use crate::record::{Record, delivery_view, read_all, read_attempt, read_event};

pub(crate) async fn list(
    store: &Database,
    org_id: OrgId,
    filter: DeliveryFilter,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let mut select = delivery::Entity::find().filter(delivery::Column::OrgId.eq(org_id.uuid()));
    if let Some(state) = filter.state {
        select = select.filter(delivery::Column::State.eq(state.as_str()));
    }
    if let Some(channel_id) = filter.channel_id {
        select = select.filter(delivery::Column::ChannelId.eq(channel_id.uuid()));
    }
    if let Some(before) = filter.before {
        select = select.filter(delivery::Column::Id.lt(before.uuid()));
    }
    let select = select.order_by_desc(delivery::Column::Id).limit(u64::from(limit));
    let rows = select.all(&store.reader()).await.map_err(failed)?;
    let records: Vec<DeliveryRecord> = read_all(rows, &store.sealer)?;
    let mut attempts = attempts(store, org_id, &records).await?;
    let views = records.iter().map(|record| {
        delivery_view(record, attempts.remove(&record.id.uuid()).unwrap_or_default())
    });
    Ok(views.collect())
}

pub(crate) async fn one(
    store: &Database,
    org_id: OrgId,
    delivery_id: DeliveryId,
) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError> {
    let row = delivery::Entity::find_by_id((org_id.uuid(), delivery_id.uuid()));
    let Some(row) = row.one(&store.reader()).await.map_err(failed)? else { return Ok(None) };
    let record = DeliveryRecord::read(row, &store.sealer)?;
    let mut attempts = attempts(store, org_id, std::slice::from_ref(&record)).await?;
    let view = delivery_view(&record, attempts.remove(&delivery_id.uuid()).unwrap_or_default());
    Ok(Some((record, view)))
}

/// The attempts of each delivery, in the order they were made.
async fn attempts(
    store: &Database,
    org_id: OrgId,
    deliveries: &[DeliveryRecord],
) -> Result<HashMap<Uuid, Vec<Attempt>>, StoreError> {
    let mut made: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    if deliveries.is_empty() {
        return Ok(made);
    }
    let rows = attempt::Entity::find()
        .filter(attempt::Column::OrgId.eq(org_id.uuid()))
        .filter(attempt::Column::DeliveryId.is_in(deliveries.iter().map(|one| one.id.uuid())))
        .order_by_asc(attempt::Column::Id)
        .all(&store.reader())
        .await
        .map_err(failed)?;
    for row in rows {
        made.entry(row.delivery_id).or_default().push(read_attempt(row)?);
    }
    Ok(made)
}

/// Unfinished deliveries of a channel whose event is still there, the one that is due first in front.
fn unfinished(org_id: OrgId, channel_id: ChannelId) -> Select<delivery::Entity> {
    // Retention keeps the events of unfinished deliveries; one that is replayed while its event is being
    // pruned has nothing to send, and retention removes it.
    let its_event = Query::select()
        .expr(Expr::val(1))
        .from(event::Entity)
        .and_where(event::Column::OrgId.into_expr().equals(delivery::Column::OrgId))
        .and_where(event::Column::Seq.into_expr().equals(delivery::Column::EventSeq))
        .to_owned();
    delivery::Entity::find()
        .filter(delivery::Column::OrgId.eq(org_id.uuid()))
        .filter(delivery::Column::ChannelId.eq(channel_id.uuid()))
        .filter(delivery::Column::NextAttemptAt.is_not_null())
        .filter(Expr::exists(its_event))
        .order_by_asc(delivery::Column::NextAttemptAt)
        .order_by_asc(delivery::Column::Id)
}

pub(crate) async fn due(
    store: &Database,
    org_id: OrgId,
    channel_id: ChannelId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<DueDelivery>, StoreError> {
    let due = unfinished(org_id, channel_id)
        .filter(delivery::Column::NextAttemptAt.lte(now.unix_ms()))
        .limit(u64::from(limit));
    let rows = due.all(&store.reader()).await.map_err(failed)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let events = event::Entity::find()
        .filter(event::Column::OrgId.eq(org_id.uuid()))
        .filter(event::Column::Seq.is_in(rows.iter().map(|row| row.event_seq)))
        .all(&store.reader())
        .await
        .map_err(failed)?;
    let events: Result<HashMap<u64, JournalEvent>, StoreError> =
        events.into_iter().map(|row| read_event(row).map(|event| (event.seq, event))).collect();
    let events = events?;
    let deliveries: Vec<DeliveryRecord> = read_all(rows, &store.sealer)?;
    let with_event = deliveries.into_iter().filter_map(|delivery| {
        let event = events.get(&delivery.event_seq)?.clone();
        Some(DueDelivery { delivery, event })
    });
    Ok(with_event.collect())
}

pub(crate) async fn next_due_at(
    store: &Database,
    org_id: OrgId,
    channel_id: ChannelId,
) -> Result<Option<Timestamp>, StoreError> {
    let next = unfinished(org_id, channel_id)
        .select_only()
        .column(delivery::Column::NextAttemptAt)
        .into_tuple::<i64>();
    let next = next.one(&store.reader()).await.map_err(failed)?;
    Ok(next.map(Timestamp::from_unix_ms))
}

pub(crate) async fn channels(store: &Database) -> Result<Vec<(OrgId, ChannelId)>, StoreError> {
    let pairs: Vec<(Uuid, Uuid)> = delivery::Entity::find()
        .filter(delivery::Column::NextAttemptAt.is_not_null())
        .select_only()
        .column(delivery::Column::OrgId)
        .column(delivery::Column::ChannelId)
        .distinct()
        .into_tuple()
        .all(&store.reader())
        .await
        .map_err(failed)?;
    let pairs = pairs.into_iter();
    Ok(pairs.map(|(org, channel)| (OrgId::from_uuid(org), ChannelId::from_uuid(channel))).collect())
}
