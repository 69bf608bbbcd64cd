//! `/ws/agent`: who may come in, what is said, and what each fault is closed with.

use std::num::NonZeroU32;
use std::time::Duration;

use pulse_actors::directory::AskError;
use pulse_actors::testing::{eventually, hello, report};
use pulse_protocol::agent::{AgentFrame, FRAME_BYTES_MAX, Heartbeat, Network, Segments};
use pulse_protocol::api::OrgStatus;
use pulse_protocol::status::DeviceStatus;
use pulse_web::socket::limits::LimitSettings;
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::Hub;

pub(crate) fn segments(seq: u64) -> AgentFrame {
    let network =
        Network { cidr: "10.0.0.0/16".into(), name: "Office".into(), interface: "eth0".into() };
    AgentFrame::Segments(Segments { seq, networks: vec![network] })
}

fn online(seq: u64) -> AgentFrame {
    report(seq, &format!("10.0.{}.{}", seq / 200, seq % 200 + 1), DeviceStatus::Online)
}

#[actix_web::test]
async fn who_may_not_come_in_is_told_why_before_the_upgrade() {
    let hub = Hub::start().await;
    let key = |status, enabled| hub.key_of(hub.agent_id, status, enabled);
    let unknown = key(OrgStatus::Active, true).replace('_', "-");
    let mut mistyped = hub.key.clone();
    let last = mistyped.pop().unwrap();
    mistyped.push(if last == '0' { '1' } else { '0' });
    let bare = || hub.request("/ws/agent");
    let bearer = |key: &str| bare().with_header("authorization", format!("Bearer {key}"));
    let cases = [
        (bare().with_sub_protocol("pulse.agent.v1"), 401, "unauthenticated"),
        (hub.agent_request(&mistyped), 401, "unauthenticated"),
        (hub.agent_request(&unknown), 401, "unauthenticated"),
        (hub.agent_request(&key(OrgStatus::Suspended, true)), 403, "org_suspended"),
        (hub.agent_request(&key(OrgStatus::Cancelled, true)), 403, "org_cancelled"),
        (hub.agent_request(&key(OrgStatus::Active, false)), 403, "agent_disabled"),
        (bearer(&hub.key), 400, "bad_request"),
        (bearer(&hub.key).with_sub_protocol("pulse.dashboard.v1"), 400, "bad_request"),
    ];
    for (request, status, code) in cases {
        let refused = hub.open(request).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (status, code));
        let closed_org = code.starts_with("org_");
        assert_eq!(refused.retry_after.as_deref(), closed_org.then_some("300"), "{code}");
    }
    hub.set_ready(false);
    assert_eq!(hub.open(hub.agent_request(&hub.key)).await.unwrap_err().status, 503);
}

#[actix_web::test]
async fn too_many_handshakes_are_put_off() {
    let limits =
        LimitSettings { handshakes_per_address: NonZeroU32::new(2), ..LimitSettings::default() };
    let hub = Hub::with_limits(limits).await;
    let (_one, _two) = (hub.agent().await, hub.agent().await);
    let refused = hub.open(hub.agent_request(&hub.key)).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (429, "rate_limited"));
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
}

#[actix_web::test]
async fn each_fault_has_its_close_code_and_leaves_the_hub_unharmed() {
    let unacked_frames = NonZeroU32::new(256);
    let hub = Hub::with_limits(LimitSettings { unacked_frames, ..LimitSettings::default() }).await;
    let mut other_protocol = hello(1);
    other_protocol.protocol = 2;
    let hello_text = serde_json::to_string(&AgentFrame::Hello(hello(1))).unwrap();
    let before_hello = [
        (json!({"type": "heartbeat", "uptime_s": 1, "spool_depth": 0}).to_string(), 4010, None),
        (json!({"type": "nonsense"}).to_string(), 4010, None),
        (
            serde_json::to_string(&AgentFrame::Hello(other_protocol)).unwrap(),
            4000,
            Some("unsupported_protocol"),
        ),
        (json!({"type": "hello"}).to_string(), 4000, Some("malformed_frame")),
        ("hello".to_owned(), 4000, Some("malformed_frame")),
    ];
    for (text, code, error) in before_hello {
        let mut agent = hub.agent().await;
        agent.text(&text).await;
        let (closed_with, frames) = agent.closed().await;
        assert_eq!(closed_with, code, "{text}");
        assert_eq!(frames.first().and_then(|frame| frame["code"].as_str()), error, "{text}");
    }
    let after_hello = [
        (Message::text(hello_text), 4000),
        (Message::binary(vec![1, 2, 3]), 4000),
        (Message::text("[1, 2]"), 4000),
        (Message::text("{\"type\":"), 4000),
        (Message::text("{}"), 4000),
        (Message::text(json!({"type": "report", "reports": []}).to_string()), 4000),
        (Message::text(json!({"type": "report", "seq": 0, "reports": []}).to_string()), 4000),
        (Message::text(json!({"type": "report", "seq": -3}).to_string()), 4000),
        (Message::text(serde_json::to_string(&online(2)).unwrap()), 4002),
        // Further ahead than any window: the close must not wait for an ack that will never come.
        (Message::text(serde_json::to_string(&online(5_000)).unwrap()), 4002),
        (Message::text(serde_json::to_string(&online(u64::MAX)).unwrap()), 4002),
        (Message::text("x".repeat(FRAME_BYTES_MAX + 1)), 1009),
    ];
    for (message, code) in after_hello {
        let shown = format!("{message:.80}");
        let mut agent = hub.welcomed(1).await;
        agent.send(message).await;
        assert_eq!(agent.closed().await.0, code, "{shown}");
    }
    let mut agent = hub.agent().await;
    agent.say(&AgentFrame::Hello(hello(7))).await;
    let (code, frames) = agent.closed().await;
    assert_eq!((code, frames[0]["code"].as_str()), (4002, Some("seq_gap")));
    // And still it works.
    let mut agent = hub.welcomed(1).await;
    agent.say(&segments(1)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await, json!({"type": "ack", "seq": 1}));
    assert!(eventually(|| hub.metrics.agent_connections.get() == 1).await);
}

#[actix_web::test]
async fn what_is_wrong_and_harmless_is_answered_and_the_session_goes_on() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    agent.text(&json!({"type": "frame_of_tomorrow", "seq": 1}).to_string()).await;
    let frame = agent.frame().await;
    assert_eq!(
        (frame["code"].as_str(), frame["fatal"].as_bool()),
        (Some("unknown_frame"), Some(false))
    );
    agent.text(&json!({"type": "report", "seq": 1, "reports": "all well"}).to_string()).await;
    assert_eq!(agent.frame().await, json!({"type": "ack", "seq": 1}));
    let frame = agent.frame().await;
    assert_eq!((frame["code"].as_str(), frame["seq"].as_u64()), (Some("rejected"), Some(1)));
    // The same again is acked again and reported no more.
    agent.text(&json!({"type": "report", "seq": 1, "reports": "all well"}).to_string()).await;
    assert_eq!(agent.frame().await, json!({"type": "ack", "seq": 1}));
    agent.say(&AgentFrame::Heartbeat(Heartbeat { uptime_s: 1, spool_depth: 0, load: None })).await;
    agent.say(&segments(2)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await, json!({"type": "ack", "seq": 2}));
}

#[actix_web::test]
async fn a_frame_in_fragments_is_a_frame() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    let text = serde_json::to_string(&segments(1)).unwrap();
    let (head, tail) = text.split_at(20);
    let part = |text: &str, opcode, is_last| {
        Message::Frame(Frame::message(
            Bytes::copy_from_slice(text.as_bytes()),
            OpCode::Data(opcode),
            is_last,
        ))
    };
    agent.send(part(head, Data::Text, false)).await;
    agent.send(Message::Ping(Bytes::from_static(b"between"))).await;
    agent.send(part(tail, Data::Continue, true)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await["seq"], 1);
    // Together they must not be larger than a frame may be.
    agent.send(part(&"x".repeat(FRAME_BYTES_MAX - 10), Data::Text, false)).await;
    agent.send(part(&"x".repeat(20), Data::Continue, true)).await;
    assert_eq!(agent.closed().await.0, 1009);
}

#[actix_web::test]
async fn a_newer_connection_wins_and_nobody_is_announced_offline() {
    let hub = Hub::start().await;
    let mut older = hub.welcomed(1).await;
    let mut newer = hub.welcomed(1).await;
    assert_eq!(older.closed().await.0, 4001);
    newer.say(&segments(1)).await;
    assert_eq!(newer.frame().await["type"], "config");
    assert_eq!(newer.frame().await["seq"], 1);
    assert!(eventually(|| hub.metrics.agent_connections.get() == 1).await);
    assert!(!hub.world.store.event_names(hub.org_id).contains(&"agent.offline".to_owned()));
}

#[actix_web::test]
async fn too_many_frames_a_second_are_cut_off() {
    let frames = NonZeroU32::new(5).zip(NonZeroU32::new(10));
    let hub = Hub::with_limits(LimitSettings { frames, ..LimitSettings::default() }).await;
    let mut agent = hub.welcomed(1).await;
    for _ in 0..10 {
        agent
            .say(&AgentFrame::Heartbeat(Heartbeat { uptime_s: 1, spool_depth: 0, load: None }))
            .await;
    }
    let (code, frames) = agent.closed().await;
    assert_eq!((code, frames[0]["code"].as_str()), (4029, Some("too_many_frames")));
}

#[actix_web::test]
async fn a_silent_agent_is_closed_at_its_timeout_and_announced_after_the_grace() {
    let hub = Hub::start().await;
    let patch = json!({"heartbeat_interval_ms": 1_000, "heartbeat_timeout_ms": 2_000, "offline_grace_ms": 1_000});
    let patch = serde_json::from_value(patch).unwrap();
    let request = pulse_domain::request::Request::PatchOrg(patch);
    hub.world.directory.request(hub.org_id, request).await.unwrap();
    let mut agent = hub.welcomed(1).await;
    // The framework's pings would keep it alive, so nothing is read until the hub has had its say.
    agent.send(Message::Ping(Bytes::new())).await;
    let heard_at = tokio::time::Instant::now();
    assert_eq!(agent.closed().await.0, 4008);
    let took = heard_at.elapsed();
    assert!(
        (Duration::from_millis(1_990)..Duration::from_secs(3)).contains(&took),
        "closed after {took:?}"
    );
    assert!(
        eventually(|| hub
            .world
            .store
            .event_names(hub.org_id)
            .contains(&"agent.offline".to_owned()))
        .await
    );
    let took = heard_at.elapsed();
    assert!(
        (Duration::from_millis(2_990)..Duration::from_secs(4)).contains(&took),
        "announced after {took:?}"
    );
}

#[actix_web::test]
async fn a_home_that_falls_is_replaced_without_the_agent_noticing() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    agent.say(&segments(1)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await["seq"], 1);
    hub.world.journal.poison("agent.enrolled");
    assert_eq!(hub.world.agent(hub.org_id).await, Err(AskError::Unavailable));
    hub.world.journal.heal();
    // What may have changed meanwhile, and no second welcome.
    assert_eq!(agent.frame().await["type"], "config");
    agent.say(&online(2)).await;
    assert_eq!(agent.frame().await, json!({"type": "ack", "seq": 2}));
    assert!(!hub.world.store.event_names(hub.org_id).contains(&"agent.offline".to_owned()));
}

#[actix_web::test]
async fn what_a_lost_home_had_in_its_hands_its_successor_gets_without_a_reconnect() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    agent.say(&segments(1)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await["seq"], 1);
    hub.world.journal.hold();
    agent.say(&online(2)).await;
    assert!(eventually(|| hub.world.journal.waiting() == 1).await);
    agent.text(&json!({"type": "report", "seq": 3, "reports": "none"}).to_string()).await;
    agent.say(&online(4)).await;
    assert!(eventually(|| hub.world.journal.waiting() == 3).await);
    hub.world.journal.fail();
    hub.world.journal.flow();
    assert_eq!(agent.frame().await["type"], "config");
    let mut acked = 1;
    while acked < 4 {
        let frame = agent.frame().await;
        match frame["type"].as_str() {
            Some("error") => assert_eq!((&frame["seq"], acked), (&json!(3), 3)),
            _ => acked = frame["seq"].as_u64().unwrap(),
        }
    }
    agent.say(&online(5)).await;
    while agent.frame().await["seq"] != 5 {}
    let told = hub.world.store.event_names(hub.org_id);
    assert_eq!(told.iter().filter(|name| *name == "device.discovered").count(), 3);
    assert!(!told.contains(&"agent.offline".to_owned()));
}

#[actix_web::test]
async fn an_agent_with_more_in_flight_than_is_kept_sends_it_again_itself() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    hub.world.journal.hold();
    let mut frame = online(1);
    if let AgentFrame::Report(report) = &mut frame {
        report.reports[0].error = Some("x".repeat(300 * 1024));
    }
    agent.say(&frame).await;
    assert!(eventually(|| hub.world.journal.waiting() == 1).await);
    hub.world.journal.fail();
    hub.world.journal.flow();
    let (code, frames) = agent.closed().await;
    assert_eq!(code, 1001);
    assert!(frames.iter().all(|frame| frame["type"] != "ack"));
}

#[actix_web::test]
async fn a_suspended_org_is_closed_with_its_code_and_a_drain_sends_everybody_away() {
    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    let drain = hub.world.directory.drain(750, Duration::from_secs(5));
    let ((), (code, frames)) = futures_util::future::join(drain, agent.closed()).await;
    assert_eq!((code, frames), (1001, vec![json!({"type": "drain", "reconnect_after_ms": 750})]));
    assert!(eventually(|| hub.metrics.agent_connections.get() == 0).await);
    assert!(!hub.world.store.event_names(hub.org_id).contains(&"agent.offline".to_owned()));

    let hub = Hub::start().await;
    let mut agent = hub.welcomed(1).await;
    hub.world.store.change_org(hub.org_id, |org| org.status = OrgStatus::Suspended);
    hub.world.directory.reload_changed(pulse_actors::testing::NOON).await.unwrap();
    assert_eq!(agent.closed().await.0, 4004);
}
