use std::time::Duration;

use pulse_domain::record::{DigestItem, JournalEvent};
use pulse_protocol::ids::{AlertId, DeliveryId, EventId, OrgId};
use serde_json::json;

use super::*;

const AT: &str = "2026-03-01T12:00:00.000Z";

fn message(event: &str, data: &Value, reason: Reason, name: &str) -> Message {
    let at: Timestamp = AT.parse().unwrap();
    let data = data.to_string().into();
    let event =
        JournalEvent { seq: 1, id: EventId::new(), name: event.to_owned().into(), at, data };
    let content = Content { org_name: "Acme".into(), ..Content::about(reason, name) };
    Message { org_id: OrgId::new(), delivery_id: DeliveryId::new(), event, content, at }
}

fn notice(message: &Message) -> Notice {
    Notice::of(message, &Links::new("https://hub.example/".parse().unwrap(), vec![[1; 32]]))
}

fn agent(current: &str, devices_unknown: Option<u32>) -> Value {
    json!({
        "agent_id": "agt_00000000000000000000000001", "name": "Attic", "previous": "lingering",
        "current": current, "since": AT, "cause": "heartbeat_timeout", "devices_unknown": devices_unknown,
    })
}

#[test]
fn titles_are_for_people() {
    let none = json!({});
    for (event, data, reason, name, title, severity) in [
        ("device.offline", &none, Reason::Alert, "Router", "Router is offline", Severity::Critical),
        (
            "device.online",
            &none,
            Reason::Recovery,
            "Router",
            "Router is online again",
            Severity::Good,
        ),
        ("device.online", &none, Reason::Event, "Router", "Router is online", Severity::Good),
        (
            "device.degraded",
            &none,
            Reason::Alert,
            "Router",
            "Router is degraded",
            Severity::Warning,
        ),
        ("device.unknown", &none, Reason::Alert, "Router", "Router is unknown", Severity::Info),
        (
            "device.offline",
            &none,
            Reason::Escalation,
            "Router",
            "Not acknowledged: Router is offline",
            Severity::Critical,
        ),
        (
            "device.offline",
            &none,
            Reason::Flapping,
            "Router",
            "Router keeps changing its status",
            Severity::Warning,
        ),
        (
            "agent.offline",
            &agent("offline", Some(12)),
            Reason::Alert,
            "Attic",
            "Agent Attic is offline: 12 devices unknown",
            Severity::Critical,
        ),
        (
            "agent.offline",
            &agent("offline", Some(1)),
            Reason::Alert,
            "Attic",
            "Agent Attic is offline: 1 device unknown",
            Severity::Critical,
        ),
        (
            "agent.offline",
            &agent("offline", None),
            Reason::Alert,
            "Attic",
            "Agent Attic is offline",
            Severity::Critical,
        ),
        (
            "agent.online",
            &agent("online", None),
            Reason::Recovery,
            "Attic",
            "Agent Attic is online again",
            Severity::Good,
        ),
        ("scan.failed", &none, Reason::Event, "LAN", "Scan of LAN failed", Severity::Warning),
        (
            "channel.disabled",
            &none,
            Reason::Event,
            "Ops",
            "Channel Ops is disabled",
            Severity::Warning,
        ),
        ("channel.test", &none, Reason::Event, "Ops", "Test message", Severity::Info),
        (
            "alert.acknowledged",
            &none,
            Reason::Event,
            "Router",
            "Alert for Router is acknowledged",
            Severity::Info,
        ),
    ] {
        let notice = notice(&message(event, data, reason, name));
        assert_eq!((notice.title.as_str(), notice.severity), (title, severity), "{event}");
    }
}

#[test]
fn a_resource_without_a_name_has_that_of_the_event() {
    let message = message("device.offline", &json!({"name": "Router"}), Reason::Event, "");
    assert_eq!(notice(&message).title, "Router is offline");
    assert_eq!(notice(&message).facts[0], ("Device", "Router".into()));
}

#[test]
fn colours_are_those_of_the_status() {
    for (event, colour) in [
        ("device.offline", "dc2626"),
        ("agent.offline", "dc2626"),
        ("device.online", "16a34a"),
        ("device.degraded", "d97706"),
        ("channel.degraded", "d97706"),
        ("delivery.dead", "d97706"),
        ("command.failed", "d97706"),
        ("channel.healthy", "16a34a"),
        ("agent.disabled", "2563eb"),
        ("scan.completed", "2563eb"),
        ("channel.test", "2563eb"),
    ] {
        let severity = Severity::of(event);
        assert_eq!(severity.colour(), colour);
        assert_eq!(format!("{:06x}", severity.colour_number()), colour);
    }
}

#[test]
fn a_digest_counts_all_and_writes_out_some() {
    let mut message = message("device.offline", &json!({}), Reason::Digest, "Router");
    let at = message.event.at;
    let item =
        |seq| DigestItem { seq, event: "device.online".into(), resource_name: "Router".into(), at };
    message.content.items = (0..25).map(item).collect();
    message.content.more = 5;
    let notice = notice(&message);
    assert_eq!((notice.title.as_str(), notice.severity), ("30 changes in Acme", Severity::Good));
    assert_eq!((notice.lines.len(), notice.more), (LINES_MAX, 10));
    assert_eq!(notice.lines[0], format!("🟢 Router is online ({AT})"));
    assert_eq!(notice.and_more().unwrap(), "and 10 more");
}

#[test]
fn what_comes_late_says_how_late() {
    let delayed = |minutes: u64, reason| {
        let mut message = message("device.offline", &json!({}), reason, "Router");
        message.at = message.event.at + Duration::from_secs(minutes * 60);
        notice(&message).summary.unwrap_or_default()
    };
    assert_eq!(delayed(5, Reason::Alert), "");
    assert_eq!(delayed(12, Reason::Alert), "This message is delayed by 12 min.");
    assert_eq!(delayed(60, Reason::Alert), "This message is delayed by 1 h.");
    assert_eq!(delayed(192, Reason::Alert), "This message is delayed by 3 h 12 min.");
    assert_eq!(delayed(27 * 60, Reason::Alert), "This message is delayed by 1 d 3 h.");
    assert_eq!(delayed(90, Reason::Escalation), "Nobody has acknowledged this alert in time.");
}

#[test]
fn only_what_is_wrong_can_be_acknowledged() {
    for (reason, can) in [
        (Reason::Alert, true),
        (Reason::Escalation, true),
        (Reason::Flapping, true),
        (Reason::Recovery, false),
        (Reason::Event, false),
        (Reason::Digest, false),
    ] {
        let mut message = message("device.offline", &json!({}), reason, "Router");
        assert_eq!(notice(&message).acknowledge, None, "there is no alert");
        message.content.alert_id = Some(AlertId::new());
        assert_eq!(notice(&message).acknowledge.is_some(), can, "{reason}");
    }
}

#[test]
fn names_are_bounded_lines() {
    let long = format!("a\r\n\u{202e}b{}", "é".repeat(10_000));
    let mut message = message("device.offline", &json!({}), Reason::Alert, &long);
    message.content.org_name.clone_from(&long);
    message.content.rule_name.clone_from(&long);
    let notice = notice(&message);
    for (text, chars_max) in [
        (&notice.title, TITLE_CHARS_MAX),
        (&notice.org, NAME_CHARS_MAX),
        (&notice.rule, NAME_CHARS_MAX),
        (&notice.facts[0].1, VALUE_CHARS_MAX),
    ] {
        assert!(text.chars().count() <= chars_max && text.starts_with("a bé"), "{text}");
    }
    assert!(notice.title.ends_with("… is offline"));
}

#[test]
fn what_does_not_fit_loses_its_lines_first() {
    let mut message = message("device.offline", &json!({}), Reason::Digest, "Router");
    let at = message.event.at;
    let item = |seq| DigestItem {
        seq,
        event: "device.offline".into(),
        resource_name: "Router".into(),
        at,
    };
    message.content.items = (0..10).map(item).collect();
    let notice = notice(&message);
    let shown = notice.fitted(Clone::clone, |notice| notice.lines.len() <= 3);
    assert_eq!((shown.lines.len(), shown.more, shown.facts.len()), (3, 7, 1));
    let nothing = notice.fitted(Clone::clone, |_| false);
    assert_eq!((nothing.lines.len(), nothing.more, nothing.facts.len()), (0, 10, 0));
}
