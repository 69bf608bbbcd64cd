//! One org with an agent and a channel.

use std::time::Duration;

use actix::Addr;
use pulse_actors::org::OrgActor;
use pulse_actors::ports::{Clock, Verdict};
use pulse_actors::testing::{Fleet, RecordingAgent, World, settle};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{ChannelRecord, DeliveryRecord};
use pulse_domain::request::Request;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{ChannelKind, ChannelPatch, DeliveryState};
use pulse_protocol::ids::{ChannelId, DeliveryId};
use pulse_protocol::status::DeviceStatus;

/// What the channel is told of.
pub(crate) const TOLD: &[&str] = &["device.discovered", "device.offline", "device.online"];

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) fleet: Fleet,
    pub(crate) home: Addr<OrgActor>,
    pub(crate) connection: ConnectionId,
    pub(crate) channel_id: ChannelId,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::of(ChannelKind::Webhook).await
    }

    pub(crate) async fn of(kind: ChannelKind) -> Self {
        tokio::time::pause();
        let world = World::new().unwrap();
        let fleet = world.fleet().await.unwrap();
        let channel_id = world.channel_of(kind, fleet.org_id, TOLD).await.unwrap();
        let home = world.directory.org(fleet.org_id).await.unwrap();
        let connection = fleet.attach(&home, &RecordingAgent::default(), 1);
        home.do_send(fleet.segments(connection));
        settle().await;
        Self { world, fleet, home, connection, channel_id }
    }

    /// A new device, which the channel is told of.
    pub(crate) fn find_device(&self, seq: u64) {
        self.report(seq, seq, DeviceStatus::Online);
    }

    /// Frame number `seq` says how a device is; the channel is told if that is news.
    pub(crate) fn report(&self, seq: u64, device: u64, status: DeviceStatus) {
        let address = format!("10.0.0.{device}");
        self.home.do_send(self.fleet.report(self.connection, seq, &address, status));
    }

    pub(crate) fn sent(&self) -> Vec<DeliveryId> {
        self.world.sender.sent().into_iter().map(|(_, delivery_id, _)| delivery_id).collect()
    }

    /// Names of the events that were sent, in order.
    pub(crate) fn sent_events(&self) -> Vec<String> {
        self.world.sender.sent().into_iter().map(|(.., event)| event).collect()
    }

    pub(crate) fn records(&self) -> Vec<DeliveryRecord> {
        let records = self.world.store.delivery_records(self.fleet.org_id);
        records.into_iter().map(|(record, _)| record).collect()
    }

    pub(crate) fn deliveries(&self) -> Vec<(DeliveryId, DeliveryState, usize)> {
        let records = self.world.store.delivery_records(self.fleet.org_id);
        records.into_iter().map(|(record, tries)| (record.id, record.state, tries)).collect()
    }

    pub(crate) fn states(&self) -> Vec<DeliveryState> {
        self.deliveries().into_iter().map(|(_, state, _)| state).collect()
    }

    /// The channel as it is stored.
    pub(crate) fn channel(&self) -> ChannelRecord {
        let image = self.world.store.image(self.fleet.org_id).unwrap();
        image.channels.into_iter().find(|channel| channel.id == self.channel_id).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Changes the channel, as a person would.
    pub(crate) async fn patch(&self, patch: ChannelPatch) {
        let channel_id = self.channel_id;
        let request = Request::PatchChannel { channel_id, patch, hidden_config: None };
        self.world.directory.request(self.fleet.org_id, request).await.unwrap();
    }

    /// Gives the channel its own schedule.
    pub(crate) async fn retry_after_seconds(&self, schedule: &[u32]) {
        let retry_schedule_s = Some(schedule.to_vec());
        self.patch(ChannelPatch { retry_schedule_s, ..ChannelPatch::default() }).await;
    }

    pub(crate) async fn switch(&self, enabled: bool) {
        self.patch(ChannelPatch { enabled: Some(enabled), ..ChannelPatch::default() }).await;
    }

    pub(crate) async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            settle().await;
        }
    }
}

pub(crate) fn retry() -> Verdict {
    Verdict::retry(Some(503), "busy")
}
