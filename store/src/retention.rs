//! Deleting what has grown old, in small batches, so that no commit waits long behind one.

use std::time::Duration;

use pulse_actors::ports::StoreError;
use pulse_domain::notification::board::Tracked;
use pulse_protocol::Timestamp;
use pulse_protocol::ids::OrgId;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use crate::Database;
use crate::entity::{alert, api_token, attempt, delivery, event, head, mail, session};
use crate::error::failed;

/// What an alert is still to tell of is kept this much longer: whatever holds it back, a maintenance window lasts 7 days
/// at most, ends within it. An alert that is held back for longer does not stop retention.
const ALERTS_KEEP: Duration = Duration::from_secs(8 * 24 * 3_600);

/// Between two batches: time for commits that wait for the same lock.
const PAUSE: Duration = Duration::from_millis(5);

/// What a run deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Deliveries of such events.
    pub deliveries: u64,
    /// Mails that ended as long ago.
    pub mails: u64,
    /// Sessions that had ended.
    pub sessions: u64,
    /// API tokens that had ended.
    pub tokens: u64,
}

/// Deletes what has grown old.
///
/// An org's journal is only ever shortened from its beginning, so that what is left has no gap. It keeps its
/// newest event, and everything from the first event on that an unfinished delivery, or for a while an alert that is still
/// to be told of, needs.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The database.
    pub database: Database,
    /// How long events are kept, and with them their deliveries; and mails that have ended.
    pub keep_events: Duration,
    /// Rows in one transaction, at least 1.
    pub batch: u32,
}

impl Retention {
    /// Deletes all that is too old at `now`.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`]; what was deleted before stays deleted, and a later run goes on from there.
    pub async fn run_once(&self, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruned = self.prune_logins(now).await.map_err(failed)?;
        let orgs: Vec<Uuid> = head::Entity::find()
            .select_only()
            .column(head::Column::OrgId)
            .into_tuple()
            .all(&self.database.reader())
            .await
            .map_err(failed)?;
        for org in orgs {
            let of_org = self.prune_events(OrgId::from_uuid(org), now - self.keep_events).await?;
            pruned.events += of_org.events;
            pruned.deliveries += of_org.deliveries;
        }
        pruned.mails = self.prune_mails(now - self.keep_events).await?;
        Ok(pruned)
    }

    /// Deletes an org's events from before `older_than`, and their deliveries.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`]; what was deleted before stays deleted.
    pub async fn prune_events(
        &self,
        org_id: OrgId,
        older_than: Timestamp,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        loop {
            let batch = self.prune_batch(org_id.uuid(), older_than).await.map_err(failed)?;
            pruned.events += batch.events;
            pruned.deliveries += batch.deliveries;
            if batch.events == 0 && batch.deliveries == 0 {
                return Ok(pruned);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn prune_batch(&self, org: Uuid, older_than: Timestamp) -> Result<Pruned, DbErr> {
        let batch = u64::from(self.batch.max(1));
        let transaction = self.database.begin_write().await?;
        let boundary = boundary(&transaction, org, older_than, batch).await?;
        let events = event::Entity::delete_many()
            .filter(event::Column::OrgId.eq(org))
            .filter(event::Column::Seq.lte(boundary))
            .exec(&transaction)
            .await?
            .rows_affected;
        let deliveries = prune_deliveries(&transaction, org, batch).await?;
        transaction.commit().await?;
        Ok(Pruned { events, deliveries, ..Pruned::default() })
    }

    /// Deletes mails that ended before `older_than`, with their attempts.
    async fn prune_mails(&self, older_than: Timestamp) -> Result<u64, StoreError> {
        let batch = u64::from(self.batch.max(1));
        let mut pruned = 0;
        loop {
            let deleted = self.prune_mail_batch(older_than, batch).await.map_err(failed)?;
            pruned += deleted;
            if deleted < batch {
                return Ok(pruned);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn prune_mail_batch(&self, older_than: Timestamp, batch: u64) -> Result<u64, DbErr> {
        let transaction = self.database.begin_write().await?;
        let old: Vec<(Uuid, Uuid)> = mail::Entity::find()
            .filter(mail::Column::EndedAt.lt(older_than.unix_ms()))
            .order_by_asc(mail::Column::EndedAt)
            .limit(batch)
            .select_only()
            .column(mail::Column::OrgId)
            .column(mail::Column::Id)
            .into_tuple()
            .all(&transaction)
            .await?;
        for (org, id) in &old {
            attempt::Entity::delete_many()
                .filter(attempt::Column::OrgId.eq(*org))
                .filter(attempt::Column::DeliveryId.eq(*id))
                .exec(&transaction)
                .await?;
            mail::Entity::delete_by_id((*org, *id)).exec(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(old.len() as u64)
    }

    async fn prune_logins(&self, now: Timestamp) -> Result<Pruned, DbErr> {
        let sessions = session::Entity::delete_many()
            .filter(session::Column::ExpiresAt.lte(now.unix_ms()))
            .exec(&self.database.writer())
            .await?
            .rows_affected;
        let tokens = api_token::Entity::delete_many()
            .filter(api_token::Column::ExpiresAt.lte(now.unix_ms()))
            .exec(&self.database.writer())
            .await?
            .rows_affected;
        Ok(Pruned { sessions, tokens, ..Pruned::default() })
    }
}

/// The last number to delete now; 0 for none. At most `batch` events lie before it.
async fn boundary(
    transaction: &DatabaseTransaction,
    org: Uuid,
    older_than: Timestamp,
    batch: u64,
) -> Result<i64, DbErr> {
    let oldest: Vec<(i64, i64)> = event::Entity::find()
        .filter(event::Column::OrgId.eq(org))
        .order_by_asc(event::Column::Seq)
        .limit(batch)
        .select_only()
        .column(event::Column::Seq)
        .column(event::Column::At)
        .into_tuple()
        .all(transaction)
        .await?;
    let old = oldest.iter().take_while(|(_, at)| *at < older_than.unix_ms());
    let Some((last, _)) = old.last() else { return Ok(0) };
    let newest: Option<i64> = event::Entity::find()
        .filter(event::Column::OrgId.eq(org))
        .select_only()
        .column_as(event::Column::Seq.max(), "newest")
        .into_tuple()
        .one(transaction)
        .await?;
    let needed: Option<Option<i64>> = delivery::Entity::find()
        .filter(delivery::Column::OrgId.eq(org))
        .filter(delivery::Column::NextAttemptAt.is_not_null())
        .select_only()
        .column_as(delivery::Column::EventSeq.min(), "needed")
        .into_tuple()
        .one(transaction)
        .await?;
    let alerts = needed_by_alerts(transaction, org, older_than - ALERTS_KEEP).await?;
    let kept_from = newest.into_iter().chain(needed.flatten()).chain(alerts).min();
    Ok((*last).min(kept_from.unwrap_or(i64::MAX) - 1))
}

/// The oldest event, not older than `not_before`, that an alert is still to tell of.
async fn needed_by_alerts(
    transaction: &DatabaseTransaction,
    org: Uuid,
    not_before: Timestamp,
) -> Result<Option<i64>, DbErr> {
    let first: Option<Option<i64>> = event::Entity::find()
        .filter(event::Column::OrgId.eq(org))
        .filter(event::Column::At.gte(not_before.unix_ms()))
        .select_only()
        .column_as(event::Column::Seq.min(), "first")
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(first) = first.flatten() else { return Ok(None) };
    let waiting: Vec<String> = alert::Entity::find()
        .filter(alert::Column::OrgId.eq(org))
        .filter(alert::Column::DueAt.is_not_null())
        .select_only()
        .column(alert::Column::State)
        .into_tuple()
        .all(transaction)
        .await?;
    let mut needed = None;
    for state in waiting {
        // A row that cannot be read must not lose what it needs: nothing is deleted then.
        let state: Tracked =
            serde_json::from_str(&state).map_err(|error| DbErr::Type(error.to_string()))?;
        let seq = state.needed_seq().and_then(|seq| i64::try_from(seq).ok());
        needed = needed.into_iter().chain(seq.filter(|seq| *seq >= first)).min();
    }
    Ok(needed)
}

/// Deletes deliveries whose event is gone, with their attempts; at most `batch`.
async fn prune_deliveries(
    transaction: &DatabaseTransaction,
    org: Uuid,
    batch: u64,
) -> Result<u64, DbErr> {
    let oldest: Option<Option<i64>> = event::Entity::find()
        .filter(event::Column::OrgId.eq(org))
        .select_only()
        .column_as(event::Column::Seq.min(), "oldest")
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(oldest) = oldest.flatten() else { return Ok(0) };
    // Deliveries are about as old as their ids say, so those of old events are among the first.
    let first: Vec<(Uuid, i64)> = delivery::Entity::find()
        .filter(delivery::Column::OrgId.eq(org))
        .order_by_asc(delivery::Column::Id)
        .limit(batch)
        .select_only()
        .column(delivery::Column::Id)
        .column(delivery::Column::EventSeq)
        .into_tuple()
        .all(transaction)
        .await?;
    let gone: Vec<Uuid> =
        first.into_iter().filter(|(_, seq)| *seq < oldest).map(|(id, _)| id).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    attempt::Entity::delete_many()
        .filter(attempt::Column::OrgId.eq(org))
        .filter(attempt::Column::DeliveryId.is_in(gone.iter().copied()))
        .exec(transaction)
        .await?;
    let deleted = delivery::Entity::delete_many()
        .filter(delivery::Column::OrgId.eq(org))
        .filter(delivery::Column::Id.is_in(gone))
        .exec(transaction)
        .await?;
    Ok(deleted.rows_affected)
}
