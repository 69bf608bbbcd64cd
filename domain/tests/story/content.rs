//! What agents send: taken, or acked and rejected once without any change.

use pulse_domain::org::{Effect, Input};
use pulse_domain::presence::ConnectionId;
use pulse_domain::request::Request;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentErrorCode, AgentFrame, CloseCode, CommandKind, CommandProgress, ScanOutcome,
};
use pulse_protocol::api::{CommandState, NewCommand, Plan, ScanState};
use pulse_protocol::ids::{AgentId, CheckId, CommandId, DeviceId, ScanId, SegmentId};
use pulse_protocol::status::{CheckKind, DeviceStatus};

use crate::hub::{Hub, hello, welcome};
use crate::orders;

/// One agent with a segment and a device, another one with nothing.
struct Site {
    hub: Hub,
    north: AgentId,
    south: AgentId,
    to_north: ConnectionId,
    to_south: ConnectionId,
    segment: SegmentId,
    check: CheckId,
}

fn site(plan: Plan) -> Site {
    let mut hub = Hub::new(plan);
    let (north, south) = (hub.add_agent("north"), hub.add_agent("south"));
    let (to_north, to_south) = (hub.connect(north, "n").0, hub.connect(south, "s").0);
    hub.send(north, to_north, orders::segments(1, &["10.0.0.7/24"]));
    let device_id = DeviceId::from_uuid(hub.id());
    hub.ask(Request::AddDevice(device_id, orders::device(north, "10.0.0.1"))).unwrap();
    let shown = hub.org.snapshot();
    let (segment, check) = (shown.segments[0].id, shown.devices[0].checks[0].id);
    Site { hub, north, south, to_north, to_south, segment, check }
}

/// The reason, if all that happened is that the frame was acked and rejected.
fn rejected(site: &mut Site, agent_id: AgentId, to: ConnectionId, frame: AgentFrame) -> String {
    let seq = frame.seq().unwrap();
    let before = site.hub.org.snapshot();
    let effects = site.hub.send(agent_id, to, frame.clone());
    assert_eq!(site.hub.org.snapshot(), before);
    let [Effect::Ack(_, acked), Effect::Error(_, error, None)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*acked, error.seq, error.fatal), (seq, Some(seq), false));
    assert_eq!(error.code, AgentErrorCode::Rejected);
    assert_eq!(site.hub.send(agent_id, to, frame), [Effect::Ack(to, seq)], "reported once");
    error.message.clone()
}

#[test]
fn what_belongs_to_another_agent_is_rejected() {
    let mut site = site(Plan::Trial);
    let (south, to_south, north) = (site.south, site.to_south, site.north);
    let scan_id = ScanId::from_uuid(site.hub.id());
    site.hub.send(north, site.to_north, orders::scan_started(2, scan_id, site.segment));
    let command_id = CommandId::from_uuid(site.hub.id());
    let new = NewCommand { kind: CommandKind::Ping, payload: None, deadline_s: None };
    site.hub.ask(Request::IssueCommand { agent_id: north, command_id, new }).unwrap();
    let device_id = site.hub.org.snapshot().devices[0].id;

    let now = site.hub.now;
    let mut by_device = orders::by_address("", DeviceStatus::Offline, now);
    (by_device.device_id, by_device.address) = (Some(device_id), None);
    let nothing_named = pulse_protocol::agent::CheckResult { device_id: None, ..by_device.clone() };
    let bad = [
        orders::report(1, vec![orders::by_check(site.check, DeviceStatus::Offline, now)]),
        orders::report(2, vec![by_device]),
        orders::report(3, vec![orders::by_address("10.0.0.1", DeviceStatus::Offline, now)]),
        orders::report(4, vec![nothing_named]),
        orders::scan_started(5, ScanId::from_uuid(site.hub.id()), site.segment),
        orders::scan_completed(6, scan_id, site.segment, ScanOutcome::Completed, &[]),
        orders::command_result(7, command_id, CommandProgress::Succeeded),
        orders::segments(8, &["10.0.0.0/33"]),
    ];
    for frame in bad {
        rejected(&mut site, south, to_south, frame);
    }
    // Its own segment does not give it the other's scan.
    site.hub.send(south, to_south, orders::segments(9, &["10.9.0.0/24"]));
    let own = site.hub.org.snapshot().segments[1].id;
    let reason = rejected(
        &mut site,
        south,
        to_south,
        orders::scan_completed(10, scan_id, own, ScanOutcome::Completed, &[]),
    );
    assert!(reason.contains("another agent"), "{reason}");
}

#[test]
fn content_that_cannot_be_read_is_acked_and_rejected_once() {
    let Site { mut hub, north, to_north, .. } = site(Plan::Trial);
    let unreadable = |seq| Input::Unreadable {
        agent_id: north,
        connection: to_north,
        seq,
        reason: "`reports` must hold 1 to 500 results".to_owned(),
    };
    let seq_before = hub.org.seq();
    let effects = hub.take(unreadable(2));
    assert!(
        matches!(&effects[..], [Effect::Ack(_, 2), Effect::Error(_, error, None)] if error.seq == Some(2))
    );
    assert_eq!(hub.take(unreadable(2)), [Effect::Ack(to_north, 2)]);
    let effects = hub.take(unreadable(4));
    assert!(matches!(&effects[..], [Effect::Error(_, _, Some(CloseCode::SequenceGap))]));
    assert_eq!(hub.org.seq(), seq_before);
}

#[test]
fn of_a_mixed_report_the_good_results_are_taken() {
    let Site { mut hub, north, to_north, check, .. } = site(Plan::Trial);
    let now = hub.now;
    let results = vec![
        orders::by_address("192.0.2.1", DeviceStatus::Online, now),
        orders::by_check(check, DeviceStatus::Online, now),
        orders::by_address("192.0.2.2", DeviceStatus::Online, now),
    ];
    let effects = hub.send(north, to_north, orders::report(2, results));
    let Effect::Error(_, error, None) = &effects[1] else { panic!("{effects:?}") };
    assert!(error.message.starts_with("2 results were not taken"), "{}", error.message);
    assert_eq!(hub.org.snapshot().devices[0].status, DeviceStatus::Online);
}

#[test]
fn an_address_inside_a_segment_becomes_one_device_however_it_is_written() {
    let Site { mut hub, north, to_north, segment, .. } = site(Plan::Trial);
    hub.send(north, to_north, orders::segments(2, &["fd00::/64"]));
    let spellings = ["10.0.0.9", "fd00::9", "FD00::9", "fd00:0::0009"];
    for (spelling, seq) in spellings.into_iter().zip(3..) {
        let result = orders::by_address(spelling, DeviceStatus::Online, hub.now);
        assert_eq!(
            hub.send(north, to_north, orders::report(seq, vec![result]))[0],
            Effect::Ack(to_north, seq)
        );
    }
    let devices = hub.org.snapshot().devices;
    let addresses: Vec<_> = devices.iter().map(|device| &*device.address).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.9", "fd00::9"]);
    assert_eq!(devices[1].segment_id, Some(segment));
    assert_eq!(devices[1].status, DeviceStatus::Online);

    let device_id = DeviceId::from_uuid(hub.id());
    hub.ask(Request::AddDevice(device_id, orders::device(north, "NAS.local"))).unwrap();
    let result = orders::by_address("Nas.Local", DeviceStatus::Online, hub.now);
    assert_eq!(hub.send(north, to_north, orders::report(7, vec![result])).len(), 1);
    assert_eq!(hub.org.snapshot().devices[3].status, DeviceStatus::Online);
}

#[test]
fn the_plans_limit_of_devices_holds_for_reports_and_scans() {
    let mut site = site(Plan::Trial);
    let (north, to_north, segment) = (site.north, site.to_north, site.segment);
    let found: Vec<String> = (1..=150).map(|host| format!("10.0.0.{host}")).collect();
    let scan_id = ScanId::from_uuid(site.hub.id());
    let frame = orders::scan_completed(2, scan_id, segment, ScanOutcome::Completed, &found);
    site.hub.send(north, to_north, frame);
    let shown = site.hub.org.snapshot();
    assert_eq!(shown.devices.len(), 100);
    assert_eq!((shown.scans[0].devices_found, shown.scans[0].devices_new), (150, 99));
    let result = orders::by_address("10.0.0.200", DeviceStatus::Online, site.hub.now);
    let reason = rejected(&mut site, north, to_north, orders::report(3, vec![result]));
    assert_eq!(reason, "the plan allows 100 devices, and 100 are in use");
}

#[test]
fn a_scan_brings_only_what_is_in_its_agents_networks() {
    let Site { mut hub, north, to_north, segment, .. } = site(Plan::Trial);
    let found = ["10.0.0.1", "10.0.0.2", "10.0.0.2", "8.8.8.8"].map(str::to_owned);
    let scan_id = ScanId::from_uuid(hub.id());
    hub.send(north, to_north, orders::scan_started(2, scan_id, segment));
    let frame = orders::scan_completed(3, scan_id, segment, ScanOutcome::Completed, &found);
    let effects = hub.send(north, to_north, frame);
    let shown = hub.org.snapshot();
    assert_eq!(shown.devices.len(), 2);
    assert_eq!((shown.scans[0].state, shown.scans[0].devices_found), (ScanState::Completed, 2));
    assert_eq!(shown.segments[0].last_scan_at, shown.scans[0].finished_at);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Config(..))),
        "there is more to watch"
    );
    assert!(effects.iter().any(
        |effect| matches!(effect, Effect::Error(_, error, None) if error.message.contains("8.8.8.8"))
    ));
}

#[test]
fn texts_and_clocks_of_agents_are_bounded() {
    let Site { mut hub, north, segment, .. } = site(Plan::Trial);
    let wild = "a\0\u{1b}[31m".to_owned() + &"x".repeat(10_000);
    let mut greeting = hello(&format!("n{wild}"), 1);
    (greeting.hostname, greeting.agent_version) = (wild.clone(), wild.clone());
    let connection = ConnectionId(hub.id());
    hub.take(Input::Hello { agent_id: north, connection, hello: greeting.clone() });
    let mut found = orders::discovered("10.0.0.3");
    (found.hostname, found.mac) = (Some(wild.clone()), Some(wild.clone()));
    let scan_id = ScanId::from_uuid(hub.id());
    let mut end = orders::scan_completed(1, scan_id, segment, ScanOutcome::Completed, &[]);
    if let AgentFrame::ScanCompleted(end) = &mut end {
        end.devices = vec![found];
        end.finished_at = Timestamp::from_unix_ms(i64::MAX);
    }
    hub.send(north, connection, end);
    let long_before = "0000-01-01T00:00:00+23:59".parse().unwrap();
    let mut result = orders::by_address("10.0.0.3", DeviceStatus::Offline, long_before);
    (result.error, result.response_time_ms) = (Some(wild), Some(f64::INFINITY));
    hub.send(north, connection, orders::report(2, vec![result]));

    let shown = hub.org.snapshot();
    assert_eq!(shown.agents[0].hostname.as_ref().unwrap().chars().count(), 255);
    assert_eq!(shown.devices[1].name.chars().count(), 100);
    assert_eq!(
        (shown.devices[1].since, shown.devices[1].response_time_ms),
        (Timestamp::from_unix_ms(0), None)
    );
    assert_eq!(shown.scans[0].finished_at, Some(hub.now));
    let control =
        |text: &str| text.contains('\0') || text.contains("\\u0000") || text.contains("\\u001b");
    assert!(!hub.journal.iter().any(|event| control(&event.data)));
    // The same spool is known again by the same id.
    let again = ConnectionId(hub.id());
    let effects = hub.take(Input::Hello { agent_id: north, connection: again, hello: greeting });
    assert_eq!(welcome(&effects).unwrap().acked_seq, 2);
}

#[test]
fn a_new_spool_begins_at_one_and_the_older_is_no_longer_taken() {
    let Site { mut hub, north, .. } = site(Plan::Trial);
    assert_eq!(hub.connect(north, "n").1.acked_seq, 1);
    let (to_north, welcome) = hub.connect(north, "reinstalled");
    assert_eq!(welcome.acked_seq, 0);
    hub.send(north, to_north, orders::segments(1, &["10.5.0.0/16"]));
    let (_, effects) = hub.hello(north, "n", 2);
    assert!(
        matches!(&effects[..], [Effect::Error(_, error, Some(CloseCode::SequenceGap))] if error.fatal)
    );
    let (_, effects) = hub.hello(north, "reinstalled", 3);
    assert!(matches!(&effects[..], [Effect::Error(_, _, Some(CloseCode::SequenceGap))]));
    assert_eq!(hub.send(north, to_north, orders::segments(1, &[])), [Effect::Ack(to_north, 1)]);
}

#[test]
fn commands_are_told_again_after_a_reconnection_and_once_on_a_connection() {
    let Site { mut hub, north, to_north, .. } = site(Plan::Trial);
    let issue = |hub: &mut Hub, deadline_s| {
        let command_id = CommandId::from_uuid(hub.id());
        let new = NewCommand { kind: CommandKind::Ping, payload: None, deadline_s };
        let request = Request::IssueCommand { agent_id: north, command_id, new };
        (command_id, told(&hub.ask(request).unwrap().1))
    };
    let (first, told_first) = issue(&mut hub, Some(60));
    let (second, told_second) = issue(&mut hub, Some(120));
    assert_eq!((told_first, told_second), (vec![first], vec![second]), "each once");
    hub.take(Input::CommandSent(first));
    hub.take(Input::CommandSent(first));
    assert_eq!(hub.told_since(0).iter().filter(|name| **name == "command.delivered").count(), 1);
    hub.hang_up(north, to_north);
    let (connection, effects) = hub.hello(north, "n", 2);
    assert_eq!(told(&effects), [first, second]);
    hub.send(north, connection, orders::command_result(2, second, CommandProgress::Running));
    hub.send(north, connection, orders::command_result(3, second, CommandProgress::Succeeded));
    hub.live_through(std::time::Duration::from_secs(60));
    let state = |id| hub.tables.commands[&id].state;
    assert_eq!((state(first), state(second)), (CommandState::Expired, CommandState::Succeeded));
    assert_eq!(told(&hub.hello(north, "n", 4).1), []);
}

fn told(effects: &[Effect]) -> Vec<CommandId> {
    let command = |effect: &Effect| match effect {
        Effect::Command(_, command) => Some(command.command_id),
        _ => None,
    };
    effects.iter().filter_map(command).collect()
}

#[test]
fn a_scan_whose_agent_goes_has_failed_and_may_still_end_well() {
    let Site { mut hub, north, to_north, segment, .. } = site(Plan::Trial);
    let scan_id = ScanId::from_uuid(hub.id());
    hub.send(north, to_north, orders::scan_started(2, scan_id, segment));
    hub.hang_up(north, to_north);
    hub.live_through(std::time::Duration::from_secs(5));
    assert_eq!(hub.org.snapshot().scans[0].state, ScanState::Failed);
    let (to_north, _) = hub.connect(north, "n");
    hub.send(
        north,
        to_north,
        orders::scan_completed(3, scan_id, segment, ScanOutcome::Completed, &[]),
    );
    let scan = &hub.org.snapshot().scans[0];
    assert_eq!((scan.state, scan.devices_found, &scan.error), (ScanState::Completed, 0, &None));
}

#[test]
fn of_ended_scans_the_latest_are_shown_whatever_their_ids() {
    let Site { mut hub, north, to_north, segment, .. } = site(Plan::Trial);
    for seq in 2..82 {
        let id = ScanId::from_uuid(uuid::Uuid::from_u128(u128::from(1_000 - seq)));
        let mut end = orders::scan_completed(seq, id, segment, ScanOutcome::Completed, &[]);
        if let AgentFrame::ScanCompleted(end) = &mut end {
            end.finished_at = Timestamp::from_unix_ms(i64::try_from(seq).unwrap());
        }
        hub.send(north, to_north, end);
    }
    let scans = hub.org.snapshot().scans;
    assert_eq!(scans.len(), 50);
    assert!(scans.iter().all(|scan| scan.finished_at >= Some(Timestamp::from_unix_ms(32))));
}

#[test]
fn a_device_without_checks_is_judged_by_what_is_reported_of_its_address() {
    let Site { mut hub, north, to_north, .. } = site(Plan::Trial);
    let of = |kind, status| {
        let mut result = orders::by_address("10.0.0.77", status, orders::LONG_AGO);
        result.check = Some(kind);
        result
    };
    let frame =
        vec![of(CheckKind::Ping, DeviceStatus::Online), of(CheckKind::Tcp, DeviceStatus::Offline)];
    hub.send(north, to_north, orders::report(2, frame));
    assert_eq!(hub.org.snapshot().devices[1].status, DeviceStatus::Offline);
    hub.send(north, to_north, orders::report(3, vec![of(CheckKind::Tcp, DeviceStatus::Online)]));
    assert_eq!(hub.org.snapshot().devices[1].status, DeviceStatus::Online);
}
