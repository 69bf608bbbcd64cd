//! The webhook sender against receivers on this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use pulse_actors::ports::{Message, Verdict};
use pulse_domain::record::{Breaker, ChannelRecord, Content, Hidden, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{AttemptOutcome, ChannelHealth, ChannelKind, Reason};
use pulse_protocol::ids::{ChannelId, DeliveryId, EventId, OrgId};
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::webhook::WebhookSender;
use pulse_web::secrets::new_webhook_secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::http_within;

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that keeps what it gets and answers as its path says.
fn receiver() -> (SocketAddr, Received) {
    let received = Received::default();
    let kept = web::Data::new(received.clone());
    let server = HttpServer::new(move || {
        App::new().app_data(kept.clone()).default_service(web::to(receive))
    })
    .workers(1)
    .disable_signals()
    .bind((Ipv4Addr::LOCALHOST, 0))
    .unwrap();
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    (address, received)
}

async fn receive(request: HttpRequest, body: Bytes, kept: web::Data<Received>) -> HttpResponse {
    let headers = request.headers().iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    kept.lock().push((headers.collect(), body));
    let mut parts = request.path().trim_start_matches('/').splitn(2, '/');
    let status = parts.next().and_then(|text| text.parse().ok()).unwrap_or(StatusCode::OK);
    let mut answer = HttpResponse::build(status);
    match parts.next() {
        Some("endless") => {
            let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
            answer.streaming(stream::repeat_with(move || Ok::<_, actix_web::Error>(chunk.clone())))
        }
        Some("elsewhere") => answer.insert_header(("location", "/200")).finish(),
        Some("echo") => {
            let value = |name| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
            answer.body(format!(
                "you\u{7} sent\n{} and {}",
                value("authorization"),
                value("x-short")
            ))
        }
        Some(wait) => answer.insert_header(("retry-after", wait.replace('_', " "))).finish(),
        None => answer.finish(),
    }
}

fn sender() -> WebhookSender {
    sender_within(Duration::from_secs(10), Egress::allowing(&["127.0.0.0/8".parse().unwrap()]))
}

fn sender_within(timeout: Duration, egress: Egress) -> WebhookSender {
    WebhookSender::new(http_within(egress, timeout))
}

fn channel(url: &str, secrets: &[String]) -> ChannelRecord {
    ChannelRecord {
        id: ChannelId::new(),
        name: "Pager".into(),
        kind: ChannelKind::Webhook,
        config: json!({"url": url}),
        hidden: Hidden {
            signing: secrets.to_vec(),
            config: json!({"url": url, "headers": {"authorization": "Bearer top-secret", "x-short": "ab"}}),
        },
        retry_schedule_s: vec![],
        enabled: true,
        health: ChannelHealth::Healthy,
        breaker: Breaker::default(),
        created_at: Timestamp::wall_clock(),
    }
}

fn message() -> Message {
    let at = Timestamp::wall_clock();
    let event = JournalEvent {
        seq: 42,
        id: EventId::new(),
        name: "agent.offline".into(),
        at,
        data: "{\"agent_id\":\"agt_1\",\"name\":\"Büro\"}".into(),
    };
    let content = Content::about(Reason::Alert, "Büro");
    Message { org_id: OrgId::new(), delivery_id: DeliveryId::new(), event, content, at }
}

/// Why an attempt with this outcome was not accepted.
fn error_of(verdict: Verdict, outcome: AttemptOutcome) -> String {
    assert_eq!(verdict.outcome, outcome, "{verdict:?}");
    verdict.error.unwrap()
}

async fn verdict_of(address: SocketAddr, path: &str) -> Verdict {
    let channel = channel(&format!("http://{address}{path}"), &[new_webhook_secret()]);
    sender().send(&channel, &message()).await
}

#[actix_web::test]
async fn a_message_is_signed_with_every_secret_and_holds_the_event() {
    let (address, received) = receiver();
    let (new, old) = (new_webhook_secret(), new_webhook_secret());
    let channel = channel(&format!("http://{address}/200"), &[new.clone(), old.clone()]);
    let message = message();
    assert_eq!(sender().send(&channel, &message).await, Verdict::accepted(Some(200)));

    let (headers, body) = received.lock().remove(0);
    for secret in [&new, &old] {
        Webhook::new(secret).unwrap().verify(&body, &headers).unwrap();
    }
    assert!(Webhook::new(&new_webhook_secret()).unwrap().verify(&body, &headers).is_err());
    assert_eq!(headers["webhook-id"], message.delivery_id.to_string());
    assert_eq!(headers["webhook-timestamp"], (message.at.unix_ms() / 1_000).to_string());
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer top-secret");

    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "agent.offline",
            "timestamp": message.event.at,
            "data": {
                "agent_id": "agt_1",
                "name": "Büro",
                "org_id": message.org_id,
                "event_id": message.event.id,
                "seq": 42,
                "reason": "alert",
            },
        })
    );
}

#[actix_web::test]
async fn the_status_decides() {
    let (address, _) = receiver();
    for code in [200_u16, 201, 202, 204] {
        assert_eq!(verdict_of(address, &format!("/{code}")).await, Verdict::accepted(Some(code)));
    }
    assert_eq!(verdict_of(address, "/410").await.outcome, AttemptOutcome::Gone);
    for code in [408_u16, 409, 425, 429, 500, 502, 503, 504, 599] {
        let verdict = verdict_of(address, &format!("/{code}")).await;
        assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Retry, Some(code)));
        assert_eq!(verdict.retry_after, None);
    }
    for code in [300_u16, 304, 400, 401, 403, 404, 405, 413, 422] {
        let verdict = verdict_of(address, &format!("/{code}")).await;
        assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Permanent, Some(code)));
    }
}

#[actix_web::test]
async fn a_redirect_is_not_followed() {
    let (address, received) = receiver();
    for code in [301_u16, 302, 303, 307, 308] {
        let verdict = verdict_of(address, &format!("/{code}/elsewhere")).await;
        assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Permanent, Some(code)));
    }
    assert_eq!(received.lock().len(), 5, "nobody asked elsewhere");
}

#[actix_web::test]
async fn a_wait_is_honoured_up_to_a_day_where_the_standard_has_it() {
    let (address, _) = receiver();
    let wait = async |path: &str| {
        let verdict = verdict_of(address, path).await;
        assert_eq!(verdict.outcome, AttemptOutcome::Retry, "{path}");
        verdict.retry_after
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(wait("/429/120").await, Some(Duration::from_secs(120)));
    assert_eq!(wait("/503/7").await, Some(Duration::from_secs(7)));
    assert_eq!(wait("/503/999999").await, Some(day));
    assert_eq!(wait("/429/0.5").await, Some(Duration::from_millis(500)));
    assert_eq!(wait("/429/1e400").await, None);
    assert_eq!(wait("/429/NaN").await, None);
    assert_eq!(wait("/500/120").await, None);
    assert_eq!(wait("/429/soon").await, None);
    assert_eq!(wait("/429/-5").await, None);

    let date = |at: SystemTime| httpdate::fmt_http_date(at).replace(' ', "_");
    let in_an_hour =
        wait(&format!("/503/{}", date(SystemTime::now() + Duration::from_secs(3_600)))).await;
    assert!((3_590..=3_600).contains(&in_an_hour.unwrap().as_secs()), "{in_an_hour:?}");
    assert_eq!(wait(&format!("/429/{}", date(SystemTime::UNIX_EPOCH))).await, Some(Duration::ZERO));
}

#[actix_web::test]
async fn an_endless_answer_is_cut_and_one_that_echoes_is_redacted() {
    let (address, _) = receiver();
    let error = error_of(verdict_of(address, "/500/endless").await, AttemptOutcome::Retry);
    assert!(error.starts_with("500 Internal Server Error: xxx") && error.len() <= 300, "{error}");
    let answer = "x".repeat(300);
    let accepted = verdict_of(address, "/200/endless").await;
    assert_eq!(accepted, Verdict::accepted(Some(200)).answered(answer));

    let error = error_of(verdict_of(address, "/400/echo").await, AttemptOutcome::Permanent);
    assert_eq!(error, "400 Bad Request: you sent [redacted] and ab");
}

#[actix_web::test]
async fn a_receiver_that_hangs_or_is_not_there_is_tried_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let egress = Egress::allowing(&["127.0.0.0/8".parse().unwrap()]);
    let impatient = sender_within(Duration::from_millis(200), egress);
    let hanging = channel(&format!("http://{address}/"), &[new_webhook_secret()]);

    let began = Instant::now();
    let verdict = impatient.send(&hanging, &message()).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(verdict, Verdict::retry(None, "no answer within 200 ms"));

    drop(listener);
    let verdict = sender().send(&hanging, &message()).await;
    let error = error_of(verdict, AttemptOutcome::Retry);
    assert!(error.starts_with("no connection") && !error.contains("127.0.0.1"), "{error}");
}

#[actix_web::test]
async fn an_answer_that_stops_half_way_is_judged_by_its_status() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = actix_web::rt::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // An answer before the request would be a fault of its own.
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        let half = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\nno such team";
        socket.write_all(half).await.unwrap();
        // Held open until the sender hangs up.
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest).await);
    });
    let verdict = verdict_of(address, "/").await;
    let error = error_of(verdict, AttemptOutcome::Permanent);
    assert_eq!(error, "400 Bad Request: no such team");
    receiver.await.unwrap();
}

#[actix_web::test]
async fn nothing_inside_is_reached_by_address_or_by_name() {
    let (address, received) = receiver();
    let sender = sender_within(Duration::from_secs(10), Egress::default());
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let channel =
            channel(&format!("http://{host}:{}/200", address.port()), &[new_webhook_secret()]);
        let verdict = sender.send(&channel, &message()).await;
        let error = error_of(verdict, AttemptOutcome::Permanent);
        assert!(error.contains("may not reach"), "{host}: {error}");
    }
    assert!(received.lock().is_empty());
}

#[actix_web::test]
async fn a_name_that_does_not_resolve_may_do_so_later() {
    let channel = channel("http://no-such-host.invalid/", &[new_webhook_secret()]);
    let verdict = sender().send(&channel, &message()).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Retry, None));
}

#[actix_web::test]
async fn what_cannot_be_signed_or_read_is_not_sent() {
    let (address, received) = receiver();
    let url = format!("http://{address}/200");
    for secrets in [vec![], vec!["whsec_not base64".to_owned()]] {
        let verdict = sender().send(&channel(&url, &secrets), &message()).await;
        assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Permanent, None));
    }
    let mut broken = channel(&url, &[new_webhook_secret()]);
    broken.hidden.config = json!({"url": 5});
    let verdict = sender().send(&broken, &message()).await;
    assert_eq!((verdict.outcome, verdict.status), (AttemptOutcome::Permanent, None));
    assert!(received.lock().is_empty());
}

#[actix_web::test]
async fn an_alert_and_a_digest_are_part_of_the_data() {
    let (address, received) = receiver();
    let channel = channel(&format!("http://{address}/200"), &[new_webhook_secret()]);
    let mut message = crate::support::digest(2, 3, "Router");
    message.content.alert_id = None;
    sender().send(&channel, &message).await;
    let body: Value = serde_json::from_slice(&received.lock().remove(0).1).unwrap();
    let item = |seq| json!({"seq": seq, "event": "device.offline", "resource_name": "Router", "at": message.event.at});
    assert_eq!(body["data"]["digest"], json!({"items": [item(0), item(1)], "more": 3}));
    assert_eq!(body["data"]["reason"], "digest");
    assert_eq!(body["data"]["device_id"], "dev_00000000000000000000000001");

    let alert = crate::support::device("offline", Reason::Alert, "Router");
    sender().send(&channel, &alert).await;
    let body: Value = serde_json::from_slice(&received.lock().remove(0).1).unwrap();
    assert_eq!(body["data"]["alert_id"], alert.content.alert_id.unwrap().to_string());
    assert_eq!(body["data"].get("digest"), None);
}

#[actix_web::test]
async fn headers_of_an_answer_that_are_no_text_do_no_harm() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = actix_web::rt::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        let odd = b"HTTP/1.1 429 Sl\xf6w\r\nretry-after: \xff\xfe\r\nx-odd: \xe4\r\ncontent-length: 2\r\n\r\n\xff\xfe";
        socket.write_all(odd).await.unwrap();
    });
    let verdict = verdict_of(address, "/").await;
    assert_eq!((verdict.outcome, verdict.retry_after), (AttemptOutcome::Retry, None));
    receiver.await.unwrap();
}
