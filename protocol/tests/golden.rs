//! One JSON file per frame pins the wire: changing one of them is changing the protocol.
//!
//! Each frame must be written exactly as its file says, and the file must be read back as the same frame. With
//! `UPDATE_GOLDEN=1` in the environment the files are written anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentFrame, FrameError, HubFrame};
use pulse_protocol::dashboard::{DashboardFrame, ViewerFrame};
use serde::Serialize;
use serde_json::{Value, json};

const AGENT: &str = "agt_01h2xcejqtf2nbrexx3vqjhp41";
const ORG: &str = "org_01h2xcejqtf2nbrexx3vqjhp41";
const DEVICE: &str = "dev_01h2xcejqtf2nbrexx3vqjhp41";
const SEGMENT: &str = "seg_01h2xcejqtf2nbrexx3vqjhp41";
const SCAN: &str = "scn_01h2xcejqtf2nbrexx3vqjhp41";
const CHECK: &str = "chk_01h2xcejqtf2nbrexx3vqjhp41";
const COMMAND: &str = "cmd_01h2xcejqtf2nbrexx3vqjhp41";
const CHANNEL: &str = "chn_01h2xcejqtf2nbrexx3vqjhp41";
const EVENT: &str = "evt_01h2xcejqtf2nbrexx3vqjhp41";
const AT: &str = "2026-03-01T12:00:00.000Z";

/// The file of this name holds exactly what `frame` is written as; returns its text.
fn pinned(name: &str, frame: &impl Serialize) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let written = serde_json::to_string_pretty(frame).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(written, golden, "{name} is not written as its file says");
    golden
}

fn agent_frame(name: &str, spec: Value) {
    let frame =
        AgentFrame::parse(&spec.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let golden = pinned(&format!("agent_{name}"), &frame);
    assert_eq!(AgentFrame::parse(&golden).unwrap(), frame, "{name}");
    assert_eq!(
        serde_json::from_str::<Value>(&golden).unwrap(),
        spec,
        "{name} lost or gained a field"
    );
}

fn hub_frame(name: &str, spec: Value) {
    let frame: HubFrame = serde_json::from_value(spec.clone()).unwrap();
    let golden = pinned(&format!("hub_{name}"), &frame);
    assert_eq!(serde_json::from_str::<HubFrame>(&golden).unwrap(), frame, "{name}");
    assert_eq!(
        serde_json::from_str::<Value>(&golden).unwrap(),
        spec,
        "{name} lost or gained a field"
    );
}

fn dashboard_frame(name: &str, spec: Value) {
    let frame: DashboardFrame = serde_json::from_value(spec.clone()).unwrap();
    let golden = pinned(&format!("dashboard_{name}"), &frame);
    assert_eq!(serde_json::from_str::<DashboardFrame>(&golden).unwrap(), frame, "{name}");
    assert_eq!(
        serde_json::from_str::<Value>(&golden).unwrap(),
        spec,
        "{name} lost or gained a field"
    );
}

#[test]
fn frames_of_an_agents_beginning_and_end() {
    agent_frame(
        "hello",
        json!({
            "type": "hello", "protocol": 1, "agent_version": "1.4.0", "hostname": "branch-7",
            "platform": "linux", "arch": "x86_64", "boot_id": "b", "spool_id": "s", "next_seq": 7, "sent_at": AT,
        }),
    );
    agent_frame(
        "heartbeat",
        json!({
            "type": "heartbeat", "uptime_s": 60, "spool_depth": 2,
            "load": {"cpu_pct": 1.5, "mem_pct": 40.0, "load1": 0.25},
        }),
    );
    agent_frame("bye", json!({"type": "bye", "reason": "upgrade", "expect_back_ms": 60_000}));
}

#[test]
fn frames_that_change_state() {
    agent_frame(
        "report",
        json!({
            "type": "report", "seq": 7,
            "reports": [
                {"check_id": CHECK, "status": "online", "response_time_ms": 1.25, "checked_at": AT},
                {"device_id": DEVICE, "check": "ping", "status": "offline", "checked_at": AT, "error": "no answer"},
                {"address": "192.0.2.7", "check": "tls", "status": "degraded", "checked_at": AT,
                 "tls": {"not_after": AT, "issuer": "CN=Test CA", "subject": "CN=example.com"}},
            ],
        }),
    );
    agent_frame(
        "scan_started",
        json!({
            "type": "scan_started", "seq": 8, "scan_id": SCAN, "segment_id": SEGMENT, "started_at": AT,
            "command_id": COMMAND,
        }),
    );
    agent_frame(
        "scan_progress",
        json!({"type": "scan_progress", "scan_id": SCAN, "done": 10, "total": 254}),
    );
    agent_frame(
        "scan_completed",
        json!({
            "type": "scan_completed", "seq": 9, "scan_id": SCAN, "segment_id": SEGMENT, "finished_at": AT,
            "outcome": "completed",
            "devices": [{
                "address": "192.0.2.7", "mac": "02:00:00:00:00:07", "hostname": "printer", "manufacturer": "Acme",
                "device_type": "printer", "os_hints": ["linux"], "open_ports": [80, 631],
                "services": [{"port": 631, "name": "ipp"}], "snmp": {"sysName": "printer"},
                "upnp": {"friendlyName": "Printer"}, "method": "arp",
            }],
        }),
    );
    agent_frame(
        "segments",
        json!({
            "type": "segments", "seq": 10,
            "networks": [{"cidr": "192.0.2.0/24", "name": "office", "interface": "eth0"}],
        }),
    );
    agent_frame(
        "command_result",
        json!({
            "type": "command_result", "seq": 11, "command_id": COMMAND, "state": "succeeded",
            "result": {"devices_found": 3}, "at": AT,
        }),
    );
}

#[test]
fn frames_to_an_agent() {
    let config = json!({
        "version": 12,
        "segments": [{"segment_id": SEGMENT, "name": "office", "cidr": "192.0.2.0/24", "scan_interval_s": 300, "enabled": true}],
        "checks": [{
            "check_id": CHECK, "device_id": DEVICE, "address": "192.0.2.7", "check": "http", "port": 80,
            "url": "http://192.0.2.7/", "interval_s": 60, "timeout_ms": 5_000, "failure_threshold": 2,
            "expect": {"status": 200},
        }],
    });
    hub_frame(
        "welcome",
        json!({
            "type": "welcome", "agent_id": AGENT, "name": "Branch 7", "org_id": ORG, "server_time": AT,
            "heartbeat_interval_ms": 5_000, "heartbeat_timeout_ms": 12_000, "acked_seq": 6, "config": config,
            "latest_agent_version": "1.4.0",
        }),
    );
    hub_frame("ack", json!({"type": "ack", "seq": 7}));
    let mut frame = config;
    frame["type"] = json!("config");
    hub_frame("config", frame);
    hub_frame(
        "command",
        json!({"type": "command", "command_id": COMMAND, "kind": "scan_segment", "payload": {"segment_id": SEGMENT}, "deadline": AT}),
    );
    hub_frame(
        "error",
        json!({"type": "error", "code": "rejected", "message": "no such device", "fatal": false, "seq": 7}),
    );
    hub_frame("drain", json!({"type": "drain", "reconnect_after_ms": 500}));
}

#[test]
fn frames_to_a_dashboard() {
    let agent = json!({
        "id": AGENT, "name": "Branch 7", "enabled": true, "state": "online", "since": AT, "last_seen_at": AT,
        "version": "1.4.0", "hostname": "branch-7", "platform": "linux", "key_prefix": "vp_demo0000_Ab3d",
    });
    dashboard_frame(
        "snapshot",
        json!({
            "type": "snapshot", "seq": 42,
            "org": {
                "id": ORG, "name": "Demo", "slug": "demo", "plan": "trial", "status": "trial",
                "limits": {"agents": 10, "devices": 100, "users": 5, "api_calls_month": 10_000},
                "heartbeat_interval_ms": 5_000, "heartbeat_timeout_ms": 12_000, "offline_grace_ms": 5_000,
            },
            "agents": [agent],
            "devices": [{
                "id": DEVICE, "agent_id": AGENT, "segment_id": SEGMENT, "category_id": null, "name": "printer",
                "address": "192.0.2.7", "status": "online", "since": AT, "response_time_ms": 1.25,
                "checks": [{
                    "id": CHECK, "check": "ping", "port": null, "url": null, "interval_s": 60, "timeout_ms": 5_000,
                    "failure_threshold": 1, "expect": null, "status": "online",
                }],
            }],
            "segments": [{
                "id": SEGMENT, "agent_id": AGENT, "name": "office", "cidr": "192.0.2.0/24", "scan_interval_s": 300,
                "enabled": true, "last_scan_at": AT,
            }],
            "scans": [{
                "id": SCAN, "agent_id": AGENT, "segment_id": SEGMENT, "state": "completed", "started_at": AT,
                "finished_at": AT, "devices_found": 1, "devices_new": 1, "error": null,
            }],
            "channels": [{
                "id": CHANNEL, "name": "hook", "kind": "webhook", "config": {"url": "https://example.com/"},
                "enabled": true, "health": "healthy",
            }],
            "counts": {
                "agents": 1, "agents_online": 1, "devices": 1, "devices_online": 1, "devices_degraded": 0,
                "devices_offline": 0, "devices_unknown": 0,
            },
        }),
    );
    dashboard_frame(
        "event",
        json!({
            "type": "event", "seq": 43, "id": EVENT, "event": "agent.offline", "at": AT,
            "data": {"agent_id": AGENT, "name": "Branch 7", "previous": "online", "current": "offline", "since": AT, "cause": "connection_closed"},
        }),
    );
    dashboard_frame(
        "ephemeral",
        json!({"type": "ephemeral", "event": "scan.progress", "at": AT, "data": {"scan_id": SCAN, "done": 1, "total": 254}}),
    );
    dashboard_frame("resync", json!({"type": "resync", "reason": "slow_consumer"}));
    dashboard_frame("ready", json!({"type": "ready", "seq": 43}));
    dashboard_frame("pong", json!({"type": "pong", "nonce": "n1"}));
    dashboard_frame(
        "error",
        json!({"type": "error", "code": "unknown_frame", "message": "no such frame"}),
    );
}

#[test]
fn frames_from_a_dashboard() {
    for (name, spec) in [
        ("ping", json!({"type": "ping", "nonce": "n1"})),
        ("filter", json!({"type": "filter", "agents": [AGENT], "events": ["agent.offline"]})),
    ] {
        let frame: ViewerFrame = serde_json::from_value(spec.clone()).unwrap();
        let golden = pinned(&format!("viewer_{name}"), &frame);
        assert_eq!(serde_json::from_str::<ViewerFrame>(&golden).unwrap(), frame);
        assert_eq!(serde_json::from_str::<Value>(&golden).unwrap(), spec);
    }
}

#[test]
fn unknown_fields_are_ignored_and_unknown_types_are_named() {
    let bye = json!({"type": "bye", "reason": "restart", "mood": "fine"});
    assert!(matches!(AgentFrame::parse(&bye.to_string()), Ok(AgentFrame::Bye(_))));
    let teleport = json!({"type": "teleport", "seq": 1}).to_string();
    assert_eq!(AgentFrame::parse(&teleport), Err(FrameError::Unknown("teleport".to_owned())));
}

#[test]
fn what_is_wrong_with_a_frame_decides_what_happens_to_it() {
    for text in
        ["", "[]", "7", "{", "null", "\"hello\"", "{\"seq\":1}", "{\"type\":7}", "[\"report\",1]"]
    {
        assert!(matches!(AgentFrame::parse(text), Err(FrameError::Malformed(_))), "{text}");
    }
    for seq in [json!(null), json!(0), json!(-1), json!(1.5), json!("1")] {
        let report = json!({"type": "report", "seq": seq, "reports": []}).to_string();
        assert!(matches!(AgentFrame::parse(&report), Err(FrameError::Malformed(_))), "{report}");
    }
    let result = json!({"status": "online", "checked_at": AT});
    let too_many: Vec<&Value> = std::iter::repeat_n(&result, 501).collect();
    for reports in
        [json!([]), json!(too_many), json!("none"), json!([{"status": "fine", "checked_at": AT}])]
    {
        let report = json!({"type": "report", "seq": 9, "reports": reports}).to_string();
        assert!(matches!(AgentFrame::parse(&report), Err(FrameError::Rejected { seq: 9, .. })));
    }
    let heartbeat = json!({"type": "heartbeat", "uptime_s": "long"}).to_string();
    assert!(matches!(AgentFrame::parse(&heartbeat), Err(FrameError::Content(_))));
}

#[test]
fn an_event_encoded_once_is_the_frame() {
    let data = json!({"agent_id": AGENT, "name": "Branch 7"}).to_string();
    let encoded = pulse_protocol::dashboard::EncodedEvent {
        kind: "event",
        seq: 43,
        id: EVENT.parse().unwrap(),
        event: "agent.removed",
        at: AT.parse::<Timestamp>().unwrap(),
        data: serde_json::from_str(&data).unwrap(),
        seq_through: None,
    };
    let text = serde_json::to_string(&encoded).unwrap();
    let frame: DashboardFrame = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(frame).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
}
