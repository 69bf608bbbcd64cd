//! What an org shows that lasts: the journal and the tables must both give it.

use pulse_domain::org::Org;
use pulse_protocol::api::{Limits, Plan};
use pulse_protocol::dashboard::Snapshot;
use pulse_protocol::status::AgentState;

/// What is shown, but for what is true only in passing (when an agent was last seen, whether it lingers, how fast a
/// device answered last) and what is not in the journal (its own number, the org's plan and liveness).
pub(crate) fn of(org: &Org) -> Snapshot {
    const NONE: Limits = Limits { agents: 0, devices: 0, users: 0, api_calls_month: 0 };
    let mut shown = org.snapshot();
    for agent in &mut shown.agents {
        agent.last_seen_at = None;
        if agent.state == AgentState::Lingering {
            agent.state = AgentState::Online;
        }
    }
    for device in &mut shown.devices {
        device.response_time_ms = None;
    }
    shown.seq = 0;
    shown.org.plan = Plan::Trial;
    shown.org.limits = NONE;
    shown.org.heartbeat_interval_ms = 0;
    shown.org.heartbeat_timeout_ms = 0;
    shown.org.offline_grace_ms = 0;
    shown
}
