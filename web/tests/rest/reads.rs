//! What is read from the tables: the journal, deliveries, a channel's test.

use std::time::Duration;

use pulse_actors::ports::Verdict;
use pulse_domain::record::{Breaker, ChannelRecord, Content, DeliveryRecord, Hidden, JournalEvent};
use pulse_protocol::api::{
    AttemptOutcome, ChannelHealth, ChannelKind, Delivery, DeliveryState, OrgStatus, Reason, Role,
};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId, OrgId, RuleId};
use pulse_protocol::problem::ProblemCode;
use serde_json::{Value, json};

use crate::support::{As, Hub, NOON, header, problem};

struct Scene {
    hub: Hub,
    root: String,
    org: OrgId,
    owner: As,
}

impl Scene {
    async fn new() -> Self {
        let hub = Hub::start().await;
        let org = hub.org(OrgStatus::Active);
        let owner = hub.member(org, Role::Owner);
        Self { hub, root: format!("/api/v1/orgs/{org}"), org, owner }
    }

    async fn read(&self, path: &str) -> Value {
        let answer = self.hub.get(&format!("{}{path}", self.root), &self.owner).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn refused(&self, path: &str) -> Vec<String> {
        let shown = problem(self.hub.get(&format!("{}{path}", self.root), &self.owner).await).await;
        assert_eq!(shown.code, ProblemCode::ValidationFailed, "{path}");
        shown.errors.into_iter().map(|fault| fault.field).collect()
    }

    fn add_events(&self, count: u64) {
        self.hub.store.events.lock().extend((1..=count).map(|seq| JournalEvent {
            seq,
            id: EventId::new(),
            name: "agent.online".into(),
            at: NOON,
            data: format!("{{\"agent_id\":\"a{seq}\"}}").into(),
        }));
    }

    fn add_delivery(&self, state: DeliveryState, channel_id: ChannelId) -> DeliveryId {
        let (id, rule_id, event_id) = (DeliveryId::new(), RuleId::new(), EventId::new());
        let event = "agent.offline".to_owned();
        let record = DeliveryRecord {
            id,
            channel_id,
            rule_id,
            event_id,
            event_seq: 7,
            event_name: event.clone(),
            resource: "dev_1".into(),
            content: Content::about(Reason::Event, "Router"),
            state,
            tries: 0,
            next_attempt_at: None,
            created_at: NOON,
        };
        let shown = Delivery {
            id,
            event_id,
            seq: 7,
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

    fn add_channel(&self) -> ChannelId {
        let id = ChannelId::new();
        self.hub.store.channels.lock().push(ChannelRecord {
            id,
            name: "Pager".into(),
            kind: ChannelKind::Webhook,
            config: json!({"url": "https://example.com/hook"}),
            hidden: Hidden {
                signing: vec!["whsec_AAAA".into()],
                config: json!({"url": "https://example.com/hook"}),
            },
            retry_schedule_s: vec![],
            breaker: Breaker::default(),
            enabled: true,
            health: ChannelHealth::Healthy,
            created_at: NOON,
        });
        id
    }
}

#[actix_web::test]
async fn the_journal_is_read_page_by_page_in_order() {
    let scene = Scene::new().await;
    assert_eq!(scene.read("/events").await, json!({"items": [], "next_cursor": null}));
    scene.add_events(5);
    let page = scene.read("/events?after=1&limit=2").await;
    assert_eq!(page["items"][0]["seq"], 2);
    assert_eq!(page["items"][0]["event"], "agent.online");
    assert_eq!(page["items"][0]["data"], json!({"agent_id": "a2"}));
    assert_eq!(page["items"][0]["at"], "2026-03-01T12:00:00.000Z");
    assert_eq!(page["next_cursor"], "3");
    let last = scene.read("/events?cursor=3&limit=2").await;
    assert_eq!(last["items"][1]["seq"], 5);
    assert_eq!(last["next_cursor"], Value::Null, "a full page may be the last");
    assert_eq!(scene.read("/events?after=99").await["items"], json!([]));
    assert_eq!(scene.read("/events?limit=1000").await["items"].as_array().unwrap().len(), 5);
}

#[actix_web::test]
async fn bad_parameters_are_all_named() {
    let scene = Scene::new().await;
    assert_eq!(scene.refused("/events?limit=1001").await, ["limit"]);
    assert_eq!(scene.refused("/events?after=-1&limit=0").await, ["limit", "after"]);
    assert_eq!(scene.refused("/events?after=18446744073709551615").await, ["after"]);
    assert_eq!(scene.refused("/agents?limit=501&cursor=x").await, ["cursor", "limit"]);
    let filters = "/deliveries?state=lost&channel=dev_01h2xcejqtf2nbrexx3vqjhp41";
    assert_eq!(scene.refused(filters).await, ["state", "channel"]);
    let filters = "/deliveries?rule=x&from=yesterday&to=&q=&event=&resource=";
    let faults = ["rule", "event", "resource", "from", "to", "q"];
    assert_eq!(scene.refused(filters).await, faults);
}

#[actix_web::test]
async fn deliveries_are_filtered_and_paged_newest_first() {
    let scene = Scene::new().await;
    let (pager, mail) = (ChannelId::new(), ChannelId::new());
    let ids: Vec<_> = (0..3).map(|_| scene.add_delivery(DeliveryState::Dead, pager)).collect();
    scene.add_delivery(DeliveryState::Queued, pager);
    scene.add_delivery(DeliveryState::Dead, mail);

    let query = format!("/deliveries?state=dead&channel={pager}&limit=2");
    let page = scene.read(&query).await;
    let shown = |page: &Value, at: usize| page["items"][at]["id"].as_str().unwrap().to_owned();
    assert_eq!([shown(&page, 0), shown(&page, 1)], [ids[2].to_string(), ids[1].to_string()]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = scene.read(&format!("{query}&cursor={cursor}")).await;
    assert_eq!(shown(&page, 0), ids[0].to_string());
    assert_eq!(page["next_cursor"], Value::Null);

    assert_eq!(scene.read(&format!("/deliveries/{}", ids[0])).await["state"], "dead");
    for missing in [DeliveryId::new().to_string(), "nonsense".into(), pager.to_string()] {
        let answer =
            scene.hub.get(&format!("{}/deliveries/{missing}", scene.root), &scene.owner).await;
        assert_eq!(problem(answer).await.code, ProblemCode::NotFound, "{missing}");
    }
}

#[actix_web::test]
async fn a_channels_test_tells_the_receivers_verdict() {
    let scene = Scene::new().await;
    let channel = scene.add_channel();
    let path = format!("{}/channels/{channel}/test", scene.root);
    let answer = scene.hub.post(&path, &scene.owner, "").await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["outcome"], &body["status"]), (&json!("accepted"), &json!(200)));
    {
        let sent = scene.hub.sender.sent.lock();
        assert_eq!((&*sent[0].event.name, sent[0].org_id), ("channel.test", scene.org));
        assert!(sent[0].event.data.contains(&channel.to_string()));
    }
    let retry = Verdict::retry(Some(503), "503 Service Unavailable: later")
        .after(Some(Duration::from_secs(5)));
    let permanent = Verdict::permanent(None, "no way");
    for (verdict, words) in [(retry, "later"), (permanent, "no way"), (Verdict::gone(), "410")] {
        *scene.hub.sender.verdict.lock() = verdict;
        let shown = problem(scene.hub.post(&path, &scene.owner, "").await).await;
        assert_eq!(shown.code, ProblemCode::DeliveryFailed);
        assert!(shown.detail.contains(words), "{}", shown.detail);
    }
    *scene.hub.sender.verdict.lock() =
        Verdict::permanent(Some(404), "404 Not Found").answered("no_service");
    let shown = problem(scene.hub.post(&path, &scene.owner, "").await).await;
    let told = shown.receiver.unwrap();
    assert_eq!(told.outcome, AttemptOutcome::Permanent);
    assert_eq!((told.status, told.answer.as_deref()), (Some(404), Some("no_service")));
    let missing = format!("{}/channels/{}/test", scene.root, ChannelId::new());
    let shown = problem(scene.hub.post(&missing, &scene.owner, "").await).await;
    assert_eq!(shown.code, ProblemCode::NotFound);
}

#[actix_web::test]
async fn an_org_sends_ten_test_messages_a_minute() {
    let scene = Scene::new().await;
    let path = format!("{}/channels/{}/test", scene.root, scene.add_channel());
    for nth in 0..10 {
        assert_eq!(scene.hub.post(&path, &scene.owner, "").await.status(), 200, "{nth}");
    }
    let refused = scene.hub.post(&path, &scene.owner, "").await;
    assert_eq!(refused.status(), 429);
    let wait: u32 = header(refused.headers(), "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(problem(refused).await.code, ProblemCode::RateLimited);
    assert_eq!(scene.hub.sender.sent.lock().len(), 10);
}
