//! What a channel does one at a time, beside its attempts: looking for what is due, giving up what is not tried any
//! more, and what people ask for.

use pulse_domain::org::GiveUp;
use pulse_domain::record::{ChannelRecord, DeliveryRecord};
use pulse_domain::request::{DeliveryChange, Refusal, Reply};
use pulse_protocol::Timestamp;
use pulse_protocol::ids::{ChannelId, DeliveryId, OrgId};
use tokio::sync::oneshot;
use tracing::warn;

use super::attempt::{Carrier, delivers};
use super::{Change, Ports};
use crate::directory::AskError;
use crate::org::{Decide, MayTry};
use crate::ports::{DuePage, StoreError};

/// Deliveries read at a time.
pub(super) const PAGE: u32 = 64;
/// Later than any delivery is due.
const AT_ANY_TIME: Timestamp = Timestamp::from_unix_ms(i64::MAX);

/// What a look found.
pub(super) enum Seen {
    /// The channel delivers, and this is due.
    Due {
        /// The way to the channel's home.
        carrier: Carrier,
        /// The channel as it is.
        channel: Box<ChannelRecord>,
        /// What is due, and when more is.
        page: DuePage,
    },
    /// Nothing may be sent before this.
    Paused(Timestamp),
    /// The channel does not deliver.
    Off(Carrier),
    /// The store or the org did not answer.
    Fault,
}

/// How it ended to give up all that waits.
pub(super) enum GaveUp {
    /// Nothing waits any more.
    All,
    /// The channel was switched on meanwhile.
    SwitchedOn,
    /// The store or the org did not answer.
    Fault,
}

/// The desk of one channel.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) org_id: OrgId,
    pub(super) channel_id: ChannelId,
    pub(super) ports: Ports,
}

impl Desk {
    /// Looks at the channel and at what is due, up to `limit` deliveries.
    pub(super) async fn look(self, limit: u32) -> Seen {
        match self.see(limit).await {
            Ok(seen) => seen,
            Err(error) => {
                warn!(%error, "deliveries could not be read; looking again");
                Seen::Fault
            }
        }
    }

    async fn carrier(&self) -> Result<Carrier, AskError> {
        let home = self.ports.directory.org(self.org_id).await?;
        let (org_id, channel_id, ports) = (self.org_id, self.channel_id, self.ports.clone());
        Ok(Carrier { org_id, channel_id, home, ports })
    }

    async fn see(&self, limit: u32) -> Result<Seen, StoreError> {
        // Before what is due is read: no home before this one can still change it then, and as long as this one
        // lives nobody else does. A delivery read earlier may have ended since, and would be taken up again.
        let Ok(carrier) = self.carrier().await else { return Ok(Seen::Fault) };
        let (answer, answered) = oneshot::channel();
        let ask = MayTry { channel_id: self.channel_id, rule_id: None, answer };
        if carrier.home.send(ask).await.is_err() {
            return Ok(Seen::Fault);
        }
        let Ok(permit) = answered.await else { return Ok(Seen::Fault) };
        let Some(channel) = permit.channel.filter(delivers) else { return Ok(Seen::Off(carrier)) };
        let now = self.ports.clock.now();
        if let Some(until) = channel.breaker.holds_until(now) {
            return Ok(Seen::Paused(until));
        }
        let page =
            self.ports.store.due_deliveries(self.org_id, self.channel_id, now, limit).await?;
        Ok(Seen::Due { carrier, channel: Box::new(channel), page })
    }

    /// Ends all that waits, because the channel does not deliver. Nothing may be under way.
    pub(super) async fn give_up(self, carrier: Carrier) -> GaveUp {
        let mut before: Vec<DeliveryId> = vec![];
        loop {
            let read =
                self.ports.store.due_deliveries(self.org_id, self.channel_id, AT_ANY_TIME, PAGE);
            let waiting: Vec<DeliveryRecord> = match read.await {
                Ok(page) => page.deliveries.into_iter().map(|due| due.delivery).collect(),
                Err(error) => {
                    warn!(%error, "deliveries of a channel that is off could not be read");
                    return GaveUp::Fault;
                }
            };
            let ids: Vec<_> = waiting.iter().map(|delivery| delivery.id).collect();
            if ids.is_empty() {
                return GaveUp::All;
            }
            if ids == before {
                // The org did not end them.
                return GaveUp::SwitchedOn;
            }
            if carrier.give_up(waiting, GiveUp::ChannelOff).await.is_err() {
                return GaveUp::Fault;
            }
            before = ids;
        }
    }

    /// Does what a person asks, unless they gave up.
    pub(super) async fn change(self, change: Change) {
        let Change { delivery_id, change, answer } = change;
        if !answer.is_closed() {
            drop(answer.send(self.decide(delivery_id, change).await));
        }
    }

    async fn decide(
        &self,
        delivery_id: DeliveryId,
        change: DeliveryChange,
    ) -> Result<Reply, AskError> {
        let carrier = self.carrier().await?;
        let row = self.ports.store.delivery(self.org_id, delivery_id).await;
        let (delivery, _) = row
            .map_err(|error| {
                warn!(%error, "a delivery could not be read");
                AskError::Unavailable
            })?
            .filter(|(record, _)| record.channel_id == self.channel_id)
            .ok_or_else(|| Refusal::NotFound { what: "delivery".into() })?;
        let (answer, answered) = oneshot::channel();
        let decide = Decide { delivery, change, answer };
        carrier.home.send(decide).await.map_err(|_| AskError::Unavailable)?;
        answered.await.map_err(|_| AskError::Unavailable)?
    }
}
