//! One org with a site that is watched.

use std::time::Duration;

use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{DeliveryRecord, Hidden};
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{Alert, DeliveryState, NewMaintenanceWindow, NewRule, Plan};
use pulse_protocol::ids::{AgentId, ChannelId, DeviceId, RuleId, WindowId};
use pulse_protocol::status::DeviceStatus::{self, Online};

use crate::hub::{Hub, webhook};
use crate::orders;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// An org with one agent that is connected and three devices that are online, and no rule yet.
pub(crate) struct Site {
    pub(crate) hub: Hub,
    pub(crate) agent_id: AgentId,
    pub(crate) connection: ConnectionId,
    pub(crate) devices: Vec<DeviceId>,
    pub(crate) seq: u64,
    pub(crate) channel: ChannelId,
}

impl Site {
    pub(crate) fn new() -> Self {
        let mut hub = Hub::new(Plan::Trial);
        let channel = add_channel(&mut hub);
        let agent_id = hub.add_agent("north");
        let (connection, _) = hub.connect(agent_id, "spool");
        let mut site = Self { hub, agent_id, connection, devices: vec![], seq: 0, channel };
        for host in 0..3 {
            let device_id = DeviceId::from_uuid(site.hub.id());
            let mut new = orders::device(agent_id, &format!("10.0.0.{host}"));
            new.name = Some(format!("device {host}"));
            site.hub.ask(Request::AddDevice(device_id, new)).unwrap();
            site.devices.push(device_id);
        }
        site.all_are(Online);
        site
    }

    /// A rule that wants everything of devices and agents told at once.
    pub(crate) fn new_rule(&self) -> NewRule {
        let events = [
            "agent.online",
            "agent.offline",
            "device.online",
            "device.offline",
            "device.degraded",
            "device.unknown",
        ];
        NewRule {
            name: "night".to_owned(),
            event_types: events.map(str::to_owned).to_vec(),
            channel_ids: vec![self.channel],
            cooldown_s: Some(0),
            flap_detection: Some(false),
            ..NewRule::default()
        }
    }

    pub(crate) fn add_rule(&mut self, new: NewRule) -> RuleId {
        let rule_id = RuleId::from_uuid(self.hub.id());
        self.hub.ask(Request::AddRule(rule_id, new)).unwrap();
        rule_id
    }

    pub(crate) fn is(&mut self, device: usize, status: DeviceStatus) {
        self.are(&[device], status);
    }

    pub(crate) fn all_are(&mut self, status: DeviceStatus) {
        self.are(&[0, 1, 2], status);
    }

    pub(crate) fn are(&mut self, devices: &[usize], status: DeviceStatus) {
        self.seq += 1;
        let result =
            |number: &usize| orders::by_address(&format!("10.0.0.{number}"), status, self.hub.now);
        let frame = orders::report(self.seq, devices.iter().map(result).collect());
        self.hub.send(self.agent_id, self.connection, frame);
    }

    pub(crate) fn dies(&mut self) {
        self.hub.hang_up(self.agent_id, self.connection);
        self.hub.live_through(GRACE);
    }

    pub(crate) fn returns(&mut self) {
        self.connection = self.hub.hello(self.agent_id, "spool", self.seq + 1).0;
    }

    pub(crate) fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.hub.tables.deliveries.values().cloned().collect()
    }

    /// Every delivery in short: event, resource, and why it is sent or not.
    pub(crate) fn told(&self) -> Vec<String> {
        let short = |record: &DeliveryRecord| {
            let content = &record.content;
            let why = match content.suppressed_by {
                Some(why) => why.as_str(),
                None => content.reason.as_str(),
            };
            assert_eq!(record.state == DeliveryState::Suppressed, content.suppressed_by.is_some());
            assert_eq!(record.next_attempt_at.is_some(), content.suppressed_by.is_none());
            format!("{} {} {why}", record.event_name, content.resource_name)
        };
        self.deliveries().iter().map(short).collect()
    }

    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let all = Query::Alerts { state: None, after: None, limit: 100 };
        let Ok(Reply::Alerts(alerts)) = self.hub.org.answer(all) else { unreachable!() };
        alerts
    }

    pub(crate) fn window(&mut self, from: Duration, lasts: Duration) -> WindowId {
        let window_id = WindowId::from_uuid(self.hub.id());
        let new = NewMaintenanceWindow {
            name: "patches".to_owned(),
            filters: None,
            starts_at: self.hub.now + from,
            ends_at: self.hub.now + from + lasts,
            timezone: None,
            recurrence: None,
            days: vec![],
            until: None,
        };
        self.hub.ask(Request::AddWindow(window_id, new)).unwrap();
        window_id
    }
}

pub(crate) fn add_channel(hub: &mut Hub) -> ChannelId {
    let channel_id = ChannelId::from_uuid(hub.id());
    hub.ask(Request::AddChannel { channel_id, new: webhook(), hidden: Hidden::default() }).unwrap();
    channel_id
}
