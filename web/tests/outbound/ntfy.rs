use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::ntfy::Ntfy;
use serde_json::json;

use crate::support::{
    AT, Receiver, acknowledge_link, channel, device, digest, http, links, local, org_link,
};

#[actix_web::test]
async fn an_alert_is_published_as_json() {
    let receiver = Receiver::start();
    receiver.answers(200, "{\"id\":\"x\"}");
    let config = json!({"topic": "ops", "server": receiver.url("/ntfy"), "token": "tk_s3cr3t"});
    let channel = channel(ChannelKind::Ntfy, config);
    let mut message = device("offline", Reason::Alert, "Router");
    message.at = message.event.at + std::time::Duration::from_secs(12 * 60);
    let verdict = Ntfy::new(http(local()), links()).send(&channel, &message).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Accepted, Some(200)));
    let request = receiver.request();
    assert_eq!(request.path, "/ntfy");
    assert_eq!(request.authorization.unwrap(), "Bearer tk_s3cr3t");
    assert_eq!(
        request.body,
        json!({
            "topic": "ops",
            "title": "Router is offline",
            "message": format!("This message is delayed by 12 min.\nDevice: Router\nAddress: 192.0.2.7\nStatus: online → offline\nTime: {AT}"),
            "priority": 5,
            "tags": ["red_circle"],
            "click": org_link(&message),
            "actions": [{"action": "view", "label": "Acknowledge", "url": acknowledge_link(&message)}],
        })
    );
}

#[actix_web::test]
async fn a_recovery_has_nothing_to_acknowledge_and_a_long_digest_is_cut() {
    let receiver = Receiver::start();
    let config = json!({"topic": "ops", "server": receiver.url("")});
    let channel = channel(ChannelKind::Ntfy, config);
    let ntfy = Ntfy::new(http(local()), links());
    ntfy.send(&channel, &device("online", Reason::Recovery, "Router")).await;
    let request = receiver.request();
    assert_eq!(request.authorization, None);
    assert_eq!(request.body["title"], "Router is online again");
    assert_eq!((&request.body["priority"], request.body.get("actions")), (&json!(3), None));

    ntfy.send(&channel, &digest(500, 0, &"ö".repeat(300))).await;
    assert!(receiver.request().body["message"].as_str().unwrap().len() <= 4_096);

    receiver.answers(403, "{\"code\":40301}");
    let verdict = ntfy.send(&channel, &device("offline", Reason::Alert, "Router")).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Permanent, Some(403)));
}
