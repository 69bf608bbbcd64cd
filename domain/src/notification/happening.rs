//! What an event of the journal is to the rules.

use pulse_protocol::event::EventBody;
use pulse_protocol::status::Cause;

use super::alert::{EventRef, Resource};
use super::filter::Subject;

/// What an event is to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Something is wrong with a resource.
    Problem {
        /// With what.
        resource: Resource,
        /// Whether it is so only because its agent is away.
        by_absence: bool,
    },
    /// A resource is right again.
    Recovery(Resource),
    /// Something happened.
    Once {
        /// Whether the same can happen to the same thing again.
        repeats: bool,
        /// Whether maintenance and quiet hours hold it back.
        can_be_held: bool,
    },
    /// Nothing that is ever told.
    News,
}

/// An event with what rules ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The event.
    pub event: EventRef,
    /// What it is to the rules.
    pub nature: Nature,
    /// What it is about.
    pub subject: Subject,
    /// Of an agent that is away: the devices nobody can tell of now.
    pub companions: Vec<Subject>,
}

/// What an event is to the rules.
#[must_use]
pub const fn nature(body: &EventBody) -> Nature {
    const ONCE: Nature = Nature::Once { repeats: false, can_be_held: true };
    const AGAIN: Nature = Nature::Once { repeats: true, can_be_held: true };
    const OF_RULES: Nature = Nature::Once { repeats: false, can_be_held: false };
    match body {
        EventBody::AgentOffline(data) => {
            Nature::Problem { resource: Resource::Agent(data.agent_id), by_absence: false }
        }
        EventBody::AgentOnline(data) => Nature::Recovery(Resource::Agent(data.agent_id)),
        EventBody::DeviceOffline(data)
        | EventBody::DeviceDegraded(data)
        | EventBody::DeviceUnknown(data) => Nature::Problem {
            resource: Resource::Device(data.device_id),
            by_absence: matches!(data.cause, Cause::AgentOffline),
        },
        EventBody::DeviceOnline(data) => Nature::Recovery(Resource::Device(data.device_id)),
        EventBody::AgentUpdated(_)
        | EventBody::DeviceUpdated(_)
        | EventBody::ScanStarted(_)
        | EventBody::ScanCompleted(_)
        | EventBody::ScanFailed(_)
        | EventBody::ChannelUpdated(_)
        | EventBody::ChannelHealthy(_)
        | EventBody::ChannelDegraded(_)
        | EventBody::ChannelDisabled(_)
        | EventBody::OrgUpdated(_) => AGAIN,
        EventBody::AgentEnrolled(_)
        | EventBody::AgentRemoved(_)
        | EventBody::DeviceDiscovered(_)
        | EventBody::DeviceRemoved(_)
        | EventBody::CommandIssued(_)
        | EventBody::CommandDelivered(_)
        | EventBody::CommandSucceeded(_)
        | EventBody::CommandFailed(_)
        | EventBody::CommandExpired(_)
        | EventBody::ChannelCreated(_)
        | EventBody::ChannelRemoved(_) => ONCE,
        // What an org is suspended for does not wait for the end of a window that nobody may change meanwhile.
        EventBody::OrgSuspended(_)
        | EventBody::OrgCancelled(_)
        | EventBody::OrgReactivated(_)
        | EventBody::AlertAcknowledged(_)
        | EventBody::MaintenanceStarted(_)
        | EventBody::MaintenanceEnded(_) => OF_RULES,
        EventBody::DeliveryQueued(_)
        | EventBody::DeliveryDelivered(_)
        | EventBody::DeliveryRetrying(_)
        | EventBody::DeliveryDead(_)
        | EventBody::DeliverySuppressed(_)
        | EventBody::DeliverySuperseded(_)
        | EventBody::DeliveryDiscarded(_) => Nature::News,
    }
}
