//! `/ws/dashboard`: who may watch, and every event once and in order.

use std::time::Duration;

use pulse_actors::directory::AskError;
use pulse_actors::testing::{eventually, report};
use pulse_protocol::api::{OrgStatus, Role};
use pulse_protocol::ids::OrgId;
use pulse_protocol::status::DeviceStatus;
use serde_json::json;

use crate::agent::segments;
use crate::support::{Client, Hub};

/// An agent on a segment, so that an address it reports is a device.
pub(crate) async fn agent_on_segment(hub: &Hub) -> Client {
    let mut agent = hub.welcomed(1).await;
    agent.say(&segments(1)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await["seq"], 1);
    agent
}

#[actix_web::test]
async fn who_may_not_watch_is_told_why_before_the_upgrade() {
    let hub = Hub::start().await;
    let bare = |path: &str| hub.request(path).with_sub_protocol("pulse.dashboard.v1");
    let with = |path: &str, token: &str| {
        bare(path).with_header("authorization", format!("Bearer {token}"))
    };
    let org = format!("/ws/dashboard?org={}", hub.org_id);
    let foreign = format!("/ws/dashboard?org={}", OrgId::new());
    let stranger = hub.token_of(None);
    let no_protocol =
        hub.request(&org).with_header("authorization", format!("Bearer {}", hub.token));
    let cases = [
        (bare(&org), 401, "unauthenticated"),
        (with(&org, "vpt_nonsense"), 401, "unauthenticated"),
        (with("/ws/dashboard", &hub.token), 400, "org_required"),
        (with("/ws/dashboard?org=", &hub.token), 400, "org_required"),
        (with("/ws/dashboard?org=acme", &hub.token), 404, "not_found"),
        (with(&foreign, &hub.token), 404, "not_found"),
        (with(&org, &stranger), 404, "not_found"),
        (hub.dashboard_request("&after=soon"), 400, "validation_failed"),
        (hub.dashboard_request("&after=-1"), 400, "validation_failed"),
        (hub.dashboard_request("").with_header("origin", "https://evil.example"), 403, "forbidden"),
        (hub.dashboard_request("").with_header("origin", "null"), 403, "forbidden"),
        (no_protocol, 400, "bad_request"),
    ];
    for (request, status, code) in cases {
        let refused = hub.open(request).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (status, code));
    }
    let own = hub.dashboard_request("").with_header("origin", "https://hub.example");
    assert_eq!(hub.open(own).await.unwrap().frame().await["type"], "snapshot");
    hub.world.store.change_org(hub.org_id, |org| org.status = OrgStatus::Suspended);
    let refused = hub.open(hub.dashboard_request("")).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (403, "org_suspended"));
    assert!(eventually(|| hub.metrics.dashboard_connections.get() == 0).await);
    assert_eq!(hub.token_of(Some(Role::Owner)).len(), hub.token.len());
}

#[actix_web::test]
async fn a_snapshot_comes_first_and_then_every_event_once_and_in_order() {
    let hub = Hub::start().await;
    let mut viewer = hub.dashboard("").await;
    let snapshot = viewer.frame().await;
    assert_eq!((snapshot["type"].as_str(), snapshot["seq"].as_u64()), (Some("snapshot"), Some(1)));
    let mut agent = agent_on_segment(&hub).await;
    for seq in 2..=30 {
        agent.say(&report(seq, &format!("10.0.0.{seq}"), DeviceStatus::Online)).await;
    }
    assert!(eventually(|| hub.world.store.image(hub.org_id).unwrap().devices.len() == 29).await);
    let through = hub.seq();
    assert!(viewer.events(through).await.into_iter().eq(2..=through));

    // Where it left off: from the store, then what is pushed.
    drop(viewer);
    let mut back = hub.dashboard(&format!("&after={}", through - 7)).await;
    assert!(back.events(through).await.into_iter().eq(through - 6..=through));
    agent.say(&report(31, "10.0.1.1", DeviceStatus::Online)).await;
    assert_eq!(back.events(through + 1).await, [through + 1]);
}

#[actix_web::test]
async fn after_a_resume_the_first_frame_says_where_it_is() {
    let hub = Hub::start().await;
    let _agent = agent_on_segment(&hub).await;
    let seq = hub.seq();
    let mut ready = hub.dashboard(&format!("&after={seq}")).await;
    assert_eq!(ready.frame().await, json!({"type": "ready", "seq": seq}));
    let mut ahead = hub.dashboard(&format!("&after={}", seq + 5)).await;
    let frame = ahead.frame().await;
    assert_eq!((frame["type"].as_str(), frame["seq"].as_u64()), (Some("snapshot"), Some(seq)));
    hub.world.store.prune(hub.org_id, 3);
    let mut behind = hub.dashboard("&after=1").await;
    assert_eq!(behind.frame().await, json!({"type": "resync", "reason": "too_far_behind"}));
    assert_eq!(behind.frame().await["type"], "snapshot");
}

#[actix_web::test]
async fn many_missed_events_come_whole_while_new_ones_are_pushed() {
    let hub = Hub::start().await;
    let mut agent = agent_on_segment(&hub).await;
    for seq in 2..=1_300 {
        agent
            .say(&report(
                seq,
                &format!("10.0.{}.{}", seq / 250, seq % 250 + 1),
                DeviceStatus::Online,
            ))
            .await;
    }
    assert!(eventually(|| hub.world.store.image(hub.org_id).unwrap().devices.len() == 1_299).await);
    let missed = hub.seq();
    let mut viewer = hub.dashboard("&after=1").await;
    for seq in 1_301..=1_400 {
        agent
            .say(&report(
                seq,
                &format!("10.0.{}.{}", seq / 250, seq % 250 + 1),
                DeviceStatus::Online,
            ))
            .await;
    }
    let through = missed + 100;
    assert!(viewer.events(through).await.into_iter().eq(2..=through));
}

#[actix_web::test]
async fn a_filter_narrows_and_says_how_far_it_is_complete() {
    let hub = Hub::start().await;
    let mut viewer = hub.dashboard("").await;
    assert_eq!(viewer.frame().await["type"], "snapshot");
    viewer.text(&json!({"type": "filter", "events": ["device.discovered"]}).to_string()).await;
    viewer.text(&json!({"type": "ping", "nonce": {"a": 1}}).to_string()).await;
    assert_eq!(
        viewer.numbered().await,
        json!({"type": "pong", "nonce": {"a": 1}, "seq_through": 1})
    );
    let mut agent = agent_on_segment(&hub).await;
    agent.say(&report(2, "10.0.0.1", DeviceStatus::Online)).await;
    let frame = viewer.numbered().await;
    assert_eq!(frame["event"], "device.discovered");
    assert_eq!(frame["seq"], frame["seq_through"]);
    assert!(frame["seq"].as_u64() > Some(1));
    viewer.text(&json!({"type": "tomorrow"}).to_string()).await;
    assert_eq!(viewer.numbered().await["code"], "unknown_frame");
    viewer.text(&json!({"type": "filter", "agents": 7}).to_string()).await;
    assert_eq!(viewer.closed().await.0, 4000);
}

#[actix_web::test]
async fn a_home_that_falls_leaves_no_gap() {
    let hub = Hub::start().await;
    let mut viewer = hub.dashboard("").await;
    assert_eq!(viewer.frame().await["type"], "snapshot");
    for round in 0..3 {
        hub.world.journal.poison("agent.enrolled");
        assert_eq!(hub.world.agent(hub.org_id).await, Err(AskError::Unavailable));
        hub.world.journal.heal();
        // Who asks while it falls is told to ask again.
        while let Err(error) = hub.world.agent(hub.org_id).await {
            assert_eq!(error, AskError::Unavailable);
        }
        let frame = viewer.numbered().await;
        // Depending on who was first, the session or the event: nothing was missed yet, or it was.
        let frame = if frame["type"] == "ready" { viewer.numbered().await } else { frame };
        assert_eq!(
            (frame["type"].as_str(), frame["seq"].as_u64()),
            (Some("event"), Some(round + 2))
        );
    }
}

#[actix_web::test]
async fn a_viewer_is_closed_with_its_org_and_sent_away_by_a_drain() {
    let hub = Hub::start().await;
    let mut viewer = hub.dashboard("").await;
    assert_eq!(viewer.frame().await["type"], "snapshot");
    hub.world.store.change_org(hub.org_id, |org| org.status = OrgStatus::Suspended);
    hub.world.directory.reload_changed(pulse_actors::testing::NOON).await.unwrap();
    let (code, frames) = viewer.closed().await;
    assert_eq!((code, frames[0]["event"].as_str()), (4004, Some("org.suspended")));

    let hub = Hub::start().await;
    let mut viewer = hub.dashboard("").await;
    assert_eq!(viewer.frame().await["type"], "snapshot");
    hub.world.directory.drain(500, Duration::from_secs(5)).await;
    assert_eq!(viewer.closed().await.0, 1001);
    assert!(eventually(|| hub.metrics.dashboard_connections.get() == 0).await);
}

#[actix_web::test]
async fn viewers_that_come_and_go_leave_nothing_behind() {
    let hub = Hub::start().await;
    for _ in 0..30 {
        // Some are gone before their watch is answered.
        drop(hub.dashboard("").await);
    }
    assert!(eventually(|| hub.metrics.dashboard_connections.get() == 0).await);
    assert!(
        eventually(|| hub.world.metrics.viewers.get() == 0).await,
        "{}",
        hub.world.metrics.viewers.get()
    );
    assert!(!hub.world.directory.has_viewers());
    // The same for agents that vanish while they say hello.
    for _ in 0..30 {
        let mut agent = hub.agent().await;
        agent.say(&pulse_protocol::agent::AgentFrame::Hello(pulse_actors::testing::hello(1))).await;
    }
    assert!(eventually(|| hub.metrics.agent_connections.get() == 0).await);
    assert!(
        eventually(|| hub.world.metrics.agents.get() == 0).await,
        "{}",
        hub.world.metrics.agents.get()
    );
}
