//! The rows of all mails, as the mailer and the edge see them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use pulse_actors::ports::{
    CauseEnd, ClaimedMail, MailClaim, MailFilter, MailStore, SettledMail, StoreError, StrictCause,
    SuppressedAddress, Suppressions,
};
use pulse_domain::notification::mail::{self, MailRecord, MailRequest, NO_ORG};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, Mail, SuppressionReason};
use pulse_protocol::ids::{DeliveryId, OrgId};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};
use uuid::Uuid;

use crate::Database;
use crate::entity::mail::{Column, Entity, Model};
use crate::entity::{attempt, suppression};
use crate::error::failed;
use crate::mails;
use crate::record::{Record, mail_view, optional_instant, read_all, read_attempt, word};

/// Which mails are claimed, in one statement. On SQLite there is one writer at a time; on PostgreSQL rows that another
/// node is just claiming are passed over. The rows are found in a part of their own, so that they are found once.
fn claim_text(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => {
            r#"WITH due AS MATERIALIZED (
                SELECT org_id AS due_org, id AS due_id FROM mails
                WHERE next_attempt_at <= $3 AND (claimed_until IS NULL OR claimed_until <= $4)
                ORDER BY next_attempt_at LIMIT $5 FOR UPDATE SKIP LOCKED)
            UPDATE mails SET claimed_by = $1, claimed_until = $2 FROM due
            WHERE org_id = due_org AND id = due_id
            RETURNING org_id, id, template, key, recipient, params, state, suppressed_by, tries,
                next_attempt_at, expires_at, created_at, ended_at, status, error, claimed_by, claimed_until"#
        }
        _ => {
            r#"UPDATE mails SET claimed_by = ?1, claimed_until = ?2 WHERE (org_id, id) IN (
                SELECT org_id, id FROM mails
                WHERE next_attempt_at <= ?3 AND (claimed_until IS NULL OR claimed_until <= ?4)
                ORDER BY next_attempt_at LIMIT ?5)
            RETURNING org_id, id, template, key, recipient, params, state, suppressed_by, tries,
                next_attempt_at, expires_at, created_at, ended_at, status, error, claimed_by, claimed_until"#
        }
    }
}

/// Nobody holds it at `now`.
fn is_free(now: Timestamp) -> Condition {
    Condition::any()
        .add(Column::ClaimedUntil.is_null())
        .add(Column::ClaimedUntil.lte(now.unix_ms()))
}

impl Database {
    /// The attempts of each mail, in the order they were made.
    async fn mail_attempts(
        &self,
        org_id: OrgId,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Vec<Attempt>>, StoreError> {
        let mut made: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
        if ids.is_empty() {
            return Ok(made);
        }
        let rows = attempt::Entity::find()
            .filter(attempt::Column::OrgId.eq(org_id.uuid()))
            .filter(attempt::Column::DeliveryId.is_in(ids.iter().copied()))
            .order_by_asc(attempt::Column::Id)
            .all(&self.reader())
            .await
            .map_err(failed)?;
        for row in rows {
            made.entry(row.delivery_id).or_default().push(read_attempt(row)?);
        }
        Ok(made)
    }
}

#[async_trait]
impl Suppressions for Database {
    async fn suppression(
        &self,
        org_id: OrgId,
        address: &str,
    ) -> Result<Option<SuppressionReason>, StoreError> {
        let reasons: Vec<String> = suppression::Entity::find()
            .filter(suppression::Column::OrgId.is_in([org_id.uuid(), NO_ORG.uuid()]))
            .filter(suppression::Column::Address.eq(mail::address(address)))
            .select_only()
            .column(suppression::Column::Reason)
            .into_tuple()
            .all(&self.reader())
            .await
            .map_err(failed)?;
        let read = |stored: &String| word(SuppressionReason::from_word, stored, "suppression");
        let reasons = reasons.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // Whoever unsubscribed still gets some mail; for the other reasons there is none.
        let weakest = |reason: &SuppressionReason| *reason == SuppressionReason::Unsubscribed;
        Ok(reasons.into_iter().min_by_key(weakest))
    }
}

#[async_trait]
impl MailStore for Database {
    async fn enqueue(
        &self,
        org_id: OrgId,
        request: &MailRequest,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        self.bounded(async {
            let transaction = self.begin_write().await.map_err(failed)?;
            let ids = mails::call_for(&transaction, &self.sealer, org_id, request).await?;
            transaction.commit().await.map_err(failed)?;
            Ok(ids)
        })
        .await
    }

    async fn claim_due(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedMail>, StoreError> {
        let claim = MailClaim::new(now, lease);
        let writer = self.writer();
        let backend = writer.get_database_backend();
        let values = [
            claim.by.into(),
            claim.until.unix_ms().into(),
            now.unix_ms().into(),
            now.unix_ms().into(),
            i64::from(limit).into(),
        ];
        let statement = Statement::from_sql_and_values(backend, claim_text(backend), values);
        let rows = writer.query_all_raw(statement).await.map_err(failed)?;
        let rows: Result<Vec<Model>, _> =
            rows.iter().map(|row| Model::from_query_result(row, "")).collect();
        let mut claimed = Vec::new();
        for row in rows.map_err(failed)? {
            let id = row.id;
            match MailRecord::read(row, &self.sealer) {
                Ok(mail) => claimed.push(ClaimedMail { mail, claim }),
                // One row that cannot be read must not keep the others: it is looked at again when its claim has ended.
                Err(error) => tracing::error!(mail = %id, %error, "a mail cannot be read"),
            }
        }
        // `RETURNING` promises no order.
        claimed.sort_unstable_by_key(|claimed| (claimed.mail.next_attempt_at, claimed.mail.id));
        Ok(claimed)
    }

    async fn settle(&self, claim: &MailClaim, settled: &SettledMail) -> Result<bool, StoreError> {
        self.bounded(async {
            let transaction = self.begin_write().await.map_err(failed)?;
            let is_written = mails::settle(&transaction, claim, settled).await?;
            transaction.commit().await.map_err(failed)?;
            Ok(is_written)
        })
        .await
    }

    async fn next_mail_at(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<Option<i64>> = Entity::find()
            .filter(Column::NextAttemptAt.is_not_null())
            .filter(is_free(now))
            .select_only()
            .column_as(Column::NextAttemptAt.min(), "next")
            .into_tuple()
            .one(&self.reader())
            .await
            .map_err(failed)?;
        Ok(optional_instant(next.flatten()))
    }

    async fn mails(
        &self,
        org_id: OrgId,
        filter: MailFilter,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreError> {
        let mut select = Entity::find().filter(Column::OrgId.eq(org_id.uuid()));
        if let Some(state) = filter.state {
            select = select.filter(Column::State.eq(state.as_str()));
        }
        if let Some(template) = filter.template {
            select = select.filter(Column::Template.eq(template.as_str()));
        }
        if let Some(before) = filter.before {
            select = select.filter(Column::Id.lt(before.uuid()));
        }
        let select = select.order_by_desc(Column::Id).limit(u64::from(limit));
        let rows = select.all(&self.reader()).await.map_err(failed)?;
        let records: Vec<MailRecord> = read_all(rows, &self.sealer)?;
        let ids: Vec<Uuid> = records.iter().map(|record| record.id.uuid()).collect();
        let mut attempts = self.mail_attempts(org_id, &ids).await?;
        let views = records.iter().map(|record| {
            mail_view(record, attempts.remove(&record.id.uuid()).unwrap_or_default())
        });
        Ok(views.collect())
    }

    async fn mail(
        &self,
        org_id: OrgId,
        id: DeliveryId,
    ) -> Result<Option<(MailRecord, Mail)>, StoreError> {
        let row = Entity::find_by_id((org_id.uuid(), id.uuid()));
        let Some(row) = row.one(&self.reader()).await.map_err(failed)? else { return Ok(None) };
        let record = MailRecord::read(row, &self.sealer)?;
        let mut attempts = self.mail_attempts(org_id, &[id.uuid()]).await?;
        let view = mail_view(&record, attempts.remove(&id.uuid()).unwrap_or_default());
        Ok(Some((record, view)))
    }

    async fn change_mail(
        &self,
        before: &MailRecord,
        after: &MailRecord,
    ) -> Result<bool, StoreError> {
        let as_shown = Condition::all()
            .add(Column::State.eq(before.state.as_str()))
            .add(Column::Tries.eq(i64::from(before.tries)))
            .add(match before.ended_at {
                Some(at) => Column::EndedAt.eq(at.unix_ms()),
                None => Column::EndedAt.is_null(),
            });
        self.bounded(async {
            let transaction = self.begin_write().await.map_err(failed)?;
            let is_written = mails::write(&transaction, after, as_shown).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok(is_written)
        })
        .await
    }

    async fn suppress(&self, suppressed: &SuppressedAddress) -> Result<(), StoreError> {
        let SuppressedAddress { org_id, address, reason, created_at } = suppressed;
        mails::suppress_in(&self.writer(), *org_id, address, reason.as_str(), *created_at)
            .await
            .map_err(failed)
    }

    async fn suppressions(
        &self,
        org_id: Option<OrgId>,
    ) -> Result<Vec<SuppressedAddress>, StoreError> {
        let mut select = suppression::Entity::find();
        if let Some(org_id) = org_id {
            select = select.filter(suppression::Column::OrgId.eq(org_id.uuid()));
        }
        let rows = select
            .order_by_asc(suppression::Column::OrgId)
            .order_by_asc(suppression::Column::Address)
            .all(&self.reader())
            .await
            .map_err(failed)?;
        let read = |row: suppression::Model| {
            Ok(SuppressedAddress {
                org_id: OrgId::from_uuid(row.org_id),
                address: row.address,
                reason: word(SuppressionReason::from_word, &row.reason, "suppression")?,
                created_at: Timestamp::from_unix_ms(row.created_at),
            })
        };
        rows.into_iter().map(read).collect()
    }

    async fn unsuppress(&self, org_id: OrgId, address: &str) -> Result<bool, StoreError> {
        let removed = suppression::Entity::delete_many()
            .filter(Expr::col(suppression::Column::OrgId).eq(org_id.uuid()))
            .filter(suppression::Column::Address.eq(mail::address(address)))
            .exec(&self.writer())
            .await
            .map_err(failed)?;
        Ok(removed.rows_affected > 0)
    }
}

/// A strict mail that is its own cause: nothing is taken back but the mail.
#[derive(Clone, Debug)]
pub struct MailAlone {
    /// Where it is written.
    pub database: Database,
    /// The mail.
    pub mail: MailRecord,
}

#[async_trait]
impl StrictCause for MailAlone {
    async fn begin(&self, claim: &MailClaim) -> Result<MailRecord, StoreError> {
        let Self { database, mail } = self;
        database
            .bounded(async {
                let transaction = database.begin_write().await.map_err(failed)?;
                let (_, is_new) =
                    mails::enqueue(&transaction, &database.sealer, mail, Some(claim)).await?;
                if !is_new {
                    return Err(StoreError::Exists { what: "such a mail" });
                }
                transaction.commit().await.map_err(failed)?;
                Ok(mail.clone())
            })
            .await
    }

    async fn end(
        &self,
        claim: &MailClaim,
        settled: &SettledMail,
        _: CauseEnd,
    ) -> Result<bool, StoreError> {
        self.database.settle(claim, settled).await
    }
}
