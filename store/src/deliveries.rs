//! Reads of deliveries and their attempts.

use std::collections::{BTreeSet, HashMap, HashSet};

use pulse_actors::ports::{DeliveryFilter, DueDelivery, DuePage, StoreError};
use pulse_domain::record::{DeliveryRecord, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, Delivery, DeliveryState};
use pulse_protocol::ids::{ChannelId, DeliveryId, OrgId};
use sea_orm::sea_query::{Expr, ExprTrait, LikeExpr, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select, Value};
use uuid::Uuid;

use crate::entity::{attempt, delivery, event};
use crate::error::failed;
use crate::record::{Record, delivery_view, number, read_all, read_attempt, read_event, word};
use crate::{Database, DatabaseKind};

pub(crate) async fn list(
    store: &Database,
    org_id: OrgId,
    filter: DeliveryFilter,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let select = matching(store.kind(), org_id, filter);
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

fn matching(kind: DatabaseKind, org_id: OrgId, filter: DeliveryFilter) -> Select<delivery::Entity> {
    use delivery::Column;
    let eq = |column: Column, value: Option<Value>| value.map(|value| column.eq(value));
    let conditions = [
        eq(Column::State, filter.state.map(|state| state.as_str().into())),
        eq(Column::ChannelId, filter.channel_id.map(|id| id.uuid().into())),
        eq(Column::RuleId, filter.rule_id.map(|id| id.uuid().into())),
        eq(Column::EventName, filter.event.map(Into::into)),
        eq(Column::Resource, filter.resource.map(Into::into)),
        filter.from.map(|from| Column::CreatedAt.gte(from.unix_ms())),
        filter.to.map(|to| Column::CreatedAt.lt(to.unix_ms())),
        filter.text.map(|text| contains(kind, &text)),
        filter.before.map(|before| Column::Id.lt(before.uuid())),
    ];
    let of_org = delivery::Entity::find().filter(Column::OrgId.eq(org_id.uuid()));
    conditions.into_iter().flatten().fold(of_org, |select, condition| select.filter(condition))
}

/// Whether the recipient or the name of the resource contains `text`, whatever its case.
fn contains(kind: DatabaseKind, text: &str) -> Expr {
    let mut pattern = String::from("%");
    for character in text.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    let like = |field: &str| {
        let value = match kind {
            DatabaseKind::Sqlite => format!("json_extract(content, '$.{field}')"),
            DatabaseKind::Postgres => format!("content::jsonb->>'{field}'"),
        };
        Expr::cust(format!("LOWER({value})")).like(LikeExpr::new(pattern.clone()).escape('\\'))
    };
    like("recipient").or(like("resource_name"))
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

/// Unfinished deliveries of a channel whose event is still there.
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
}

/// How many rows of the same resources are read for each one that is due.
const MATES_EACH: u64 = 4;

pub(crate) async fn due(
    store: &Database,
    org_id: OrgId,
    channel_id: ChannelId,
    now: Timestamp,
    limit: u32,
) -> Result<DuePage, StoreError> {
    let limit = u64::from(limit);
    let waiting = unfinished(org_id, channel_id)
        .order_by_asc(delivery::Column::NextAttemptAt)
        .order_by_asc(delivery::Column::Id)
        .limit(limit + 1);
    let mut rows = waiting.all(&store.reader()).await.map_err(failed)?;
    let is_due = |row: &&delivery::Model| row.next_attempt_at <= Some(now.unix_ms());
    let due = rows.iter().take(limit as usize).take_while(is_due).count();
    let mut next_at = rows.get(due).and_then(|row| row.next_attempt_at);
    rows.truncate(due);
    if let Some(through) =
        add_mates(store, org_id, channel_id, &mut rows, limit * MATES_EACH).await?
    {
        // There may be older ones of their resources that were not read: these come with the next page.
        let (told, left): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| (row.event_seq, row.id) <= through);
        let left_at = left.iter().filter_map(|row| row.next_attempt_at).min();
        next_at = next_at.into_iter().chain(left_at).min();
        rows = told;
    }
    let deliveries = with_events(store, org_id, rows).await?;
    Ok(DuePage { deliveries, next_at: next_at.map(Timestamp::from_unix_ms) })
}

/// Adds whatever else waits of the resources in `rows`, oldest first. If there is more than `limit`, says up to where
/// it was read.
async fn add_mates(
    store: &Database,
    org_id: OrgId,
    channel_id: ChannelId,
    rows: &mut Vec<delivery::Model>,
    limit: u64,
) -> Result<Option<(i64, Uuid)>, StoreError> {
    let resources: BTreeSet<_> =
        rows.iter().map(|row| row.resource.clone()).filter(|it| !it.is_empty()).collect();
    if resources.is_empty() {
        return Ok(None);
    }
    let mates = unfinished(org_id, channel_id)
        .filter(delivery::Column::Resource.is_in(resources))
        .order_by_asc(delivery::Column::EventSeq)
        .order_by_asc(delivery::Column::Id)
        .limit(limit);
    let mates = mates.all(&store.reader()).await.map_err(failed)?;
    let is_full = mates.len() as u64 >= limit;
    let through = mates.last().filter(|_| is_full).map(|row| (row.event_seq, row.id));
    let known: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
    rows.extend(mates.into_iter().filter(|row| !known.contains(&row.id)));
    Ok(through)
}

async fn with_events(
    store: &Database,
    org_id: OrgId,
    rows: Vec<delivery::Model>,
) -> Result<Vec<DueDelivery>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: BTreeSet<i64> = rows.iter().map(|row| row.event_seq).collect();
    let events = event::Entity::find()
        .filter(event::Column::OrgId.eq(org_id.uuid()))
        .filter(event::Column::Seq.is_in(numbers))
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

pub(crate) async fn counts(
    store: &Database,
    org_id: OrgId,
    channel_id: ChannelId,
    since: Timestamp,
) -> Result<Vec<(DeliveryState, u64)>, StoreError> {
    let rows: Vec<(String, i64)> = delivery::Entity::find()
        .filter(delivery::Column::OrgId.eq(org_id.uuid()))
        .filter(delivery::Column::ChannelId.eq(channel_id.uuid()))
        .filter(delivery::Column::CreatedAt.gte(since.unix_ms()))
        .select_only()
        .column(delivery::Column::State)
        .column_as(delivery::Column::Id.count(), "count")
        .group_by(delivery::Column::State)
        .into_tuple()
        .all(&store.reader())
        .await
        .map_err(failed)?;
    let read = |(state, count): (String, i64)| {
        Ok((word(DeliveryState::from_word, &state, "delivery")?, number(count, "delivery count")?))
    };
    rows.into_iter().map(read).collect()
}

pub(crate) async fn oldest_unfinished(store: &Database) -> Result<Option<Timestamp>, StoreError> {
    let oldest: Option<Option<i64>> = delivery::Entity::find()
        .filter(delivery::Column::NextAttemptAt.is_not_null())
        .select_only()
        .column_as(delivery::Column::CreatedAt.min(), "oldest")
        .into_tuple()
        .one(&store.reader())
        .await
        .map_err(failed)?;
    Ok(oldest.flatten().map(Timestamp::from_unix_ms))
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
