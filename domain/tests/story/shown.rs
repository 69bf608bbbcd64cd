//! What is compared of two orgs, and what is left out, each for a reason.

use pulse_domain::org::Org;
use pulse_domain::request::{Query, Reply};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Alert, Limits, MaintenanceWindow, Rule};
use pulse_protocol::dashboard::Snapshot;
use pulse_protocol::status::AgentState;
use serde::Serialize;
use serde_json::Value;

/// What is shown, but for three facts that are true only in passing:
///
/// - `last_seen_at` moves with every frame, and is written only when something else of the presence is;
/// - `lingering` is `online`: which socket an agent holds is neither in the journal nor in the tables;
/// - `response_time_ms` moves with every result; between two changes of a device it is neither numbered nor
///   written.
fn lasting(org: &Org) -> Snapshot {
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
    shown
}

/// What the tables must give again: all that is shown, the rules, what they remember, and the maintenance windows.
pub(crate) fn of_tables(
    org: &Org,
) -> (Snapshot, Vec<Rule>, Vec<Alert>, Vec<MaintenanceWindow>, Option<Timestamp>) {
    let Ok(Reply::Rules(rules)) = org.answer(Query::Rules { after: None, limit: usize::MAX })
    else {
        unreachable!("a list is answered with a list")
    };
    let every = Query::Alerts { state: None, after: None, limit: usize::MAX };
    let Ok(Reply::Alerts(alerts)) = org.answer(every) else {
        unreachable!("a list is answered with a list")
    };
    let at = Timestamp::from_unix_ms(0);
    let Ok(Reply::Windows(windows)) =
        org.answer(Query::Windows { at, after: None, limit: usize::MAX })
    else {
        unreachable!("a list is answered with a list")
    };
    (lasting(org), rules, alerts, windows, org.next_alert_at())
}

/// What the journal must give again: all that is shown, but for
///
/// - `seq`, because folding does not number, and
/// - the org's plan and liveness, because `org.updated` names the org and its status only; the rules' contents
///   are missing in the journal for the same reason.
pub(crate) fn of_journal(org: &Org) -> Snapshot {
    const NONE: Limits = Limits { agents: 0, devices: 0, users: 0, api_calls_month: 0 };
    let mut shown = lasting(org);
    shown.seq = 0;
    shown.org.plan = pulse_protocol::api::Plan::Trial;
    shown.org.limits = NONE;
    shown.org.heartbeat_interval_ms = 0;
    shown.org.heartbeat_timeout_ms = 0;
    shown.org.offline_grace_ms = 0;
    shown
}

/// The first place where two things that are shown differ.
pub(crate) fn difference(one: &impl Serialize, other: &impl Serialize) -> Option<String> {
    fn walk(path: &str, one: &Value, other: &Value) -> Option<String> {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) if one.len() == other.len() => {
                let missing = Value::Null;
                one.iter().find_map(|(key, value)| {
                    walk(&format!("{path}.{key}"), value, other.get(key).unwrap_or(&missing))
                })
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                (0..one.len()).find_map(|at| walk(&format!("{path}[{at}]"), &one[at], &other[at]))
            }
            (one, other) => (one != other).then(|| format!("{path}: {one} is not {other}")),
        }
    }
    walk("", &serde_json::to_value(one).unwrap(), &serde_json::to_value(other).unwrap())
}
