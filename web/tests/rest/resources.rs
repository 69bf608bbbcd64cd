//! What is changed at an org's home: agents, devices, channels, rules, the org itself.

use pulse_domain::record::{Content, DeliveryRecord};
use pulse_protocol::api::{Delivery, DeliveryState, OrgStatus, Reason, Role};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId, RuleId};
use pulse_protocol::key::AgentKey;
use pulse_protocol::problem::{Problem, ProblemCode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{As, Hub, NOON, header, problem};

struct Scene {
    hub: Hub,
    root: String,
    owner: As,
}

impl Scene {
    async fn new() -> Self {
        let hub = Hub::start().await;
        let org = hub.org(OrgStatus::Active);
        let owner = hub.member(org, Role::Owner);
        Self { root: format!("/api/v1/orgs/{org}"), hub, owner }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> reqwest::Response {
        let path = format!("{}{path}", self.root);
        self.hub.request(method, &path, &self.owner).json(body).send().await.unwrap()
    }

    /// Makes something, and follows `Location` to it.
    async fn make(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, &body).await;
        let (status, location) = (answer.status(), header(answer.headers(), "location"));
        let made: Value = answer.json().await.unwrap();
        assert_eq!(status, 201, "{made}");
        assert_eq!(self.hub.get(&location, &self.owner).await.status(), 200, "{location}");
        made
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.hub.get(&format!("{}{path}", self.root), &self.owner).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn change(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, &body).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn remove(&self, path: &str) {
        assert_eq!(self.ask(Method::DELETE, path, &Value::Null).await.status(), 204, "{path}");
        let again = problem(self.ask(Method::DELETE, path, &Value::Null).await).await;
        assert_eq!(again.code, ProblemCode::NotFound, "{path}");
        let gone = self.hub.get(&format!("{}{path}", self.root), &self.owner).await;
        assert_eq!(problem(gone).await.code, ProblemCode::NotFound, "{path}");
    }

    async fn refused(&self, method: Method, path: &str, body: Value) -> Problem {
        problem(self.ask(method, path, &body).await).await
    }

    async fn agent(&self) -> String {
        id(&self.make("/agents", json!({"name": "Rack 1"})).await["agent"])
    }

    async fn channel(&self) -> String {
        let config = json!({"url": "https://example.com/hook"});
        id(&self
            .make("/channels", json!({"name": "Pager", "kind": "webhook", "config": config}))
            .await)
    }
}

impl Scene {
    /// A channel and a rule that tells it.
    async fn told(&self) -> (ChannelId, RuleId) {
        let channel = self.channel().await;
        let rule =
            json!({"name": "Agents", "event_types": ["agent.offline"], "channel_ids": [channel]});
        let rule = id(&self.make("/rules", rule).await);
        (channel.parse().unwrap(), rule.parse().unwrap())
    }

    /// A delivery that was given up.
    fn dead(&self, channel_id: ChannelId, rule_id: RuleId) -> DeliveryId {
        let (id, event_id) = (DeliveryId::new(), EventId::new());
        let (event, state) = ("agent.offline".to_owned(), DeliveryState::Dead);
        let record = DeliveryRecord {
            id,
            channel_id,
            rule_id,
            event_id,
            event_seq: 1,
            event_name: event.clone(),
            resource: "dev_1".into(),
            content: Content::about(Reason::Event, "Router"),
            state,
            tries: 14,
            next_attempt_at: None,
            created_at: NOON,
        };
        let shown = Delivery {
            id,
            event_id,
            seq: 1,
            event,
            rule_id,
            channel_id,
            state,
            recipient: None,
            resource_name: "Router".into(),
            reason: Reason::Event,
            suppressed_by: None,
            alert_id: None,
            created_at: NOON,
            attempts: vec![],
            next_attempt_at: None,
        };
        self.hub.store.deliveries.lock().push((record, shown));
        id
    }
}

fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn an_agent_is_made_with_a_key_that_is_shown_once() {
    let scene = Scene::new().await;
    let made = scene.make("/agents", json!({"name": "Rack 1", "unknown": true})).await;
    let key = AgentKey::parse(made["api_key"].as_str().unwrap()).unwrap();
    assert!(key.secret().starts_with("vp_acme0000_"));
    assert_eq!(made["agent"]["key_prefix"], key.prefix());
    let path = format!("/agents/{}", id(&made["agent"]));
    assert_eq!(scene.get(&path).await, made["agent"]);
    assert_eq!(scene.get("/agents").await, json!({"items": [made["agent"]], "next_cursor": null}));
    assert!(!scene.get("/agents").await.to_string().contains(key.secret()));

    let patched = scene.change(Method::PATCH, &path, json!({"name": "Rack 2"})).await;
    assert_eq!((&patched["name"], &patched["enabled"]), (&json!("Rack 2"), &json!(true)));

    let rotated = scene.change(Method::POST, &format!("{path}/rotate-key"), Value::Null).await;
    assert_ne!(rotated["api_key"], made["api_key"]);
    let new = AgentKey::parse(rotated["api_key"].as_str().unwrap()).unwrap();
    assert_eq!(scene.get(&path).await["key_prefix"], new.prefix());
    scene.remove(&path).await;
}

#[actix_web::test]
async fn a_command_is_given_to_an_agent() {
    let scene = Scene::new().await;
    let path = format!("/agents/{}/commands", scene.agent().await);
    let made = scene.make(&path, json!({"kind": "ping"})).await;
    assert_eq!(made["kind"], "ping");
    assert_eq!(scene.get(&path).await["items"][0]["id"], made["id"]);
    let shown = scene.refused(Method::POST, &path, json!({"kind": "dance"})).await;
    assert_eq!((shown.code, &*shown.errors[0].field), (ProblemCode::ValidationFailed, "kind"));
}

#[actix_web::test]
async fn a_plans_limit_is_told_with_its_numbers() {
    let scene = Scene::new().await;
    for number in 1..=10 {
        scene.make("/agents", json!({"name": format!("Rack {number}")})).await;
    }
    let shown = scene.refused(Method::POST, "/agents", json!({"name": "Rack 11"})).await;
    assert_eq!(shown.code, ProblemCode::LimitReached);
    assert_eq!((shown.limit, shown.current), (Some(10), Some(10)));
    assert_eq!(scene.get("/usage").await["agents"], 10);
}

#[actix_web::test]
async fn devices_are_made_listed_page_by_page_changed_and_removed() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    let mut ids = Vec::new();
    for number in 1..=3 {
        let body = json!({"agent_id": agent, "address": format!("192.0.2.{number}")});
        let made = scene.make("/devices", body).await;
        assert_eq!(made["checks"][0]["check"], "ping");
        assert_eq!(
            (&made["status"], &made["checks"][0]["failure_threshold"]),
            (&json!("unknown"), &json!(1))
        );
        ids.push(id(&made));
    }
    let first = scene.get("/devices?limit=2").await;
    let second = scene
        .get(&format!("/devices?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await;
    let pages = [first["items"].as_array().unwrap(), second["items"].as_array().unwrap()];
    let listed: Vec<String> = pages.into_iter().flatten().map(id).collect();
    assert_eq!(listed, ids);
    assert_eq!(second["next_cursor"], Value::Null);

    let path = format!("/devices/{}", ids[0]);
    let checks = json!([{"check": "tcp", "port": 22}]);
    let changed =
        scene.change(Method::PATCH, &path, json!({"name": "Door", "checks": checks})).await;
    assert_eq!((&changed["name"], &changed["checks"][0]["port"]), (&json!("Door"), &json!(22)));
    let shown = scene.refused(Method::PATCH, &path, json!({"checks": [{"check": "http"}]})).await;
    assert_eq!(shown.code, ProblemCode::ValidationFailed);
    scene.remove(&path).await;
    assert_eq!(scene.get("/segments").await["items"], json!([]));
    assert_eq!(scene.get("/scans").await["items"], json!([]));
}

#[actix_web::test]
async fn a_channels_secret_is_shown_when_it_is_made_and_never_again() {
    let scene = Scene::new().await;
    let config = json!({"url": "https://example.com/hook", "headers": {"X-Team": "ops"}});
    let body = json!({"name": "Pager", "kind": "webhook", "config": config});
    let made = scene.make("/channels", body).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/channels/{}", id(&made));
    for place in ["/channels", &path] {
        assert!(!scene.get(place).await.to_string().contains("whsec_"), "{place}");
    }

    let patch = json!({"enabled": false, "config": {"url": "https://example.org/"}});
    let changed = scene.change(Method::PATCH, &path, patch).await;
    assert_eq!(changed["config"], json!({"url": "https://example.org/"}));
    assert_eq!(changed["enabled"], false);
    let shown =
        scene.refused(Method::PATCH, &path, json!({"config": {"url": "http://10.0.0.1/"}})).await;
    assert_eq!(&*shown.errors[0].field, "config.url");

    let enabled = scene.change(Method::POST, &format!("{path}/enable"), Value::Null).await;
    assert_eq!(enabled["enabled"], true);
    let rotated = scene.change(Method::POST, &format!("{path}/rotate-secret"), Value::Null).await;
    assert_ne!(rotated["secret"], made["secret"]);
    let stored = scene.hub.store.channels.lock()[0].hidden.signing.clone();
    assert_eq!(stored, [rotated["secret"].as_str().unwrap(), secret], "both sign for a while");
    scene.remove(&path).await;
}

#[actix_web::test]
async fn a_rule_joins_events_to_channels_that_exist() {
    let scene = Scene::new().await;
    let channel = scene.channel().await;
    let body =
        json!({"name": "Agents", "event_types": ["agent.offline"], "channel_ids": [channel]});
    let made = scene.make("/rules", body).await;
    assert_eq!(made["enabled"], true);
    let path = format!("/rules/{}", id(&made));
    assert_eq!(scene.get("/rules").await["items"], json!([made]));
    assert_eq!(
        scene.change(Method::PATCH, &path, json!({"enabled": false})).await["enabled"],
        false
    );
    for patch in
        [json!({"event_types": ["agent.asleep"]}), json!({"channel_ids": [ChannelId::new()]})]
    {
        let shown = scene.refused(Method::PATCH, &path, patch).await;
        assert_eq!(shown.code, ProblemCode::ValidationFailed);
    }
    scene.remove(&path).await;
}

#[actix_web::test]
async fn a_dead_delivery_is_replayed_under_its_id_and_then_discarded() {
    let scene = Scene::new().await;
    let (channel_id, rule_id) = scene.told().await;
    let delivery_id = scene.dead(channel_id, rule_id);
    let path = format!("/deliveries/{delivery_id}");

    let replayed = scene.change(Method::POST, &format!("{path}/replay"), Value::Null).await;
    assert_eq!((&replayed["id"], &replayed["state"]), (&json!(delivery_id), &json!("queued")));
    let shown = scene.refused(Method::POST, &format!("{path}/replay"), Value::Null).await;
    assert_eq!(shown.code, ProblemCode::Conflict, "it has not ended");
    let discarded = scene.change(Method::POST, &format!("{path}/discard"), Value::Null).await;
    assert_eq!(discarded["state"], "discarded");
    let shown = scene.refused(Method::POST, &format!("{path}/discard"), Value::Null).await;
    assert_eq!(shown.code, ProblemCode::Conflict, "it has ended");
}

#[actix_web::test]
async fn dead_deliveries_are_replayed_by_filter() {
    let scene = Scene::new().await;
    let (channel_id, rule_id) = scene.told().await;
    let dead: Vec<_> = (0..3).map(|_| scene.dead(channel_id, rule_id)).collect();
    let without_rule = scene.dead(channel_id, RuleId::new());
    scene.dead(ChannelId::new(), rule_id);
    let filter = json!({ "channel": channel_id, "state": "dead" });
    let done = scene.change(Method::POST, "/deliveries/replay", filter).await;
    assert_eq!(done, json!({ "replayed": 3, "skipped": 1, "more": false }));
    for id in dead {
        assert_eq!(scene.get(&format!("/deliveries/{id}")).await["state"], "queued");
    }
    assert_eq!(scene.get(&format!("/deliveries/{without_rule}")).await["state"], "dead");

    let done = scene.change(Method::POST, "/deliveries/replay", json!({})).await;
    assert_eq!(done, json!({ "replayed": 0, "skipped": 2, "more": false }), "dead by default");
    for state in ["queued", "retrying"] {
        let shown =
            scene.refused(Method::POST, "/deliveries/replay", json!({ "state": state })).await;
        assert_eq!((shown.code, &*shown.errors[0].field), (ProblemCode::ValidationFailed, "state"));
    }
}

#[actix_web::test]
async fn a_channel_tells_how_its_deliveries_of_late_are() {
    let scene = Scene::new().await;
    let (channel_id, rule_id) = scene.told().await;
    scene.dead(channel_id, rule_id);
    scene.dead(channel_id, rule_id);
    let stats = scene.get(&format!("/channels/{channel_id}/stats")).await;
    assert_eq!(stats["deliveries"], json!({ "dead": 2 }));
    assert_eq!(stats["since"], "2026-02-22T12:00:00.000Z");
}

#[actix_web::test]
async fn an_org_is_shown_whole_and_changed_within_bounds() {
    let scene = Scene::new().await;
    let org = scene.get("").await;
    assert_eq!((&org["plan"], &org["heartbeat_timeout_ms"]), (&json!("starter"), &json!(12_000)));
    let orgs: Value = scene.hub.get("/api/v1/orgs", &scene.owner).await.json().await.unwrap();
    assert_eq!(orgs, json!({"items": [org], "next_cursor": null}));
    let changed = scene.change(Method::PATCH, "", json!({"name": "Acme Ltd"})).await;
    assert_eq!(changed["name"], "Acme Ltd");
    let shown = scene.refused(Method::PATCH, "", json!({"offline_grace_ms": 1})).await;
    assert_eq!(shown.errors[0].field, "offline_grace_ms");
}
