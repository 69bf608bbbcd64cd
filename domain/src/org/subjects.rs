//! What an event is about, as the filters of rules and maintenance windows see it.

use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, DeviceId, SegmentId};

use super::{DeviceEntry, Org};
use crate::notification::alert::Resource;
use crate::notification::filter::Subject;
use crate::notification::happening::{Nature, nature};
use crate::notification::rule;

impl DeviceEntry {
    fn subject(&self) -> Subject {
        Subject {
            id: self.record.id.to_string(),
            name: self.record.name.clone(),
            agent_id: Some(self.record.agent_id),
            device_id: Some(self.record.id),
            segment_id: self.record.segment_id,
            category_id: self.record.category_id,
        }
    }
}

fn of_agent(agent_id: AgentId, name: &str) -> Subject {
    let (id, name) = (agent_id.to_string(), name.to_owned());
    Subject { id, name, agent_id: Some(agent_id), ..Subject::default() }
}

fn named(id: impl std::fmt::Display, name: &str) -> Subject {
    Subject { id: id.to_string(), name: name.to_owned(), ..Subject::default() }
}

impl Org {
    /// What rules ask about an event, and of an agent that is away its devices; none if no rule asks.
    pub(super) fn asked_by_rules(&self, body: &EventBody) -> Option<(Subject, Vec<Subject>)> {
        if self.rules.is_empty() || nature(body) == Nature::News {
            return None;
        }
        Some(self.subject(body, self.rules.values().any(rule::groups_absence)))
    }

    /// What an event is about, and of an agent that is away its devices, if they are wanted.
    pub(super) fn subject(&self, body: &EventBody, wants_devices: bool) -> (Subject, Vec<Subject>) {
        let subject = match body {
            EventBody::AgentOffline(data) => {
                let has_devices = wants_devices && data.devices_unknown.is_some();
                let devices =
                    if has_devices { self.subjects_of(data.agent_id) } else { Vec::new() };
                return (of_agent(data.agent_id, &data.name), devices);
            }
            EventBody::AgentOnline(data) => of_agent(data.agent_id, &data.name),
            EventBody::AgentEnrolled(data) | EventBody::AgentUpdated(data) => {
                of_agent(data.agent_id, &data.name)
            }
            EventBody::AgentRemoved(data) => of_agent(data.agent_id, &data.name),
            EventBody::DeviceDiscovered(data) | EventBody::DeviceUpdated(data) => Subject {
                category_id: data.device.category_id,
                ..of_device(
                    data.device_id,
                    &data.name,
                    data.device.agent_id,
                    data.device.segment_id,
                )
            },
            EventBody::DeviceOnline(data)
            | EventBody::DeviceOffline(data)
            | EventBody::DeviceDegraded(data)
            | EventBody::DeviceUnknown(data) => Subject {
                category_id: self.devices.get(&data.device_id).and_then(|it| it.record.category_id),
                ..of_device(data.device_id, &data.name, data.agent_id, data.segment_id)
            },
            EventBody::DeviceRemoved(data) => match self.devices.get(&data.device_id) {
                Some(device) => device.subject(),
                None => of_device(data.device_id, &data.name, data.agent_id, None),
            },
            EventBody::ScanStarted(data)
            | EventBody::ScanCompleted(data)
            | EventBody::ScanFailed(data) => Subject {
                agent_id: Some(data.agent_id),
                segment_id: Some(data.segment_id),
                ..named(data.segment_id, &data.name)
            },
            EventBody::CommandIssued(data)
            | EventBody::CommandDelivered(data)
            | EventBody::CommandSucceeded(data)
            | EventBody::CommandFailed(data)
            | EventBody::CommandExpired(data) => {
                Subject { agent_id: Some(data.agent_id), ..named(data.command_id, &data.name) }
            }
            EventBody::ChannelCreated(data) | EventBody::ChannelUpdated(data) => {
                named(data.channel_id, &data.name)
            }
            EventBody::ChannelHealthy(data)
            | EventBody::ChannelDegraded(data)
            | EventBody::ChannelDisabled(data) => named(data.channel_id, &data.name),
            EventBody::ChannelRemoved(data) => named(data.channel_id, &data.name),
            EventBody::OrgUpdated(data)
            | EventBody::OrgSuspended(data)
            | EventBody::OrgCancelled(data)
            | EventBody::OrgReactivated(data) => named(data.org_id, &data.name),
            EventBody::AlertAcknowledged(data) => named(data.alert_id, &data.name),
            EventBody::MaintenanceStarted(data) | EventBody::MaintenanceEnded(data) => {
                named(data.window_id, &data.name)
            }
            EventBody::DeliveryQueued(_)
            | EventBody::DeliveryDelivered(_)
            | EventBody::DeliveryRetrying(_)
            | EventBody::DeliveryDead(_)
            | EventBody::DeliverySuppressed(_)
            | EventBody::DeliverySuperseded(_)
            | EventBody::DeliveryDiscarded(_) => Subject::default(),
        };
        (subject, Vec::new())
    }

    /// A resource as it is now, and of an agent its devices.
    pub(super) fn resource(&self, resource: Resource) -> Option<(Subject, Vec<Subject>)> {
        match resource {
            Resource::Agent(id) => {
                let agent = self.agents.get(&id)?;
                Some((of_agent(id, &agent.record.name), self.subjects_of(id)))
            }
            Resource::Device(id) => Some((self.devices.get(&id)?.subject(), Vec::new())),
        }
    }

    fn subjects_of(&self, agent_id: AgentId) -> Vec<Subject> {
        let agent = self.agents.get(&agent_id);
        let ids = agent.into_iter().flat_map(|agent| agent.devices.iter().map(|(_, id)| id));
        ids.filter_map(|id| self.devices.get(id)).map(DeviceEntry::subject).collect()
    }
}

fn of_device(
    device_id: DeviceId,
    name: &str,
    agent_id: AgentId,
    segment_id: Option<SegmentId>,
) -> Subject {
    Subject {
        agent_id: Some(agent_id),
        device_id: Some(device_id),
        segment_id,
        ..named(device_id, name)
    }
}
