//! The channels of the homes on this node.

use std::sync::Arc;

use actix::prelude::*;
use pulse_protocol::ids::{ChannelId, OrgId};
use tokio::time::Instant;

use super::{Directory, Inner};
use crate::channel::{self, ChannelActor};
use crate::ports::StoreError;

impl Directory {
    /// Nudges a channel to look for what is due. Losing a nudge costs a sweep, never a delivery.
    pub fn wake_channel(&self, org_id: OrgId, channel_id: ChannelId) {
        if let Some(channel) = self.channel(org_id, channel_id) {
            // A full mailbox holds a nudge already.
            drop(channel.try_send(channel::Wake));
        }
    }

    /// Hands a channel what a person wants done with one of its deliveries. An answer that is dropped says that it
    /// cannot take it now.
    pub(crate) fn change_delivery(
        &self,
        org_id: OrgId,
        channel_id: ChannelId,
        change: channel::Change,
    ) {
        if let Some(channel) = self.channel(org_id, channel_id) {
            drop(channel.try_send(change));
        }
    }

    /// The channel, if its org has its home here; none while it is left alone.
    fn channel(&self, org_id: OrgId, channel_id: ChannelId) -> Option<Addr<ChannelActor>> {
        if self.fence(org_id).is_err() {
            // The org's home wakes it, on its own node.
            return None;
        }
        let Inner { ports, places, channels, room, .. } = &*self.inner;
        let mut channels = channels.lock();
        let slot = channels.entry(channel_id).or_default();
        let cell = slot.cell()?;
        if let Some(address) = cell.get() {
            return Some(address.clone());
        }
        slot.starts.push_back(Instant::now());
        let channel_ports = channel::Ports {
            clock: Arc::clone(&ports.clock),
            store: Arc::clone(&ports.store),
            sender: Arc::clone(&ports.sender),
            directory: self.clone(),
            metrics: ports.metrics.clone(),
            jitter: ports.jitter,
            room: Arc::clone(room),
        };
        ports.metrics.starts.with_label_values(&["channel"]).inc();
        let channel = ChannelActor::new(org_id, channel_id, channel_ports);
        let address = places.start(channel_id.uuid().as_u128(), channel);
        drop(cell.set(address.clone()));
        Some(address)
    }

    /// Forgets a channel that has nothing to do.
    pub fn forget_channel(&self, channel_id: ChannelId) {
        self.inner.channels.lock().remove(&channel_id);
    }

    /// Wakes the channels that have something to deliver, in case a nudge was lost.
    ///
    /// # Errors
    ///
    /// Returns the store's error if it cannot say which those are.
    pub async fn sweep_channels(&self) -> Result<(), StoreError> {
        let Inner { ports, .. } = &*self.inner;
        let oldest = ports.store.oldest_unfinished().await?;
        let age = oldest.map_or(0, |at| ports.clock.now().duration_since(at).as_secs());
        ports.metrics.oldest_undelivered.set(i64::try_from(age).unwrap_or(i64::MAX));
        for (org_id, channel_id) in self.inner.ports.store.channels_with_deliveries().await? {
            self.wake_channel(org_id, channel_id);
        }
        Ok(())
    }
}
