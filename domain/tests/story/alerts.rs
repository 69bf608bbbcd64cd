//! Who is woken at night, and how often.

use std::time::Duration;

use pulse_domain::org::{Effect, Input};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::OrgRecord;
use pulse_domain::request::{Refusal, Request};
use pulse_protocol::agent::{AgentFrame, Bye, ByeReason, CloseCode};
use pulse_protocol::api::{AgentPatch, OrgPatch, OrgStatus, Plan};
use pulse_protocol::event::{AgentStatus, EventBody};
use pulse_protocol::ids::{AgentId, DeviceId};
use pulse_protocol::status::{AgentState, Cause, CheckKind, DeviceStatus};

use crate::hub::Hub;
use crate::orders;

const NIGHT: &[&str] = &[
    "agent.online",
    "agent.offline",
    "device.online",
    "device.offline",
    "device.degraded",
    "device.unknown",
];
const GRACE: Duration = Duration::from_secs(5);

/// An org that wakes somebody for everything, with one agent and 50 devices, all online.
fn watched() -> (Hub, AgentId, ConnectionId) {
    let mut hub = Hub::new(Plan::Trial);
    hub.tell_of(NIGHT);
    let agent_id = hub.add_agent("north");
    for host in 0..50 {
        let mut new = orders::device(agent_id, &format!("10.0.0.{host}"));
        new.checks =
            Some(vec![orders::check(CheckKind::Ping, 2), orders::check(CheckKind::Http, 1)]);
        let device_id = DeviceId::from_uuid(hub.id());
        hub.ask(Request::AddDevice(device_id, new)).unwrap();
    }
    let (connection, _) = hub.connect(agent_id, "spool");
    hub.send(agent_id, connection, all(&hub, 1, |_, _| DeviceStatus::Online));
    (hub, agent_id, connection)
}

/// A report of every check of every device.
fn all(hub: &Hub, seq: u64, status: impl Fn(usize, CheckKind) -> DeviceStatus) -> AgentFrame {
    let devices = hub.org.snapshot().devices;
    let results = devices.iter().enumerate().flat_map(|(number, device)| {
        let result = |kind| status(number, kind);
        device.checks.iter().map(move |check| (check.id, result(check.check))).collect::<Vec<_>>()
    });
    orders::report(
        seq,
        results.map(|(check_id, status)| orders::by_check(check_id, status, hub.now)).collect(),
    )
}

fn last_offline(hub: &Hub) -> AgentStatus {
    let event = hub.journal.iter().rfind(|event| &*event.name == "agent.offline").unwrap();
    match EventBody::from_columns(&event.name, &event.data).unwrap() {
        EventBody::AgentOffline(data) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_connection_and_the_first_results_wake_nobody() {
    let (hub, _, _) = watched();
    assert_eq!(hub.alerts_since(0), [""; 0]);
    let online = hub.journal.iter().find(|event| &*event.name == "agent.online").unwrap();
    assert!(online.data.contains(r#""previous":"never_connected""#), "{}", online.data);
    assert_eq!(hub.told_since(0).iter().filter(|name| **name == "device.online").count(), 50);
}

#[test]
fn an_agents_death_and_return_are_one_alert_each() {
    let (mut hub, agent_id, connection) = watched();
    let died_at = hub.org.seq();
    hub.take(Input::HangUp { agent_id, connection, cause: Cause::HeartbeatTimeout });
    hub.live_through(GRACE - Duration::from_millis(1));
    assert_eq!(hub.told_since(died_at), [""; 0]);
    hub.live_through(Duration::from_millis(1));
    assert_eq!(hub.alerts_since(died_at), ["agent.offline"]);
    assert_eq!(last_offline(&hub).cause, Cause::HeartbeatTimeout);
    let devices = hub.org.snapshot().devices;
    assert!(devices.iter().all(|device| device.status == DeviceStatus::Unknown));

    let back_at = hub.org.seq();
    let (connection, _) = hub.connect(agent_id, "spool");
    hub.send(agent_id, connection, all(&hub, 2, |_, _| DeviceStatus::Online));
    assert_eq!(hub.alerts_since(back_at), ["agent.online"]);
    assert_eq!(hub.org.snapshot().counts.devices_online, 50);
}

#[test]
fn a_device_that_fell_while_its_agent_was_away_is_one_alert() {
    let (mut hub, agent_id, connection) = watched();
    hub.hang_up(agent_id, connection);
    hub.live_through(GRACE);
    let back_at = hub.org.seq();
    let (connection, _) = hub.connect(agent_id, "spool");
    let fallen = |number, _| if number == 7 { DeviceStatus::Offline } else { DeviceStatus::Online };
    for seq in 2..6 {
        hub.send(agent_id, connection, all(&hub, seq, fallen));
    }
    assert_eq!(hub.alerts_since(back_at), ["agent.online", "device.offline"]);
}

#[test]
fn a_standing_fault_is_not_told_again_because_the_agent_returned() {
    let (mut hub, agent_id, connection) = watched();
    let fault = |number, kind| match (number, kind) {
        (7, CheckKind::Http) => DeviceStatus::Offline,
        _ => DeviceStatus::Online,
    };
    hub.send(agent_id, connection, all(&hub, 2, fault));
    assert_eq!(hub.alerts_since(0), ["device.offline"]);
    hub.hang_up(agent_id, connection);
    hub.live_through(GRACE);
    let back_at = hub.org.seq();
    let (connection, _) = hub.connect(agent_id, "spool");
    hub.send(agent_id, connection, all(&hub, 3, fault));
    assert_eq!(hub.alerts_since(back_at), ["agent.online"]);
    hub.send(agent_id, connection, all(&hub, 4, |_, _| DeviceStatus::Online));
    assert_eq!(hub.alerts_since(back_at), ["agent.online", "device.online"]);
}

#[test]
fn a_success_between_failures_starts_the_count_again_across_a_restart_of_the_hub() {
    let (mut hub, agent_id, mut connection) = watched();
    for (seq, status) in
        [(2, DeviceStatus::Offline), (3, DeviceStatus::Online), (4, DeviceStatus::Offline)]
    {
        let pings = |_, kind| if kind == CheckKind::Ping { status } else { DeviceStatus::Online };
        hub.send(agent_id, connection, all(&hub, seq, pings));
        hub.restart();
        connection = hub.connect(agent_id, "spool").0;
    }
    assert_eq!(hub.alerts_since(0), [""; 0]);
}

#[test]
fn a_restarted_hub_announces_only_who_stays_away() {
    let (mut hub, agent_id, _) = watched();
    let other = hub.add_agent("south");
    hub.connect(other, "spool");
    hub.pass(Duration::from_secs(3_600));
    let stopped_at = hub.org.seq();
    hub.restart();
    hub.live_through(GRACE - Duration::from_millis(1));
    hub.connect(agent_id, "spool");
    assert_eq!(hub.told_since(stopped_at), [""; 0]);
    hub.live_through(GRACE);
    assert_eq!(hub.alerts_since(stopped_at), ["agent.offline"]);
    assert_eq!(last_offline(&hub).agent_id, other);
}

#[test]
fn a_planned_leave_holds_the_alert_back_across_a_restart() {
    let (mut hub, agent_id, connection) = watched();
    let bye = Bye { reason: ByeReason::Upgrade, expect_back_ms: Some(60_000) };
    hub.take(Input::Bye { agent_id, connection, bye });
    hub.live_through(Duration::from_secs(30));
    hub.restart();
    hub.live_through(Duration::from_secs(34));
    assert_eq!(hub.alerts_since(0), [""; 0]);
    hub.live_through(Duration::from_secs(1));
    assert_eq!(
        (hub.alerts_since(0), last_offline(&hub).cause),
        (vec!["agent.offline"], Cause::ByeOverdue)
    );
}

#[test]
fn a_shutdown_without_a_return_is_told_at_once() {
    let (mut hub, agent_id, connection) = watched();
    let bye = Bye { reason: ByeReason::Shutdown, expect_back_ms: None };
    let effects = hub.take(Input::Bye { agent_id, connection, bye });
    assert!(effects.contains(&Effect::Close(connection, CloseCode::Normal)));
    assert_eq!(
        (hub.alerts_since(0), last_offline(&hub).cause),
        (vec!["agent.offline"], Cause::Bye)
    );
}

#[test]
fn a_newer_connection_wins_and_nothing_is_announced() {
    let (mut hub, agent_id, older) = watched();
    let before = hub.org.seq();
    let (newer, effects) = hub.hello(agent_id, "spool", 2);
    assert!(effects.contains(&Effect::Close(older, CloseCode::Superseded)));
    hub.hang_up(agent_id, older);
    hub.live_through(GRACE * 2);
    assert_eq!(hub.told_since(before), [""; 0]);
    assert_eq!(hub.send(agent_id, older, all(&hub, 2, |_, _| DeviceStatus::Offline)), []);
    let acked = hub.send(agent_id, newer, all(&hub, 2, |_, _| DeviceStatus::Online));
    assert_eq!(acked, [Effect::Ack(newer, 2)]);
}

#[test]
fn who_switches_an_agent_off_is_not_told_so() {
    let (mut hub, agent_id, connection) = watched();
    let off = AgentPatch { name: None, enabled: Some(false) };
    let (_, effects) = hub.ask(Request::PatchAgent(agent_id, off)).unwrap();
    assert!(effects.contains(&Effect::Close(connection, CloseCode::KeyRevoked)));
    assert_eq!(hub.alerts_since(0), [""; 0]);
    assert_eq!(last_offline(&hub).current, AgentState::Disabled);
    assert_eq!(hub.org.snapshot().agents[0].state, AgentState::Disabled);
    let (refused, effects) = hub.hello(agent_id, "spool", 1);
    assert_eq!(effects, [Effect::Close(refused, CloseCode::KeyRevoked)]);
}

fn settle(hub: &mut Hub, status: OrgStatus) -> Vec<Effect> {
    let record = OrgRecord { status, ..hub.tables.org.clone() };
    hub.tables.org = record.clone();
    hub.take(Input::Standing(record.standing()))
}

#[test]
fn a_suspended_org_is_left_by_its_agents_and_refuses_everything_until_it_is_reactivated() {
    let (mut hub, agent_id, connection) = watched();
    let effects = settle(&mut hub, OrgStatus::Suspended);
    assert!(effects.contains(&Effect::Close(connection, CloseCode::OrgSuspended)));
    let offline = last_offline(&hub);
    assert_eq!((offline.current, offline.cause), (AgentState::Offline, Cause::Disabled));
    assert_eq!(
        hub.org.snapshot().agents[0].state,
        AgentState::Offline,
        "the agent itself is not disabled"
    );
    assert_eq!(hub.alerts_since(0), [""; 0]);
    assert_eq!(hub.send(agent_id, connection, all(&hub, 2, |_, _| DeviceStatus::Offline)), []);
    let (refused, effects) = hub.hello(agent_id, "spool", 2);
    assert_eq!(effects, [Effect::Close(refused, CloseCode::OrgSuspended)]);
    assert_eq!(hub.ask(Request::RemoveAgent(agent_id)).unwrap_err(), Refusal::OrgSuspended);

    settle(&mut hub, OrgStatus::Cancelled);
    assert_eq!(hub.ask(Request::RemoveAgent(agent_id)).unwrap_err(), Refusal::OrgCancelled);
    settle(&mut hub, OrgStatus::Active);
    let told = hub.told_since(0);
    let of_org: Vec<_> = told.into_iter().filter(|name| name.starts_with("org.")).skip(1).collect();
    assert_eq!(of_org, ["org.suspended", "org.cancelled", "org.reactivated"]);
    assert_eq!(hub.connect(agent_id, "spool").1.acked_seq, 1, "nothing was taken meanwhile");
    assert_eq!(hub.alerts_since(0), ["agent.online"]);
}

#[test]
fn a_row_that_was_read_before_a_patch_undoes_nothing_of_it() {
    let (mut hub, _, _) = watched();
    let read_before = OrgRecord { status: OrgStatus::PastDue, ..hub.tables.org.clone() };
    let patch = OrgPatch {
        name: Some("New".to_owned()),
        heartbeat_timeout_ms: Some(30_000),
        ..OrgPatch::default()
    };
    hub.ask(Request::PatchOrg(patch)).unwrap();
    hub.tables.org.status = read_before.status;
    hub.take(Input::Standing(read_before.standing()));
    let record = hub.org.record();
    assert_eq!((record.name.as_str(), record.heartbeat_timeout_ms), ("New", Some(30_000)));
    assert_eq!(record.status, OrgStatus::PastDue);
}

#[test]
fn an_org_that_was_suspended_while_the_hub_was_away_wakes_nobody() {
    let (mut hub, _, _) = watched();
    hub.tables.org.status = OrgStatus::Suspended;
    let (mut org, now) = (hub.loaded(), hub.now + GRACE);
    let batch = org.take(Input::Wake, now, &mut hub.ids).batch;
    assert_eq!(&*batch.events[0].name, "agent.offline");
    assert_eq!(batch.events.len(), 51, "the agent and its devices, and no delivery");
}

#[test]
fn an_idle_org_is_one_that_nothing_is_waited_for() {
    let (mut hub, agent_id, connection) = watched();
    assert!(!hub.org.is_idle());
    hub.hang_up(agent_id, connection);
    assert!(!hub.org.is_idle(), "the grace runs");
    hub.live_through(GRACE);
    assert!(hub.org.is_idle());
    assert_eq!(hub.org.next_wake_at(), None);
}
