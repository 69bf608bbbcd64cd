//! One plan, one transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pulse_actors::ports::StoreError;
use pulse_protocol::ids::{AgentId, AlertId, OrgId};
use sea_orm::sea_query::{Expr, ExprTrait, Query, TableRef, ValueTuple};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    Statement, Value, Values,
};
use tokio::time::timeout;

use super::fences::Fences;
use super::plan::{Head, Latest, Plan, Removal, Step, Upserts};
use crate::Database;
use crate::database::begin_write;
use crate::entity::{
    agent, alert, channel, device, device_state, event, maintenance_window, position, presence,
    rule, segment,
};
use crate::error::failed;
use crate::mails;
use crate::record::{Record, attempt_row, stored};
use crate::rows::{Mode, Statements, chunk};
use crate::seal::Sealer;

/// After this a database that does not answer counts as gone. Longer than any wait for a lock.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Because of what it holds.
    Refused(StoreError),
    /// Whatever it holds.
    Unavailable(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error),
            _ => Self::Refused(error),
        }
    }
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        failed(error).into()
    }
}

/// Writes plans.
pub(super) struct Committer {
    database: Database,
    sealer: Arc<Sealer>,
    fences: Fences,
    statements: Statements,
    head_texts: HashMap<usize, String>,
}

impl Committer {
    pub(super) fn new(database: &Database) -> Self {
        let backend = database.journal().get_database_backend();
        let sealer = Arc::clone(&database.sealer);
        let (fences, statements) = (Fences::new(backend), Statements::new(backend));
        Self { database: database.clone(), sealer, fences, statements, head_texts: HashMap::new() }
    }

    /// Commits the plan, or leaves nothing of it.
    pub(super) async fn commit(&mut self, plan: &Plan<'_>) -> Result<(), Fault> {
        let database = self.database.clone();
        let written = timeout(COMMIT_TIMEOUT, database.bounded(self.write(plan))).await;
        written.unwrap_or_else(|elapsed| {
            Err(Fault::Unavailable(StoreError::Unavailable(Box::new(elapsed))))
        })
    }

    async fn write(&mut self, plan: &Plan<'_>) -> Result<(), Fault> {
        let transaction = begin_write(&self.database.journal()).await?;
        let written = self.write_all(&transaction, plan).await;
        match written {
            Ok(()) => Ok(transaction.commit().await?),
            Err(fault) => {
                // If this fails the connection is gone, and the transaction with it.
                drop(transaction.rollback().await);
                Err(fault)
            }
        }
    }

    async fn write_all(
        &mut self,
        transaction: &DatabaseTransaction,
        plan: &Plan<'_>,
    ) -> Result<(), Fault> {
        self.fences.check(transaction, &plan.fences).await?;
        self.move_heads(transaction, &plan.heads).await?;
        self.insert_events(transaction, plan).await?;
        for step in &plan.steps {
            match step {
                Step::Upsert(upserts) => self.upsert(transaction, upserts).await?,
                Step::Remove(org_id, removal) => remove(transaction, *org_id, *removal).await?,
            }
        }
        for of_org in plan.alerts_gone.chunk_by(|(one, _), (other, _)| one == other) {
            forget_alerts(transaction, of_org).await?;
        }
        for (org_id, request) in &plan.mails {
            mails::call_for(transaction, &self.sealer, *org_id, request).await?;
        }
        Ok(())
    }

    /// Moves each org's number on, if it stands where its batch was decided.
    async fn move_heads(
        &mut self,
        transaction: &DatabaseTransaction,
        heads: &[Head],
    ) -> Result<(), Fault> {
        let mut rest = heads;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len()));
            let moved = transaction.execute_raw(self.heads_statement(now)?).await?.rows_affected();
            if moved != now.len() as u64 {
                // Which one does not matter unless it is alone: then it is the first.
                let Head { org_id, after_seq, .. } = now[0];
                return Err(StoreError::Conflict { org_id, expected_seq: after_seq }.into());
            }
            rest = later;
        }
        Ok(())
    }

    fn heads_statement(&mut self, heads: &[Head]) -> Result<Statement, StoreError> {
        let backend = self.database.journal().get_database_backend();
        let mut values: Vec<Value> = Vec::with_capacity(heads.len() * 3);
        for head in heads {
            values.push(head.org_id.uuid().into());
            values.push(stored(head.after_seq, "journal number")?.into());
            values.push(stored(head.last_seq, "journal number")?.into());
        }
        let text =
            self.head_texts.entry(heads.len()).or_insert_with(|| heads_text(backend, heads.len()));
        Ok(Statement { sql: text.clone(), values: Some(Values(values)), db_backend: backend })
    }

    async fn insert_events(
        &mut self,
        transaction: &DatabaseTransaction,
        plan: &Plan<'_>,
    ) -> Result<(), Fault> {
        let mut rows = Vec::with_capacity(plan.events.len());
        for (org_id, event) in &plan.events {
            rows.push(event::Model {
                org_id: org_id.uuid(),
                seq: stored(event.seq, "event")?,
                id: event.id.uuid(),
                name: event.name.to_string(),
                at: event.at.unix_ms(),
                data: event.data.to_string(),
            });
        }
        Ok(self.statements.write(transaction, Mode::Insert, rows).await?)
    }

    async fn upsert(
        &mut self,
        transaction: &DatabaseTransaction,
        upserts: &Upserts<'_>,
    ) -> Result<(), Fault> {
        self.upsert_table(transaction, &upserts.orgs).await?;
        self.upsert_table(transaction, &upserts.agents).await?;
        self.upsert_table(transaction, &upserts.presences).await?;
        self.upsert_table(transaction, &upserts.positions).await?;
        self.upsert_table(transaction, &upserts.segments).await?;
        self.upsert_table(transaction, &upserts.devices).await?;
        self.upsert_table(transaction, &upserts.device_states).await?;
        self.upsert_table(transaction, &upserts.scans).await?;
        self.upsert_table(transaction, &upserts.commands).await?;
        self.upsert_table(transaction, &upserts.channels).await?;
        self.upsert_table(transaction, &upserts.rules).await?;
        self.upsert_table(transaction, &upserts.deliveries).await?;
        self.upsert_table(transaction, &upserts.alerts).await?;
        self.upsert_table(transaction, &upserts.windows).await?;
        let attempts = upserts.attempts.iter();
        let attempts = attempts.map(|(org_id, id, attempt)| attempt_row(*org_id, *id, attempt));
        let attempts = attempts.collect::<Result<Vec<_>, _>>()?;
        Ok(self.statements.write(transaction, Mode::Insert, attempts).await?)
    }

    async fn upsert_table<R: Record<Row: 'static>>(
        &mut self,
        transaction: &DatabaseTransaction,
        latest: &Latest<'_, R>,
    ) -> Result<(), Fault> {
        let records = latest.records().iter();
        let rows = records.map(|(org_id, record)| record.row(*org_id, &self.sealer));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(self.statements.write(transaction, Mode::Upsert, rows).await?)
    }
}

/// `UPDATE org_heads … FROM (VALUES (org, after, last), …)`; both databases call the columns of `VALUES`
/// `column1` and so on.
fn heads_text(backend: DbBackend, count: usize) -> String {
    let placeholder = ValueTuple::Three(0.into(), 0.into(), 0.into());
    let moves = TableRef::ValuesList(vec![placeholder; count], "moves".into());
    let mut update = Query::update();
    update
        .table("org_heads")
        .value("seq", Expr::col(("moves", "column3")))
        .from(moves)
        .and_where(Expr::col(("org_heads", "org_id")).equals(("moves", "column1")))
        .and_where(Expr::col(("org_heads", "seq")).equals(("moves", "column2")));
    backend.build(&update).sql
}

async fn remove(
    transaction: &DatabaseTransaction,
    org_id: OrgId,
    removal: Removal,
) -> Result<(), DbErr> {
    let org = org_id.uuid();
    match removal {
        Removal::Agent(id) => remove_agent(transaction, org_id, id).await?,
        Removal::Device(id) => {
            device_state::Entity::delete_by_id((org, id.uuid())).exec(transaction).await?;
            device::Entity::delete_by_id((org, id.uuid())).exec(transaction).await?;
        }
        Removal::Channel(id) => {
            channel::Entity::delete_by_id((org, id.uuid())).exec(transaction).await?;
        }
        Removal::Rule(id) => {
            rule::Entity::delete_by_id((org, id.uuid())).exec(transaction).await?;
        }
        Removal::Window(id) => {
            maintenance_window::Entity::delete_by_id((org, id.uuid())).exec(transaction).await?;
        }
    }
    Ok(())
}

/// Deletes alerts of one org, in numbers that make few different statements.
async fn forget_alerts(
    transaction: &DatabaseTransaction,
    mut gone: &[(OrgId, AlertId)],
) -> Result<(), DbErr> {
    while let Some((org_id, _)) = gone.first() {
        let (now, later) = gone.split_at(chunk(gone.len()));
        alert::Entity::delete_many()
            .filter(alert::Column::OrgId.eq(org_id.uuid()))
            .filter(alert::Column::Id.is_in(now.iter().map(|(_, id)| id.uuid())))
            .exec(transaction)
            .await?;
        gone = later;
    }
    Ok(())
}

async fn remove_agent(
    transaction: &DatabaseTransaction,
    org_id: OrgId,
    agent_id: AgentId,
) -> Result<(), DbErr> {
    let (org, agent) = (org_id.uuid(), agent_id.uuid());
    let its_devices = Query::select()
        .column(device::Column::Id)
        .from(device::Entity)
        .and_where(device::Column::OrgId.eq(org))
        .and_where(device::Column::AgentId.eq(agent))
        .to_owned();
    device_state::Entity::delete_many()
        .filter(device_state::Column::OrgId.eq(org))
        .filter(device_state::Column::DeviceId.in_subquery(its_devices))
        .exec(transaction)
        .await?;
    device::Entity::delete_many()
        .filter(device::Column::OrgId.eq(org))
        .filter(device::Column::AgentId.eq(agent))
        .exec(transaction)
        .await?;
    segment::Entity::delete_many()
        .filter(segment::Column::OrgId.eq(org))
        .filter(segment::Column::AgentId.eq(agent))
        .exec(transaction)
        .await?;
    presence::Entity::delete_by_id((org, agent)).exec(transaction).await?;
    position::Entity::delete_by_id((org, agent)).exec(transaction).await?;
    agent::Entity::delete_by_id((org, agent)).exec(transaction).await?;
    Ok(())
}
