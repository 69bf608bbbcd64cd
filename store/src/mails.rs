//! Mails inside a transaction that does more: called for with their cause, and settled with what depends on it.

use pulse_actors::ports::{MailClaim, SettledMail, StoreError};
use pulse_domain::notification::mail::{self, MailRecord, MailRequest, To};
use pulse_protocol::Timestamp;
use pulse_protocol::api::Role;
use pulse_protocol::ids::{DeliveryId, OrgId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, TryInsertResult,
};
use uuid::Uuid;

use crate::entity::{mail as table, member, suppression, user};
use crate::error::failed;
use crate::record::{Record, attempt_row, optional_ms};
use crate::seal::Sealer;

/// Writes a mail, held by `claim` if there is one, unless there is one of its key for its recipient; the id of the one that
/// is there then, and whether it is new.
///
/// # Errors
///
/// Returns [`StoreError`]; then the transaction cannot be committed.
pub(crate) async fn enqueue(
    transaction: &DatabaseTransaction,
    sealer: &Sealer,
    record: &MailRecord,
    claim: Option<&MailClaim>,
) -> Result<(DeliveryId, bool), StoreError> {
    let mut row = record.row(record.org_id, sealer)?;
    row.claimed_by = claim.map(|claim| claim.by);
    row.claimed_until = claim.map(|claim| claim.until.unix_ms());
    let unless_there =
        OnConflict::columns([table::Column::OrgId, table::Column::Key, table::Column::Recipient])
            .do_nothing()
            .to_owned();
    let insert = table::Entity::insert(row.into_active_model().reset_all())
        .on_conflict(unless_there)
        .try_insert()
        .exec_without_returning(transaction);
    match insert.await.map_err(failed)? {
        TryInsertResult::Inserted(rows) if rows > 0 => return Ok((record.id, true)),
        _ => {}
    }
    let there: Option<Uuid> = table::Entity::find()
        .filter(table::Column::OrgId.eq(record.org_id.uuid()))
        .filter(table::Column::Key.eq(&record.key))
        .filter(table::Column::Recipient.eq(&record.recipient))
        .select_only()
        .column(table::Column::Id)
        .into_tuple()
        .one(transaction)
        .await
        .map_err(failed)?;
    let there = there.ok_or(StoreError::Exists { what: "such a mail" })?;
    Ok((DeliveryId::from_uuid(there), false))
}

/// Writes one row for each recipient of a mail, as the members are in this transaction; the ids of all rows.
///
/// # Errors
///
/// Returns [`StoreError`]; then the transaction cannot be committed.
pub(crate) async fn call_for(
    transaction: &DatabaseTransaction,
    sealer: &Sealer,
    org_id: OrgId,
    request: &MailRequest,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut recipients = match &request.to {
        To::Members(roles) => members(transaction, org_id, roles).await.map_err(failed)?,
        To::Addresses(addresses) => addresses.iter().map(|given| mail::address(given)).collect(),
    };
    recipients.sort_unstable();
    recipients.dedup();
    let mut ids = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let record = request.record(org_id, DeliveryId::new(), &recipient);
        let record = record.map_err(|error| crate::error::corrupt("mail", error))?;
        ids.push(enqueue(transaction, sealer, &record, None).await?.0);
    }
    Ok(ids)
}

/// The mail addresses of an org's members who have one of these roles.
async fn members(
    transaction: &DatabaseTransaction,
    org_id: OrgId,
    roles: &[Role],
) -> Result<Vec<String>, DbErr> {
    let members: Vec<Uuid> = member::Entity::find()
        .filter(member::Column::OrgId.eq(org_id.uuid()))
        .filter(member::Column::Role.is_in(roles.iter().map(|role| role.as_str())))
        .select_only()
        .column(member::Column::UserId)
        .into_tuple()
        .all(transaction)
        .await?;
    user::Entity::find()
        .filter(user::Column::Id.is_in(members))
        .order_by_asc(user::Column::Email)
        .select_only()
        .column(user::Column::Email)
        .into_tuple()
        .all(transaction)
        .await
}

/// Writes what became of a claimed mail and gives the claim back. False, and nothing is written, if the claim is not the
/// mail's any more.
///
/// # Errors
///
/// Returns [`StoreError`]; then the transaction cannot be committed.
pub(crate) async fn settle(
    transaction: &DatabaseTransaction,
    claim: &MailClaim,
    settled: &SettledMail,
) -> Result<bool, StoreError> {
    let SettledMail { mail, attempt, suppress } = settled;
    let held = table::Column::ClaimedBy.eq(claim.by);
    if !write(transaction, mail, held).await.map_err(failed)? {
        return Ok(false);
    }
    if let Some(attempt) = attempt {
        let row = attempt_row(mail.org_id, mail.id, attempt)?.into_active_model().reset_all();
        let insert = crate::entity::attempt::Entity::insert(row);
        insert.exec_without_returning(transaction).await.map_err(failed)?;
    }
    if let Some(reason) = suppress {
        let since = mail.ended_at.unwrap_or(mail.created_at);
        suppress_in(transaction, mail.org_id, &mail.recipient, reason.as_str(), since)
            .await
            .map_err(failed)?;
    }
    Ok(true)
}

/// Writes what of a mail changes in its life, if `guard` holds of its row; whether it did.
pub(crate) async fn write(
    transaction: &DatabaseTransaction,
    mail: &MailRecord,
    guard: impl sea_orm::sea_query::IntoCondition,
) -> Result<bool, DbErr> {
    let suppressed_by = mail.suppressed_by.map(|reason| reason.as_str());
    let written = table::Entity::update_many()
        .col_expr(table::Column::State, Expr::value(mail.state.as_str()))
        .col_expr(table::Column::SuppressedBy, Expr::value(suppressed_by))
        .col_expr(table::Column::Tries, Expr::value(i64::from(mail.tries)))
        .col_expr(table::Column::NextAttemptAt, Expr::value(optional_ms(mail.next_attempt_at)))
        .col_expr(table::Column::EndedAt, Expr::value(optional_ms(mail.ended_at)))
        .col_expr(table::Column::Status, Expr::value(mail.status.map(i64::from)))
        .col_expr(table::Column::Error, Expr::value(mail.error.clone()))
        .col_expr(table::Column::ClaimedBy, Expr::value(None::<Uuid>))
        .col_expr(table::Column::ClaimedUntil, Expr::value(None::<i64>))
        .filter(table::Column::OrgId.eq(mail.org_id.uuid()))
        .filter(table::Column::Id.eq(mail.id.uuid()))
        .filter(guard.into_condition())
        .exec(transaction)
        .await?;
    Ok(written.rows_affected > 0)
}

pub(crate) async fn suppress_in(
    db: &impl sea_orm::ConnectionTrait,
    org_id: OrgId,
    address: &str,
    reason: &str,
    since: Timestamp,
) -> Result<(), DbErr> {
    let row = suppression::Model {
        org_id: org_id.uuid(),
        address: mail::address(address),
        reason: reason.to_owned(),
        created_at: since.unix_ms(),
    };
    let stays = OnConflict::columns([
        suppression::Column::OrgId,
        suppression::Column::Address,
        suppression::Column::Reason,
    ])
    .do_nothing()
    .to_owned();
    suppression::Entity::insert(row.into_active_model().reset_all())
        .on_conflict(stays)
        .try_insert()
        .exec_without_returning(db)
        .await
        .map(drop)
}
