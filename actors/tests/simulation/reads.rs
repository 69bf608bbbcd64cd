//! One process's reads of the tables: late, and now and then failing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulse_actors::ports::{DeliveryFilter, DuePage, OrgStore, StoreError};
use pulse_domain::record::{ChannelRecord, DeliveryRecord, JournalEvent, OrgImage, OrgRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Command, Delivery, DeliveryState};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeliveryId, OrgId};

use crate::database::unavailable;
use crate::plan::Mutation;
use crate::world::World;

/// A load looks again after this whether the org is written.
const LOAD_RETRY: Duration = Duration::from_millis(2);

pub(crate) struct NodeReads(pub(crate) Arc<World>);

impl NodeReads {
    /// The way to the server; what is read is what is committed at its end.
    async fn ask(&self) -> Result<(), StoreError> {
        tokio::time::sleep(self.0.between(0, 1)).await;
        if self.0.happens(self.0.chances().read_fails) {
            return Err(unavailable());
        }
        Ok(())
    }

    /// The way back.
    async fn told<T>(&self, told: Result<T, StoreError>) -> Result<T, StoreError> {
        tokio::time::sleep(self.0.between(0, 1)).await;
        told
    }
}

/// Each read goes there, looks and comes back.
macro_rules! read {
    ($self:ident.$method:ident($($argument:expr),*)) => {{
        $self.ask().await?;
        let told = $self.0.tables.$method($($argument),*).await;
        $self.told(told).await
    }};
}

#[async_trait]
impl OrgStore for NodeReads {
    async fn load(&self, org_id: OrgId) -> Result<Option<OrgImage>, StoreError> {
        self.ask().await?;
        // As the contract says: what may still be committed is waited for.
        // The head check guards against what is loaded earlier, so its mutation needs both.
        let waits = !self.0.lacks(Mutation::LoadsPastDoubt) && !self.0.lacks(Mutation::NoHeadCheck);
        while waits && self.0.server.lock().writes(org_id) {
            tokio::time::sleep(LOAD_RETRY).await;
        }
        let mut image = self.0.tables.image(org_id);
        if self.0.lacks(Mutation::StaleLoads) {
            image = self.0.server.lock().former.get(&org_id).cloned().or(image);
        }
        if let Some(image) = &image {
            self.0.checked(|check| check.loaded(image));
        }
        self.told(Ok(image)).await
    }

    async fn org(&self, org_id: OrgId) -> Result<Option<OrgRecord>, StoreError> {
        read!(self.org(org_id))
    }

    async fn orgs_to_wake(&self) -> Result<Vec<OrgId>, StoreError> {
        read!(self.orgs_to_wake())
    }

    async fn orgs_changed_since(&self, since: Timestamp) -> Result<Vec<OrgId>, StoreError> {
        read!(self.orgs_changed_since(since))
    }

    async fn events_after(
        &self,
        org_id: OrgId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError> {
        read!(self.events_after(org_id, after, limit))
    }

    async fn event_range(&self, org_id: OrgId) -> Result<(u64, u64), StoreError> {
        read!(self.event_range(org_id))
    }

    async fn deliveries(
        &self,
        org_id: OrgId,
        filter: DeliveryFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        read!(self.deliveries(org_id, filter, limit))
    }

    async fn delivery(
        &self,
        org_id: OrgId,
        delivery_id: DeliveryId,
    ) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError> {
        read!(self.delivery(org_id, delivery_id))
    }

    async fn delivery_counts(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        since: Timestamp,
    ) -> Result<Vec<(DeliveryState, u64)>, StoreError> {
        read!(self.delivery_counts(org_id, channel_id, since))
    }

    async fn due_deliveries(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        now: Timestamp,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        read!(self.due_deliveries(org_id, channel_id, now, limit))
    }

    async fn oldest_unfinished(&self) -> Result<Option<Timestamp>, StoreError> {
        read!(self.oldest_unfinished())
    }

    async fn channels_with_deliveries(&self) -> Result<Vec<(OrgId, ChannelId)>, StoreError> {
        read!(self.channels_with_deliveries())
    }

    async fn channel(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, StoreError> {
        read!(self.channel(org_id, channel_id))
    }

    async fn commands(
        &self,
        org_id: OrgId,
        agent_id: AgentId,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError> {
        read!(self.commands(org_id, agent_id, before, limit))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        read!(self.ping())
    }
}
