//! A receiver that answers as it is told, and messages to send to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Once};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use parking_lot::Mutex;
use pulse_actors::ports::Message;
use pulse_domain::record::{Breaker, ChannelRecord, Content, DigestItem, Hidden, JournalEvent};
use pulse_protocol::Timestamp;
use pulse_protocol::api::{ChannelHealth, ChannelKind, Reason};
use pulse_protocol::ids::{AlertId, ChannelId, DeliveryId, EventId, OrgId};
use pulse_web::links::Links;
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::http::Http;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// One request that came.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: Value,
}

/// What the receiver answers: status, headers, body.
type Reply = (u16, Vec<(&'static str, &'static str)>, String);

struct Script {
    reply: Mutex<Reply>,
    requests: Mutex<Vec<Request>>,
}

/// A receiver of JSON.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let reply = Mutex::new((200, vec![], String::new()));
        let script = Arc::new(Script { reply, requests: Mutex::default() });
        let data = web::Data::from(script.clone());
        let server = HttpServer::new(move || {
            App::new().app_data(data.clone()).default_service(web::to(receive))
        })
        .workers(1)
        .disable_signals()
        .bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap();
        let address = server.addrs()[0];
        actix_web::rt::spawn(server.run());
        Self { address, script }
    }

    pub(crate) fn answers(&self, status: u16, body: &str) {
        *self.script.reply.lock() = (status, vec![], body.to_owned());
    }

    pub(crate) fn answers_with(
        &self,
        status: u16,
        header: (&'static str, &'static str),
        body: &str,
    ) {
        *self.script.reply.lock() = (status, vec![header], body.to_owned());
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The only request that came.
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.script.requests.lock();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.script.requests.lock().len()
    }
}

async fn receive(request: HttpRequest, body: Bytes, script: web::Data<Script>) -> HttpResponse {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    script.requests.lock().push(Request {
        path: request.uri().to_string(),
        authorization: header("authorization"),
        idempotency_key: header("idempotency-key"),
        body: serde_json::from_slice(&body).unwrap(),
    });
    let (status, headers, body) = script.reply.lock().clone();
    let mut answer = HttpResponse::build(StatusCode::from_u16(status).unwrap());
    for header in headers {
        answer.insert_header(header);
    }
    answer.body(body)
}

/// The address of a receiver that breaks off in the middle of its one answer, which begins with `start`.
pub(crate) async fn breaking_off(start: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_web::rt::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{start}");
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        // Read to its end, so that closing does not take the answer back.
        drop(socket.read_to_end(&mut Vec::new()).await);
    });
    address
}

pub(crate) fn local() -> Egress {
    Egress::allowing(&["127.0.0.0/8".parse().unwrap()])
}

pub(crate) fn http(egress: Egress) -> Http {
    http_within(egress, Duration::from_secs(10))
}

pub(crate) fn http_within(egress: Egress, timeout: Duration) -> Http {
    static TLS: Once = Once::new();
    TLS.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
    Http::new(egress, timeout).unwrap()
}

pub(crate) fn links() -> Links {
    Links::new("https://hub.example/".parse().unwrap(), vec![[7; 32]])
}

pub(crate) fn channel(kind: ChannelKind, config: Value) -> ChannelRecord {
    ChannelRecord {
        id: ChannelId::new(),
        name: "Ops".into(),
        kind,
        config: Value::Null,
        hidden: Hidden { signing: vec![], config },
        retry_schedule_s: vec![],
        enabled: true,
        health: ChannelHealth::Healthy,
        breaker: Breaker::default(),
        created_at: Timestamp::wall_clock(),
    }
}

/// When everything happens.
pub(crate) const AT: &str = "2026-03-01T12:00:00.000Z";

/// A message about a device, sent a second after its event.
pub(crate) fn device(current: &str, reason: Reason, name: &str) -> Message {
    let data = json!({
        "device_id": "dev_00000000000000000000000001",
        "name": name,
        "address": "192.0.2.7",
        "agent_id": "agt_00000000000000000000000001",
        "segment_id": null,
        "previous": "online",
        "current": current,
        "since": AT,
        "cause": "check",
        "response_time_ms": null,
    });
    message(&format!("device.{current}"), &data, reason, name)
}

pub(crate) fn message(event: &str, data: &Value, reason: Reason, name: &str) -> Message {
    let at: Timestamp = AT.parse().unwrap();
    let event = JournalEvent {
        seq: 42,
        id: EventId::new(),
        name: event.to_owned().into(),
        at,
        data: data.to_string().into(),
    };
    let content = Content {
        rule_name: "Core".into(),
        org_name: "Acme".into(),
        alert_id: Some(AlertId::new()),
        ..Content::about(reason, name)
    };
    let at = at + Duration::from_secs(1);
    Message { org_id: OrgId::new(), delivery_id: DeliveryId::new(), event, content, at }
}

/// A digest of this many events.
pub(crate) fn digest(items: usize, more: u32, name: &str) -> Message {
    let mut message = device("offline", Reason::Digest, name);
    let at = message.event.at;
    let item =
        |seq| DigestItem { seq, event: "device.offline".into(), resource_name: name.into(), at };
    message.content.items = (0..items as u64).map(item).collect();
    message.content.more = more;
    message
}

/// The test message of a channel.
pub(crate) fn test_message() -> Message {
    let mut message = message("channel.test", &json!({"name": "Ops"}), Reason::Event, "Ops");
    message.content.rule_name = String::new();
    message.content.alert_id = None;
    message
}

pub(crate) fn acknowledge_link(message: &Message) -> String {
    links().acknowledge(message.org_id, message.content.alert_id.unwrap())
}

pub(crate) fn org_link(message: &Message) -> String {
    links().org(message.org_id)
}
