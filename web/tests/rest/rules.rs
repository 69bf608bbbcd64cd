//! Rules, maintenance windows and alerts.

use pulse_domain::notification::alert::{Alert, EventRef, Resource};
use pulse_domain::notification::board::Tracked;
use pulse_domain::record::{AgentRecord, AlertRecord, JournalEvent, RuleRecord, RuleSettings};
use pulse_protocol::api::Role;
use pulse_protocol::event::{AgentStatus, EventBody};
use pulse_protocol::ids::{AgentId, AlertId, ChannelId, EventId, OrgId, RuleId};
use pulse_protocol::problem::ProblemCode;
use pulse_protocol::status::{AgentState, Cause};
use pulse_web::links::Links;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::resources::{Scene, id};
use crate::support::{As, NOON, header, problem};

#[actix_web::test]
async fn a_rule_has_everything_that_a_rule_can_have() {
    let scene = Scene::new().await;
    let channel = scene.channel().await;
    let body = json!({
        "name": "Night", "description": "Wakes people", "event_types": ["device.offline"],
        "channel_ids": [channel], "cooldown_s": 60, "min_duration_s": 30, "grouping": "digest",
        "flap_detection": false, "enabled": false,
        "quiet_hours": {"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin", "days": [6]},
        "escalation": {"after_s": 600, "channel_ids": [channel]},
    });
    let made = scene.make("/rules", body.clone()).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!(made["filters"], json!({}));
    let path = format!("/rules/{}", id(&made));
    let patch = json!({"quiet_hours": null, "escalation": null, "description": null});
    let changed = scene.change(Method::PATCH, &path, patch).await;
    for field in ["quiet_hours", "escalation", "description"] {
        assert!(changed.get(field).is_none(), "{field}");
    }
    let plain = json!({"name": "x", "event_types": ["agent.offline"], "channel_ids": [channel]});
    let made = scene.make("/rules", plain).await;
    let defaults = ["cooldown_s", "min_duration_s", "grouping", "flap_detection", "enabled"];
    let defaults = defaults.map(|field| made[field].clone());
    assert_eq!(defaults, [json!(300), json!(0), json!("agent"), json!(true), json!(true)]);
}

#[actix_web::test]
async fn n30_n31_a_bad_rule_is_422_with_its_fields_when_it_is_made_changed_or_previewed() {
    let scene = Scene::new().await;
    let channel = scene.channel().await;
    let good = json!({"name": "x", "event_types": ["agent.offline"], "channel_ids": [channel]});
    let path = format!("/rules/{}", id(&scene.make("/rules", good.clone()).await));
    for (field, change) in [
        ("name", json!({"name": ""})),
        ("event_types[0]", json!({"event_types": ["agent.asleep"]})),
        ("channel_ids[0]", json!({"channel_ids": [ChannelId::new()]})),
        ("cooldown_s", json!({"cooldown_s": 86_401})),
        ("filters.agent_ids[0]", json!({"filters": {"agent_ids": [AgentId::new()]}})),
        (
            "quiet_hours.timezone",
            json!({"quiet_hours": {"from": "22:00", "to": "06:00", "timezone": "Berlin"}}),
        ),
        (
            "escalation.channel_ids[0]",
            json!({"escalation": {"after_s": 60, "channel_ids": [ChannelId::new()]}}),
        ),
        ("grouping", json!({"grouping": "heap"})),
        ("cooldown_s", json!({"cooldown_s": -1})),
    ] {
        let mut whole = good.clone();
        whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        for (method, path, body) in [
            (Method::POST, "/rules", &whole),
            (Method::PATCH, &*path, &change),
            (Method::POST, "/rules/preview", &whole),
        ] {
            let shown = scene.refused(method, path, body.clone()).await;
            assert_eq!(shown.code, ProblemCode::ValidationFailed, "{path} {field}");
            assert_eq!(shown.errors[0].field, field, "{path}");
        }
    }
}

#[actix_web::test]
async fn a_preview_reads_the_last_seven_days() {
    let scene = Scene::new().await;
    let channel = scene.channel().await;
    let agent_id = AgentId::new();
    let mut status = AgentStatus {
        agent_id,
        name: "north".into(),
        previous: AgentState::Online,
        current: AgentState::Offline,
        since: NOON,
        cause: Cause::HeartbeatTimeout,
        devices_unknown: None,
    };
    let mut events = vec![];
    for (seq, hours) in [(1, 24 * 8), (2, 24), (3, 2), (4, 1)] {
        let body = match seq {
            3 => EventBody::AgentOnline(status.clone()),
            _ => EventBody::AgentOffline(status.clone()),
        };
        status.previous = AgentState::Offline;
        events.push(JournalEvent {
            seq,
            id: EventId::new(),
            name: body.name().into(),
            at: NOON - std::time::Duration::from_secs(hours * 3_600),
            data: body.data_json().unwrap().into(),
        });
    }
    scene.hub.store.events.lock().splice(0..0, events);
    let rule = json!({
        "name": "x", "event_types": ["agent.offline", "agent.online"], "channel_ids": [channel],
        "cooldown_s": 86_000, "enabled": false,
    });
    let preview = scene.change(Method::POST, "/rules/preview", rule).await;
    assert_eq!(preview["events"], 3);
    assert_eq!((&preview["sent"], &preview["suppressed"]), (&json!(3), &json!(1)));
    let items: Vec<Value> = preview["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!([it["seq"], it["reason"], it.get("suppressed")]))
        .collect();
    let expected = [
        json!([4, "alert", null]),
        json!([4, "alert", "cooldown"]),
        json!([3, "recovery", null]),
        json!([2, "alert", null]),
    ];
    assert_eq!(items, expected, "the alert in the cooldown is told at its end");
    assert_eq!((&preview["truncated"], &preview["to"]), (&json!(false), &json!(NOON)));
    assert_eq!(scene.get("/rules").await["items"], json!([]), "it is not kept");
}

#[actix_web::test]
async fn maintenance_windows_are_made_listed_changed_and_removed() {
    let scene = Scene::new().await;
    let body = json!({
        "name": "Patches", "starts_at": "2026-03-01T11:00:00Z", "ends_at": "2026-03-01T13:00:00Z",
        "timezone": "Europe/Berlin", "recurrence": "weekly", "days": [7, 3],
    });
    let made = scene.make("/maintenance-windows", body).await;
    assert!(id(&made).starts_with("mnt_"));
    assert_eq!((&made["open"], &made["days"]), (&json!(true), &json!([3, 7])));
    assert_eq!(made["next_change_at"], "2026-03-01T13:00:00.000Z");
    let path = format!("/maintenance-windows/{}", id(&made));
    assert_eq!(scene.get("/maintenance-windows").await["items"], json!([made]));
    assert_eq!(scene.get(&path).await, made);
    let patch = json!({"recurrence": null, "ends_at": "2026-03-01T11:30:00Z"});
    let changed = scene.change(Method::PATCH, &path, patch).await;
    assert_eq!((&changed["open"], changed.get("next_change_at")), (&json!(false), None));
    let shown = scene.refused(Method::PATCH, &path, json!({"timezone": "Berlin"})).await;
    assert_eq!(shown.errors[0].field, "timezone");
    let names: Vec<String> =
        scene.hub.store.events.lock().iter().map(|event| event.name.to_string()).collect();
    assert!(names.contains(&"maintenance.started".into()), "{names:?}");
    assert!(names.contains(&"maintenance.ended".into()), "{names:?}");
    scene.remove(&path).await;
}

/// An alert about an agent that is away, as a home finds it.
fn seed(scene: &Scene) -> AlertId {
    let (agent_id, rule_id, alert_id) = (AgentId::new(), RuleId::new(), AlertId::new());
    scene.hub.store.agents.lock().push(AgentRecord {
        id: agent_id,
        name: "north".into(),
        enabled: true,
        key_hash: [0; 32],
        key_prefix: "vp_acme0000_".into(),
        previous_key: None,
        facts: None,
        created_at: NOON,
    });
    scene.hub.store.rules.lock().push(RuleRecord {
        id: rule_id,
        name: "Night".into(),
        event_types: vec!["agent.offline".into()],
        channel_ids: vec![],
        settings: RuleSettings::default(),
        enabled: true,
        created_at: NOON,
    });
    let problem = EventRef { seq: 1, id: EventId::new(), name: "agent.offline".into(), at: NOON };
    let resource = Resource::Agent(agent_id);
    scene.hub.store.alerts.lock().push(AlertRecord {
        id: alert_id,
        rule_id,
        resource: resource.to_string(),
        state: Tracked::Alert(Box::new(Alert::new(resource, "<b>north</b>".into(), problem))),
        due_at: None,
        updated_at: NOON,
    });
    alert_id
}

#[actix_web::test]
async fn n32_an_alert_is_listed_and_acknowledged_by_whoever_may() {
    let scene = Scene::new().await;
    let alert_id = seed(&scene);
    let listed = scene.get("/alerts?state=pending").await["items"].clone();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["event"]),
        (&json!(alert_id), &json!("agent.offline"))
    );
    assert_eq!(scene.get("/alerts?state=resolved").await["items"], json!([]));
    let bad = scene.refused(Method::GET, "/alerts?state=angry", Value::Null).await;
    assert_eq!(bad.errors[0].field, "state");

    let path = format!("{}/alerts/{alert_id}/acknowledge", scene.root);
    let org_id: OrgId = scene.root.rsplit('/').next().unwrap().parse().unwrap();
    let viewer = scene.hub.member(org_id, Role::Viewer);
    assert_eq!(
        problem(scene.hub.post(&path, &viewer, "").await).await.code,
        ProblemCode::Forbidden
    );
    let editor = scene.hub.member(org_id, Role::Editor);
    for _ in 0..2 {
        let acknowledged: Value = scene.hub.post(&path, &editor, "").await.json().await.unwrap();
        assert_eq!(acknowledged["acknowledged_by"], "editor@example.com");
    }
    let events = scene.hub.store.events.lock().clone();
    let count = events.iter().filter(|event| &*event.name == "alert.acknowledged").count();
    assert_eq!(count, 1);
    let nobody = format!("/alerts/{}/acknowledge", AlertId::new());
    let gone = scene.refused(Method::POST, &nobody, Value::Null).await;
    assert_eq!(gone.code, ProblemCode::NotFound);
}

async fn page(answer: Response) -> (u16, String) {
    assert_eq!(header(answer.headers(), "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(answer.headers(), "cache-control"), "no-store");
    assert_eq!(header(answer.headers(), "referrer-policy"), "no-referrer");
    let policy = header(answer.headers(), "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert!(!text.contains("<script"));
    (status, text)
}

#[actix_web::test]
async fn the_link_in_a_message_acknowledges_when_its_button_is_pressed_and_not_before() {
    let scene = Scene::new().await;
    let alert_id = seed(&scene);
    let org_id: OrgId = scene.root.rsplit('/').next().unwrap().parse().unwrap();
    let links = Links::new("http://127.0.0.1:8080".parse().unwrap(), vec![[7; 32]]);
    let path = |id| {
        let link = links.acknowledge(org_id, id);
        link.strip_prefix("http://127.0.0.1:8080").unwrap().to_owned()
    };
    let (hub, link) = (&scene.hub, path(alert_id));
    for _ in 0..2 {
        let (status, text) = page(hub.get(&link, &As::Nobody).await).await;
        assert_eq!(status, 200);
        assert!(
            text.contains("<form method=\"post\">") && text.contains("agent.offline"),
            "{text}"
        );
        assert!(!text.contains("<b>north"), "names are escaped: {text}");
    }
    assert!(scene.get("/alerts").await["items"][0].get("acknowledged_at").is_none());
    for _ in 0..2 {
        let (status, text) = page(hub.post(&link, &As::Nobody, "").await).await;
        assert_eq!(status, 200);
        assert!(text.contains("Acknowledged") && !text.contains("<form"), "{text}");
    }
    assert_eq!(scene.get("/alerts").await["items"][0]["acknowledged_by"], "link");

    let over = path(AlertId::new());
    for answer in [hub.get(&over, &As::Nobody).await, hub.post(&over, &As::Nobody, "").await] {
        assert!(page(answer).await.1.contains("This alert is over"));
    }
    let forged = format!("/acknowledge/{}", "A".repeat(120));
    for answer in [hub.get(&forged, &As::Nobody).await, hub.post(&forged, &As::Nobody, "").await] {
        assert_eq!(page(answer).await.0, 404);
    }
}
