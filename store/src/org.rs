//! Reads of an org's tables.

use std::collections::BTreeSet;

use async_trait::async_trait;
use pulse_actors::ports::{DeliveryFilter, DuePage, OrgStore, StoreError};
use pulse_domain::record::{
    ChannelRecord, CommandRecord, DeliveryRecord, JournalEvent, OrgImage, OrgRecord, ScanRecord,
};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{ChannelKind, Command, Delivery, DeliveryState};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeliveryId, OrgId};
use pulse_protocol::status::AgentState;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Statement,
};
use tracing::warn;
use uuid::Uuid;

use crate::entity::{
    agent, channel, command, device, device_state, event, head, org, position, presence, rule,
    scan, segment,
};
use crate::error::failed;
use crate::record::{Record, command_view, number, read_all, read_event, stored};
use crate::{Database, DatabaseKind, deliveries};

/// Scans that ended, in an org's image.
const ENDED_SCANS: u64 = 50;

fn is_known(kind: &str) -> bool {
    ChannelKind::from_word(kind).is_some()
}

impl Database {
    async fn records<R>(
        &self,
        db: &DatabaseTransaction,
        select: Select<<R::Row as sea_orm::ModelTrait>::Entity>,
    ) -> Result<Vec<R>, StoreError>
    where
        R: Record,
        R::Row: sea_orm::FromQueryResult,
        <R::Row as sea_orm::ModelTrait>::Entity: EntityTrait<Model = R::Row>,
    {
        read_all(select.all(db).await.map_err(failed)?, &self.sealer)
    }

    /// Waits for a commit of this org that its home has given up for failed, because its answer was late or lost, and
    /// that may become true nevertheless: it holds the org's number until its end. SQLite answers when it has ended.
    async fn await_commits(&self, org_id: OrgId) -> Result<(), DbErr> {
        if self.kind() == DatabaseKind::Postgres {
            head::Entity::find_by_id(org_id.uuid()).lock_shared().one(&self.reader()).await?;
        }
        Ok(())
    }

    async fn image(
        &self,
        db: &DatabaseTransaction,
        org_id: OrgId,
    ) -> Result<Option<OrgImage>, StoreError> {
        let id = org_id.uuid();
        let Some(row) = org::Entity::find_by_id(id).one(db).await.map_err(failed)? else {
            return Ok(None);
        };
        let seq = head::Entity::find_by_id(id).one(db).await.map_err(failed)?;
        let commands = command::Entity::find()
            .filter(command::Column::OrgId.eq(id))
            .filter(command::Column::OpenSince.is_not_null());
        macro_rules! all {
            ($table:ident) => {
                self.records(db, $table::Entity::find().filter($table::Column::OrgId.eq(id)))
            };
        }
        Ok(Some(OrgImage {
            org: OrgRecord::read(row, &self.sealer)?,
            seq: number(seq.map_or(0, |head| head.seq), "journal number")?,
            agents: all!(agent).await?,
            presences: all!(presence).await?,
            positions: all!(position).await?,
            segments: all!(segment).await?,
            devices: all!(device).await?,
            device_states: all!(device_state).await?,
            scans: self.scans(db, id).await?,
            commands: self.records::<CommandRecord>(db, commands).await?,
            channels: self.channels(db, id).await?,
            rules: all!(rule).await?,
        }))
    }

    /// The channels this version can read. One that a later version wrote, of a kind that is not known here, is left out:
    /// it delivers nothing, and everything else of the org works.
    async fn channels(
        &self,
        db: &DatabaseTransaction,
        org: Uuid,
    ) -> Result<Vec<ChannelRecord>, StoreError> {
        let rows = channel::Entity::find().filter(channel::Column::OrgId.eq(org));
        let rows = rows.all(db).await.map_err(failed)?;
        let read = |row: channel::Model| {
            let (id, kind) = (row.id, row.kind.clone());
            match ChannelRecord::read(row, &self.sealer) {
                Err(error) if !is_known(&kind) => {
                    warn!(org.id = %org, channel.id = %id, channel.kind = kind, %error, "a channel of an unknown kind is left out");
                    None
                }
                read => Some(read),
            }
        };
        rows.into_iter().filter_map(read).collect()
    }

    /// Running scans and the latest that ended, in the order they began.
    async fn scans(
        &self,
        db: &DatabaseTransaction,
        org: Uuid,
    ) -> Result<Vec<ScanRecord>, StoreError> {
        let of_org = || scan::Entity::find().filter(scan::Column::OrgId.eq(org));
        let open = of_org().filter(scan::Column::OpenSince.is_not_null());
        let ended = of_org()
            .filter(scan::Column::OpenSince.is_null())
            .filter(scan::Column::FinishedAt.is_not_null())
            .order_by_desc(scan::Column::FinishedAt)
            .limit(ENDED_SCANS);
        let mut scans: Vec<ScanRecord> = self.records(db, open).await?;
        scans.extend(self.records::<ScanRecord>(db, ended).await?);
        scans.sort_unstable_by_key(|scan| scan.id);
        Ok(scans)
    }

    /// The distinct orgs of some rows.
    async fn orgs_of<E: EntityTrait>(
        &self,
        select: Select<E>,
        column: E::Column,
    ) -> Result<Vec<Uuid>, DbErr> {
        select.select_only().column(column).distinct().into_tuple().all(&self.reader()).await
    }
}

#[async_trait]
impl OrgStore for Database {
    async fn load(&self, org_id: OrgId) -> Result<Option<OrgImage>, StoreError> {
        let database = self.clone();
        // In a task of its own: whoever asked may hang up, and a `begin` that is dropped half way leaves its
        // connection inside a transaction for the next one who gets it.
        let loading = tokio::spawn(async move {
            let loaded = async {
                database.await_commits(org_id).await.map_err(failed)?;
                let snapshot = database.begin_read().await.map_err(failed)?;
                let image = database.image(&snapshot, org_id).await?;
                snapshot.commit().await.map_err(failed)?;
                Ok(image)
            };
            database.bounded(loaded).await
        });
        loading.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
    }

    async fn org(&self, org_id: OrgId) -> Result<Option<OrgRecord>, StoreError> {
        let row = org::Entity::find_by_id(org_id.uuid()).one(&self.reader()).await;
        row.map_err(failed)?.map(|row| OrgRecord::read(row, &self.sealer)).transpose()
    }

    async fn orgs_to_wake(&self) -> Result<Vec<OrgId>, StoreError> {
        let online = presence::Entity::find()
            .filter(presence::Column::State.eq(AgentState::Online.as_str()));
        let scanning = scan::Entity::find().filter(scan::Column::OpenSince.is_not_null());
        let commanded = command::Entity::find().filter(command::Column::OpenSince.is_not_null());
        let mut orgs = BTreeSet::new();
        orgs.extend(self.orgs_of(online, presence::Column::OrgId).await.map_err(failed)?);
        orgs.extend(self.orgs_of(scanning, scan::Column::OrgId).await.map_err(failed)?);
        orgs.extend(self.orgs_of(commanded, command::Column::OrgId).await.map_err(failed)?);
        Ok(orgs.into_iter().map(OrgId::from_uuid).collect())
    }

    async fn orgs_changed_since(&self, since: Timestamp) -> Result<Vec<OrgId>, StoreError> {
        let changed = org::Entity::find()
            .filter(org::Column::ChangedAt.gte(since.unix_ms()))
            .order_by_asc(org::Column::ChangedAt);
        let ids: Vec<Uuid> = changed
            .select_only()
            .column(org::Column::Id)
            .into_tuple()
            .all(&self.reader())
            .await
            .map_err(failed)?;
        Ok(ids.into_iter().map(OrgId::from_uuid).collect())
    }

    async fn events_after(
        &self,
        org_id: OrgId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        // Whatever a client asks for: no journal reaches beyond the largest number a table can hold.
        let Ok(after) = stored(after, "journal number") else { return Ok(Vec::new()) };
        let events = event::Entity::find()
            .filter(event::Column::OrgId.eq(org_id.uuid()))
            .filter(event::Column::Seq.gt(after))
            .order_by_asc(event::Column::Seq)
            .limit(u64::from(limit));
        let rows = events.all(&self.reader()).await.map_err(failed)?;
        rows.into_iter().map(read_event).collect()
    }

    async fn event_range(&self, org_id: OrgId) -> Result<(u64, u64), StoreError> {
        let of_org = || {
            event::Entity::find()
                .filter(event::Column::OrgId.eq(org_id.uuid()))
                .select_only()
                .column(event::Column::Seq)
        };
        let oldest = of_org().order_by_asc(event::Column::Seq);
        let newest = of_org().order_by_desc(event::Column::Seq);
        let oldest: Option<i64> = oldest.into_tuple().one(&self.reader()).await.map_err(failed)?;
        let newest: Option<i64> = newest.into_tuple().one(&self.reader()).await.map_err(failed)?;
        let read = |seq: Option<i64>| number(seq.unwrap_or(0), "journal number");
        Ok((read(oldest)?, read(newest)?))
    }

    async fn deliveries(
        &self,
        org_id: OrgId,
        filter: DeliveryFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        deliveries::list(self, org_id, filter, limit).await
    }

    async fn delivery(
        &self,
        org_id: OrgId,
        delivery_id: DeliveryId,
    ) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError> {
        deliveries::one(self, org_id, delivery_id).await
    }

    async fn delivery_counts(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        since: Timestamp,
    ) -> Result<Vec<(DeliveryState, u64)>, StoreError> {
        deliveries::counts(self, org_id, channel_id, since).await
    }

    async fn due_deliveries(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        now: Timestamp,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        deliveries::due(self, org_id, channel_id, now, limit).await
    }

    async fn oldest_unfinished(&self) -> Result<Option<Timestamp>, StoreError> {
        deliveries::oldest_unfinished(self).await
    }

    async fn channels_with_deliveries(&self) -> Result<Vec<(OrgId, ChannelId)>, StoreError> {
        deliveries::channels(self).await
    }

    async fn channel(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, StoreError> {
        let row = channel::Entity::find_by_id((org_id.uuid(), channel_id.uuid()));
        let row = row.one(&self.reader()).await.map_err(failed)?;
        row.filter(|row| is_known(&row.kind))
            .map(|row| ChannelRecord::read(row, &self.sealer))
            .transpose()
    }

    async fn commands(
        &self,
        org_id: OrgId,
        agent_id: AgentId,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError> {
        let mut commands = command::Entity::find()
            .filter(command::Column::OrgId.eq(org_id.uuid()))
            .filter(command::Column::AgentId.eq(agent_id.uuid()));
        if let Some(before) = before {
            commands = commands.filter(command::Column::Id.lt(before.uuid()));
        }
        let commands = commands.order_by_desc(command::Column::Id).limit(u64::from(limit));
        let records: Vec<CommandRecord> =
            read_all(commands.all(&self.reader()).await.map_err(failed)?, &self.sealer)?;
        Ok(records.into_iter().map(command_view).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let backend = self.reader().get_database_backend();
        let answer = self.reader().query_one_raw(Statement::from_string(backend, "SELECT 1")).await;
        answer.map(drop).map_err(failed)
    }
}
