//! What people ask for: every fault is named, a refusal changes nothing ([`Hub::ask`] compares the whole org), and
//! a patch changes what it names.

use pulse_domain::org::Effect;
use pulse_domain::record::Hidden;
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::agent::{CloseCode, CommandKind};
use pulse_protocol::api::{
    AgentPatch, ChannelHealth, ChannelPatch, DevicePatch, NewChannel, NewCommand, NewDevice,
    NewRule, OrgPatch, Plan, RulePatch,
};
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeviceId, RuleId, SegmentId};
use pulse_protocol::status::{AgentState, CheckKind};
use serde_json::json;

use crate::hub::{Hub, webhook};
use crate::orders;

/// The faults that a request is refused for, as `field code`.
fn faults(hub: &mut Hub, request: Request) -> Vec<String> {
    match hub.ask(request.clone()) {
        Err(Refusal::Invalid(faults)) => {
            assert!(faults.iter().all(|fault| !fault.message.is_empty()));
            faults.into_iter().map(|fault| format!("{} {}", fault.field, fault.code)).collect()
        }
        other => panic!("{request:?} was answered {other:?}"),
    }
}

fn missing(hub: &mut Hub, request: Request, what: &str) {
    match hub.ask(request.clone()) {
        Err(Refusal::NotFound { what: missing }) => assert_eq!(missing, what),
        other => panic!("{request:?} was answered {other:?}"),
    }
}

fn agent(name: &str) -> Request {
    let (key_hash, key_prefix) = ([1; 32], "vp_harbour_".to_owned());
    Request::AddAgent { agent_id: AgentId::default(), name: name.to_owned(), key_hash, key_prefix }
}

fn command(
    agent_id: AgentId,
    payload: Option<serde_json::Value>,
    deadline_s: Option<u32>,
) -> Request {
    let new = NewCommand { kind: CommandKind::Ping, payload, deadline_s };
    Request::IssueCommand { agent_id, command_id: CommandId::default(), new }
}

#[test]
fn a_name_is_1_to_100_characters_without_control_characters() {
    let mut hub = Hub::new(Plan::Trial);
    for (name, fault) in [
        ("", "required"),
        ("  \t ", "required"),
        (&*"x".repeat(101), "too_long"),
        ("a\u{7}b", "invalid"),
    ] {
        assert_eq!(faults(&mut hub, agent(name)), [format!("name {fault}")]);
    }
    hub.ask(agent(&"é".repeat(100))).unwrap();
    let (reply, _) = hub.ask(agent("  north ")).unwrap();
    assert!(matches!(reply, Reply::Agent(agent) if agent.name == "north"));
}

#[test]
fn every_fault_of_a_device_is_listed() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    let mut tcp = orders::check(CheckKind::Tcp, 11);
    (tcp.port, tcp.interval_s, tcp.timeout_ms) = (None, Some(0), Some(60_001));
    let mut http = orders::check(CheckKind::Http, 0);
    (http.url, http.port) = (Some("ftp://x".to_owned()), Some(0));
    let mut no_url = orders::check(CheckKind::Http, 1);
    (no_url.id, no_url.url) = (Some(pulse_protocol::ids::CheckId::default()), None);
    let new = NewDevice {
        agent_id: AgentId::default(),
        segment_id: Some(SegmentId::default()),
        category_id: None,
        name: Some("\0".to_owned()),
        address: "not an address".to_owned(),
        checks: Some(vec![tcp, http, no_url]),
    };
    let listed = faults(&mut hub, Request::AddDevice(DeviceId::default(), new));
    assert_eq!(
        listed,
        [
            "address invalid",
            "name invalid",
            "agent_id not_found",
            "segment_id not_found",
            "checks[0].port required",
            "checks[0].interval_s out_of_range",
            "checks[0].timeout_ms out_of_range",
            "checks[0].failure_threshold out_of_range",
            "checks[1].port out_of_range",
            "checks[1].url invalid",
            "checks[1].failure_threshold out_of_range",
            "checks[2].id not_found",
            "checks[2].url required",
        ]
    );
    for address in ["", ".", "-a.example", "a..b", "host..", "10.0.0.1/24", "a b", &*"a".repeat(64)]
    {
        let new = orders::device(agent_id, address);
        let listed = faults(&mut hub, Request::AddDevice(DeviceId::default(), new));
        assert_eq!(listed[0], "address invalid", "{address}");
    }
    let mut many = orders::device(agent_id, "10.0.0.1");
    many.checks = Some(vec![orders::check(CheckKind::Ping, 1); 21]);
    assert_eq!(
        faults(&mut hub, Request::AddDevice(DeviceId::default(), many)),
        ["checks too_long"]
    );
}

#[test]
fn a_segment_of_another_agent_is_none_of_the_devices() {
    let mut hub = Hub::new(Plan::Trial);
    let (north, south) = (hub.add_agent("north"), hub.add_agent("south"));
    let (connection, _) = hub.connect(south, "s");
    hub.send(south, connection, orders::segments(1, &["10.0.0.0/24"]));
    let segment_id = Some(hub.org.snapshot().segments[0].id);
    let request = |agent_id| {
        let new = NewDevice { segment_id, ..orders::device(agent_id, "10.0.0.1") };
        Request::AddDevice(DeviceId::default(), new)
    };
    assert_eq!(faults(&mut hub, request(north)), ["segment_id not_found"]);
    hub.ask(request(south)).unwrap();
}

#[test]
fn addresses_are_kept_in_one_spelling() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    for (written, kept) in
        [("FD00:0::01", "fd00::1"), (" Gate.Example ", "gate.example"), ("10.0.0.1", "10.0.0.1")]
    {
        let request = Request::AddDevice(DeviceId::default(), orders::device(agent_id, written));
        let (reply, _) = hub.ask(request).unwrap();
        assert!(
            matches!(reply, Reply::Device(device) if device.address == kept && device.checks.len() == 1)
        );
    }
}

#[test]
fn a_patch_of_a_device_changes_what_it_names_and_keeps_the_checks_it_names() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    let (connection, _) = hub.connect(agent_id, "n");
    let device_id = DeviceId::from_uuid(hub.id());
    hub.ask(Request::AddDevice(device_id, orders::device(agent_id, "10.0.0.1"))).unwrap();
    let kept = hub.org.snapshot().devices[0].checks[0].clone();
    let down = pulse_protocol::status::DeviceStatus::Offline;
    hub.send(
        agent_id,
        connection,
        orders::report(1, vec![orders::by_check(kept.id, down, hub.now)]),
    );

    let named = DevicePatch { name: Some("gate".to_owned()), ..DevicePatch::default() };
    hub.ask(Request::PatchDevice(device_id, named)).unwrap();
    let mut again = orders::check(CheckKind::Ping, 3);
    again.id = Some(kept.id);
    let checks = Some(vec![again.clone(), orders::check(CheckKind::Tcp, 1)]);
    let (_, effects) = hub
        .ask(Request::PatchDevice(device_id, DevicePatch { checks, ..DevicePatch::default() }))
        .unwrap();
    assert!(matches!(&effects[..], [Effect::Config(_, config)] if config.checks.len() == 2));
    let device = &hub.org.snapshot().devices[0];
    assert_eq!((&*device.name, &*device.address, device.status), ("gate", "10.0.0.1", down));
    assert_eq!(
        (device.checks[0].id, device.checks[0].failure_threshold, device.checks[0].status),
        (kept.id, 3, down)
    );

    let twice = DevicePatch { checks: Some(vec![again.clone(), again]), ..DevicePatch::default() };
    assert_eq!(
        faults(&mut hub, Request::PatchDevice(device_id, twice)),
        ["checks[1].id not_found"]
    );
    let none = DevicePatch { checks: Some(vec![]), ..DevicePatch::default() };
    hub.ask(Request::PatchDevice(device_id, none)).unwrap();
    let unknown = pulse_protocol::status::DeviceStatus::Unknown;
    assert_eq!(hub.org.snapshot().devices[0].status, unknown, "nothing is checked any more");
    let (_, effects) = hub.ask(Request::RemoveDevice(device_id)).unwrap();
    assert!(matches!(&effects[..], [Effect::Config(_, config)] if config.checks.is_empty()));
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut hub = Hub::new(Plan::Trial);
    let (agent_id, device_id) = (AgentId::default(), DeviceId::default());
    let (channel_id, rule_id) = (ChannelId::default(), RuleId::default());
    let key_prefix = String::new();
    for (request, what) in [
        (Request::PatchAgent(agent_id, AgentPatch::default()), "agent"),
        (Request::ReplaceKey { agent_id, key_hash: [0; 32], key_prefix }, "agent"),
        (Request::RemoveAgent(agent_id), "agent"),
        (command(agent_id, None, None), "agent"),
        (Request::PatchDevice(device_id, DevicePatch::default()), "device"),
        (Request::RemoveDevice(device_id), "device"),
        (
            Request::PatchChannel {
                channel_id,
                patch: ChannelPatch::default(),
                hidden_config: None,
            },
            "channel",
        ),
        (Request::EnableChannel(channel_id), "channel"),
        (Request::ReplaceSecret(channel_id, String::new()), "channel"),
        (Request::RemoveChannel(channel_id), "channel"),
        (Request::PatchRule(rule_id, RulePatch::default()), "rule"),
        (Request::RemoveRule(rule_id), "rule"),
    ] {
        missing(&mut hub, request, what);
    }
    assert_eq!(
        hub.org.answer(Query::Device(device_id)),
        Err(Refusal::NotFound { what: "device".into() })
    );
}

#[test]
fn the_limits_of_the_plan_hold_and_a_removal_makes_room() {
    let mut hub = Hub::new(Plan::Trial);
    let agents: Vec<AgentId> =
        (0..10).map(|number| hub.add_agent(&format!("agent {number}"))).collect();
    let full = Refusal::LimitReached { what: "agents".into(), limit: 10, current: 10 };
    assert_eq!(hub.ask(agent("one more")).unwrap_err(), full);
    for host in 0..100 {
        let device_id = DeviceId::from_uuid(hub.id());
        let new = orders::device(agents[host % 10], &format!("10.0.0.{host}"));
        hub.ask(Request::AddDevice(device_id, new)).unwrap();
    }
    let one_more = Request::AddDevice(DeviceId::default(), orders::device(agents[0], "10.0.1.1"));
    let full = Refusal::LimitReached { what: "devices".into(), limit: 100, current: 100 };
    assert_eq!(hub.ask(one_more.clone()).unwrap_err(), full);
    hub.ask(Request::RemoveAgent(agents[1])).unwrap();
    let Ok(Reply::Usage(usage)) = hub.org.answer(Query::Usage) else { panic!() };
    assert_eq!((usage.agents, usage.devices), (9, 90));
    hub.ask(one_more).unwrap();
    hub.ask(agent("one more")).unwrap();
}

#[test]
fn a_removed_agent_leaves_nothing_that_is_shown_or_waited_for() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    let (connection, _) = hub.connect(agent_id, "n");
    hub.send(agent_id, connection, orders::segments(1, &["10.0.0.0/24"]));
    let segment_id = hub.org.snapshot().segments[0].id;
    let scan_id = pulse_protocol::ids::ScanId::from_uuid(hub.id());
    hub.send(agent_id, connection, orders::scan_started(2, scan_id, segment_id));
    hub.ask(command(agent_id, None, None)).unwrap();
    let (_, effects) = hub.ask(Request::RemoveAgent(agent_id)).unwrap();
    assert_eq!(effects, [Effect::Close(connection, CloseCode::KeyRevoked)]);
    let shown = hub.org.snapshot();
    assert!(shown.agents.is_empty() && shown.segments.is_empty() && shown.scans.is_empty());
    assert!(hub.org.is_idle() && hub.loaded().is_idle());
    assert!(!hub.tables.waits_for_nobody());
    assert_eq!(hub.send(agent_id, connection, orders::segments(3, &["10.0.1.0/24"])), []);
}

#[test]
fn liveness_keeps_its_bounds_and_its_proportion() {
    let mut hub = Hub::new(Plan::Trial);
    let patch = |interval, timeout, grace| {
        Request::PatchOrg(OrgPatch {
            name: None,
            heartbeat_interval_ms: interval,
            heartbeat_timeout_ms: timeout,
            offline_grace_ms: grace,
        })
    };
    assert_eq!(
        faults(&mut hub, patch(Some(999), Some(300_001), Some(u64::MAX))),
        [
            "heartbeat_interval_ms out_of_range",
            "heartbeat_timeout_ms out_of_range",
            "offline_grace_ms out_of_range",
        ]
    );
    let twice = ["heartbeat_timeout_ms out_of_range"];
    assert_eq!(
        faults(&mut hub, patch(Some(6_001), None, None)),
        twice,
        "with the hub's own timeout"
    );
    assert_eq!(
        faults(&mut hub, patch(None, Some(9_999), None)),
        twice,
        "with the hub's own interval"
    );
    hub.ask(patch(Some(1_000), Some(2_000), Some(1_000))).unwrap();
    let (reply, _) = hub.ask(Request::PatchOrg(OrgPatch::default())).unwrap();
    let Reply::Org(org) = reply else { panic!() };
    assert_eq!(
        (org.heartbeat_interval_ms, org.heartbeat_timeout_ms, org.offline_grace_ms),
        (1_000, 2_000, 1_000)
    );
    assert_eq!((&*org.name, hub.tables.org.offline_grace_ms), ("Harbour", Some(1_000)));
}

#[test]
fn a_rule_names_known_events_and_channels_of_the_org() {
    let mut hub = Hub::new(Plan::Trial);
    let channel = hub.tell_of(&["agent.offline"]);
    let rule = |name: &str, events: &[&str], channel_ids: &[ChannelId]| NewRule {
        name: name.to_owned(),
        event_types: events.iter().map(|event| (*event).to_owned()).collect(),
        channel_ids: channel_ids.to_vec(),
        ..NewRule::default()
    };
    let empty = Request::AddRule(RuleId::default(), rule("", &[], &[]));
    assert_eq!(
        faults(&mut hub, empty),
        ["name required", "event_types required", "channel_ids required"]
    );
    let unknown = rule("r", &["agent.offline", "agent.exploded"], &[channel, ChannelId::default()]);
    let listed = faults(&mut hub, Request::AddRule(RuleId::default(), unknown));
    assert_eq!(listed, ["event_types[1] invalid", "channel_ids[1] not_found"]);
    let id = RuleId::from_uuid(hub.id());
    hub.ask(Request::AddRule(id, rule("r", &["agent.online"], &[channel, channel]))).unwrap();
    assert_eq!(hub.tables.rules[&id].channel_ids, [channel]);
    let renamed =
        RulePatch { name: Some("s".to_owned()), enabled: Some(false), ..RulePatch::default() };
    hub.ask(Request::PatchRule(id, renamed)).unwrap();
    let stored = &hub.tables.rules[&id];
    assert_eq!(
        (&*stored.name, stored.enabled, &*stored.event_types[0]),
        ("s", false, "agent.online")
    );
    let bad =
        RulePatch { channel_ids: Some(vec![]), event_types: Some(vec![]), ..RulePatch::default() };
    assert_eq!(
        faults(&mut hub, Request::PatchRule(id, bad)),
        ["event_types required", "channel_ids required"]
    );
    hub.ask(Request::RemoveChannel(channel)).unwrap();
    assert!(hub.tables.rules.values().all(|rule| rule.channel_ids.is_empty()));
    hub.ask(Request::RemoveRule(id)).unwrap();
    missing(&mut hub, Request::RemoveRule(id), "rule");
}

#[test]
fn a_command_has_an_object_for_payload_and_a_near_deadline() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    assert_eq!(
        faults(&mut hub, command(agent_id, Some(json!([1])), Some(0))),
        ["deadline_s out_of_range", "payload invalid"]
    );
    assert_eq!(
        faults(&mut hub, command(agent_id, None, Some(86_401))),
        ["deadline_s out_of_range"]
    );
    let big = json!({ "x": "y".repeat(16_384) });
    assert_eq!(faults(&mut hub, command(agent_id, Some(big), None)), ["payload invalid"]);
    let (reply, effects) = hub.ask(command(agent_id, None, None)).unwrap();
    assert!(matches!(reply, Reply::Command(command) if command.payload == json!({})));
    assert_eq!(effects, [], "it waits for its agent");
}

#[test]
fn a_replaced_key_is_honoured_beside_the_new_one() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    let key_prefix = "vp_harbour_2".to_owned();
    hub.ask(Request::ReplaceKey { agent_id, key_hash: [8; 32], key_prefix }).unwrap();
    let stored = &hub.tables.agents[&agent_id];
    let day = std::time::Duration::from_secs(86_400);
    assert_eq!((stored.key_hash, stored.previous_key), ([8; 32], Some(([7; 32], hub.now + day))));
    assert_eq!(hub.org.snapshot().agents[0].key_prefix, "vp_harbour_2");
}

#[test]
fn an_agent_that_is_switched_on_again_is_as_it_was() {
    let mut hub = Hub::new(Plan::Trial);
    let agent_id = hub.add_agent("north");
    for (enabled, state) in [(false, AgentState::Disabled), (true, AgentState::NeverConnected)] {
        let patch = AgentPatch { name: None, enabled: Some(enabled) };
        let (reply, _) = hub.ask(Request::PatchAgent(agent_id, patch)).unwrap();
        assert!(
            matches!(reply, Reply::Agent(agent) if agent.state == state && agent.name == "north")
        );
    }
    let patch = AgentPatch { name: Some("n".repeat(101)), enabled: Some(false) };
    assert_eq!(faults(&mut hub, Request::PatchAgent(agent_id, patch)), ["name too_long"]);
}

#[test]
fn a_channel_is_switched_off_and_on_and_keeps_two_secrets() {
    let mut hub = Hub::new(Plan::Trial);
    let bad = NewChannel { name: String::new(), ..webhook() };
    let request = Request::AddChannel {
        channel_id: ChannelId::default(),
        new: bad,
        hidden: Hidden::default(),
    };
    assert_eq!(faults(&mut hub, request), ["name required"]);
    let channel = hub.tell_of(&["agent.enrolled"]);
    let patch = |enabled, name: Option<&str>| Request::PatchChannel {
        channel_id: channel,
        patch: ChannelPatch { name: name.map(str::to_owned), enabled, ..ChannelPatch::default() },
        hidden_config: None,
    };
    hub.ask(patch(Some(false), None)).unwrap();
    hub.add_agent("north");
    assert!(hub.tables.deliveries.is_empty());
    hub.ask(patch(None, Some("phone"))).unwrap();
    let shown = hub.org.snapshot().channels[0].clone();
    assert_eq!(
        (&*shown.name, shown.enabled, shown.health),
        ("phone", false, ChannelHealth::Disabled)
    );
    assert_eq!(faults(&mut hub, patch(Some(true), Some(""))), ["name required"]);
    hub.ask(patch(Some(true), None)).unwrap();
    hub.add_agent("south");
    assert_eq!(hub.tables.deliveries.len(), 1);
    for secret in ["one", "two", "three"] {
        hub.ask(Request::ReplaceSecret(channel, secret.to_owned())).unwrap();
    }
    assert_eq!(hub.tables.channels[&channel].hidden.signing, ["three", "two"]);
    assert!(
        !hub.journal.iter().any(|event| event.data.contains("three")),
        "secrets are never told"
    );
}

#[test]
fn an_org_has_at_most_200_channels_and_as_many_rules() {
    let mut hub = Hub::new(Plan::Trial);
    let channel = hub.tell_of(&["agent.offline"]);
    let new = NewRule {
        name: "r".to_owned(),
        event_types: vec!["agent.online".to_owned()],
        channel_ids: vec![channel],
        ..NewRule::default()
    };
    for _ in 1..200 {
        let channel_id = ChannelId::from_uuid(hub.id());
        hub.ask(Request::AddChannel { channel_id, new: webhook(), hidden: Hidden::default() })
            .unwrap();
        let rule_id = RuleId::from_uuid(hub.id());
        hub.ask(Request::AddRule(rule_id, new.clone())).unwrap();
    }
    let channel_id = ChannelId::default();
    let request = Request::AddChannel { channel_id, new: webhook(), hidden: Hidden::default() };
    let full = |what| Refusal::LimitReached { what, limit: 200, current: 200 };
    assert_eq!(hub.ask(request).unwrap_err(), full("channels".into()));
    assert_eq!(
        hub.ask(Request::AddRule(RuleId::default(), new)).unwrap_err(),
        full("rules".into())
    );
}
