//! Reading what is durable.

use async_trait::async_trait;
use pulse_domain::record::{ChannelRecord, DeliveryRecord, JournalEvent, OrgImage, OrgRecord};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Command, Delivery, DeliveryState};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeliveryId, OrgId, RuleId};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or not in time. Retrying is safe.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody else wrote first. Reload before retrying.
    #[error("org {org_id} was changed by another home: its journal is not at {expected_seq}")]
    Conflict {
        /// The org.
        org_id: OrgId,
        /// Where this home believed the journal to be.
        expected_seq: u64,
    },
    /// Another node has claimed the org's shard: this home is none any more. Ask the other.
    #[error("org {org_id} has its home on another node now")]
    Fenced {
        /// The org.
        org_id: OrgId,
    },
    /// A row cannot be read as what it should be. Retrying does not help.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Why it could not be.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something of this name exists. Choose another.
    #[error("{what} exists already")]
    Exists {
        /// What there can be only one of.
        what: &'static str,
    },
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those to this channel.
    pub channel_id: Option<ChannelId>,
    /// Only those that this rule called for.
    pub rule_id: Option<RuleId>,
    /// Only those of events of this name.
    pub event: Option<String>,
    /// Only those about this resource: its id as text.
    pub resource: Option<String>,
    /// Only those called for at or after this.
    pub from: Option<Timestamp>,
    /// Only those called for before this.
    pub to: Option<Timestamp>,
    /// Only those whose recipient, or name of the resource, contains this, whatever its case.
    pub text: Option<String>,
    /// Only those older than this one: the last of the page before.
    pub before: Option<DeliveryId>,
}

/// A delivery that may be tried now, with the event it is about.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The delivery.
    pub delivery: DeliveryRecord,
    /// The event that called for it.
    pub event: JournalEvent,
}

/// What a channel has to deliver now.
#[derive(Clone, Debug, Default)]
pub struct DuePage {
    /// What is due, and whatever else waits of the same resources and recipients.
    pub deliveries: Vec<DueDelivery>,
    /// When the next one is due that was not due for this page or did not fit; none if there is none.
    pub next_at: Option<Timestamp>,
}

/// Reads of an org's tables. Every one names its org.
#[async_trait]
pub trait OrgStore: Send + Sync {
    /// The whole org, or none if there is no such org. Waits for every transaction that may still change it: a commit
    /// that its home gave up for failed must not become true behind the back of the next one.
    async fn load(&self, org_id: OrgId) -> Result<Option<OrgImage>, StoreError>;

    /// An org's settings as stored.
    async fn org(&self, org_id: OrgId) -> Result<Option<OrgRecord>, StoreError>;

    /// Orgs that must have a home although nobody asks for them: those with an agent recorded online, an
    /// unfinished scan or command.
    async fn orgs_to_wake(&self) -> Result<Vec<OrgId>, StoreError>;

    /// Orgs whose settings were written at or after `since` by something other than their home, such as the
    /// command line.
    async fn orgs_changed_since(&self, since: Timestamp) -> Result<Vec<OrgId>, StoreError>;

    /// Up to `limit` events after number `after`, in order.
    async fn events_after(
        &self,
        org_id: OrgId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<JournalEvent>, StoreError>;

    /// The number of the oldest event that retention has kept, and of the newest; zeros for none.
    async fn event_range(&self, org_id: OrgId) -> Result<(u64, u64), StoreError>;

    /// Up to `limit` deliveries, newest first, each with its attempts.
    async fn deliveries(
        &self,
        org_id: OrgId,
        filter: DeliveryFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// One delivery with its attempts.
    async fn delivery(
        &self,
        org_id: OrgId,
        delivery_id: DeliveryId,
    ) -> Result<Option<(DeliveryRecord, Delivery)>, StoreError>;

    /// How many deliveries a channel has in each state, of those called for at or after `since`.
    async fn delivery_counts(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        since: Timestamp,
    ) -> Result<Vec<(DeliveryState, u64)>, StoreError>;

    /// A channel's unfinished deliveries that are due at `now`, at most `limit`, those longest due; and with them the
    /// older and newer unfinished ones of their resources and recipients, up to a bound that leaves out none that is
    /// older than one in the answer.
    async fn due_deliveries(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        now: Timestamp,
        limit: u32,
    ) -> Result<DuePage, StoreError>;

    /// When the oldest unfinished delivery of all orgs was called for.
    async fn oldest_unfinished(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Channels that have unfinished deliveries.
    async fn channels_with_deliveries(&self) -> Result<Vec<(OrgId, ChannelId)>, StoreError>;

    /// One channel.
    async fn channel(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, StoreError>;

    /// An agent's commands, newest first.
    async fn commands(
        &self,
        org_id: OrgId,
        agent_id: AgentId,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
