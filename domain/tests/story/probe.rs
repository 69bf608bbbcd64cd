//! Puts an org to the test: what it answers tells how it is where nothing is shown.

use pulse_domain::org::{Input, Org};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{OrgRecord, Standing};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{Bye, ByeReason, CheckResult};
use pulse_protocol::api::OrgStatus;
use pulse_protocol::ids::AgentId;
use pulse_protocol::status::DeviceStatus;

use crate::hub::{Counter, hello};
use crate::orders;

/// What an org answers when every agent is lost, returns and reports one result for each of its devices: the
/// events in full, but for the passing facts that [`crate::shown`] names.
pub(crate) fn answers(
    mut org: Org,
    record: OrgRecord,
    now: Timestamp,
) -> Vec<(String, serde_json::Value)> {
    let mut ids = Counter(1 << 100);
    let mut told = vec![];
    let mut tell = |org: &mut Org, input: Input| {
        for event in org.take(input, now, &mut ids).batch.events {
            let mut data = serde_json::from_str(&event.data).unwrap();
            forget_passing_facts(&mut data);
            told.push((event.name.to_string(), data));
        }
    };
    let status_reason = Some("probe".to_owned());
    tell(
        &mut org,
        Input::Standing(Standing { status: OrgStatus::Active, status_reason, ..record.standing() }),
    );
    let agents: Vec<AgentId> = org.snapshot().agents.iter().map(|agent| agent.id).collect();
    for (agent_id, number) in agents.into_iter().zip(1..) {
        let [first, second] =
            [1, 2].map(|half| ConnectionId(uuid::Uuid::from_u128(number << 8 | half)));
        let mut hello = hello("probe", 1);
        hello.agent_version = "probe".to_owned();
        tell(&mut org, Input::Hello { agent_id, connection: first, hello: hello.clone() });
        let bye = Bye { reason: ByeReason::Shutdown, expect_back_ms: None };
        tell(&mut org, Input::Bye { agent_id, connection: first, bye });
        tell(&mut org, Input::Hello { agent_id, connection: second, hello });
        let devices =
            org.snapshot().devices.into_iter().filter(|device| device.agent_id == agent_id);
        let results = devices.map(|device| match device.checks.first() {
            Some(check) => orders::by_check(check.id, DeviceStatus::Degraded, now),
            None => CheckResult {
                device_id: Some(device.id),
                ..orders::by_address("", DeviceStatus::Degraded, now)
            },
        });
        let frame = orders::report(1, results.collect());
        tell(&mut org, Input::Frame { agent_id, connection: second, frame });
    }
    told
}

fn forget_passing_facts(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("last_seen_at");
            fields.remove("response_time_ms");
            fields.values_mut().for_each(forget_passing_facts);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget_passing_facts),
        _ => {}
    }
}
