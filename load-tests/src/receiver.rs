//! A webhook receiver: checks every signature, remembers each delivery id, and answers in its manner.

mod manner;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::manner::Manner;
use self::manner::{Body, Reaction};
use crate::checker::Fault;
use crate::wire::{Clock, mark_in_webhook};

/// What came in so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// By path, which names the org: how often each delivery id was accepted.
    pub(crate) by_path: HashMap<String, HashMap<String, u32>>,
    /// By path: from the moment a change was due to be reported to the receipt of its webhook, where it can be told.
    pub(crate) times: HashMap<String, Vec<Duration>>,
    /// By path: requests that came, accepted or not.
    pub(crate) requests: HashMap<String, usize>,
    pub(crate) faults: Vec<Fault>,
}

struct State {
    manner: Manner,
    began: Instant,
    /// Whose marks the webhooks carry.
    clock: Option<Clock>,
    received: Mutex<Received>,
    /// Signing secrets by path.
    secrets: Mutex<HashMap<String, Webhook>>,
    /// Ends what hangs, each time it is sent.
    release: watch::Sender<()>,
}

/// A receiver on a free port of the loopback interface; it ends when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The request is not answered; its connection ends.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

impl Receiver {
    /// One that accepts everything at once.
    pub(crate) async fn start() -> Result<Self> {
        Self::of(Manner::Fast, None).await
    }

    /// One with a manner of its own; it times what comes by `clock`.
    pub(crate) async fn of(manner: Manner, clock: Option<Clock>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manner,
            began: Instant::now(),
            clock,
            received: Mutex::default(),
            secrets: Mutex::default(),
            release: watch::Sender::new(()),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What comes to `path` must be signed with `secret` from now on.
    pub(crate) fn expect_signed(&self, path: &str, secret: &str) -> Result<()> {
        let webhook =
            Webhook::new(secret).context("the channel's secret is not of the form `whsec_…`")?;
        self.state.secrets.lock().insert(path.to_owned(), webhook);
        Ok(())
    }

    /// Everything that came in, and forgets it.
    pub(crate) fn take(&self) -> Received {
        std::mem::take(&mut *self.state.received.lock())
    }

    /// How many requests came in.
    pub(crate) fn requests(&self) -> usize {
        self.state.received.lock().requests.values().sum()
    }

    /// Ends every connection that hangs.
    pub(crate) fn release(&self) {
        self.state.release.send_replace(());
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        if state.manner.resets() && stream.set_zero_linger().is_err() {
            continue;
        }
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { state.answer(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // The hub may be killed in the middle of a request: that is the test, not an error.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let nth = self.count(path);
        if self.manner.closes_early() {
            return Err(NoAnswer);
        }
        let Ok(body) = body.collect().await else { return Err(NoAnswer) };
        let body = body.to_bytes();
        let signed = match self.secrets.lock().get(path) {
            Some(webhook) => webhook.verify(&body, &head.headers),
            None => Ok(()),
        };
        if let Err(error) = signed {
            return Ok(self.refuse(StatusCode::UNAUTHORIZED, &format!("was badly signed: {error}")));
        }
        let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok());
        let Some(id) = id else {
            return Ok(self.refuse(StatusCode::BAD_REQUEST, "came without `webhook-id`"));
        };
        let reaction = self.manner.react(nth, self.began.elapsed());
        // Written down before the answer: the hub cannot know of it earlier.
        if reaction.accepts() {
            self.write_down(path, id, &body);
        }
        if matches!(reaction, Reaction::Hang) {
            let mut released = self.release.subscribe();
            // Either way the connection ends.
            let _ = released.changed().await;
        }
        reaction.response().ok_or(NoAnswer)
    }

    fn count(&self, path: &str) -> usize {
        let mut received = self.received.lock();
        let requests = received.requests.entry(path.to_owned()).or_default();
        *requests += 1;
        *requests - 1
    }

    fn write_down(&self, path: &str, id: &str, body: &[u8]) {
        let now = Instant::now();
        let mut received = self.received.lock();
        let times = received.by_path.entry(path.to_owned()).or_default();
        let count = times.entry(id.to_owned()).or_default();
        *count += 1;
        let is_first = *count == 1;
        if let Some(clock) = self.clock
            && is_first
            && let Some(mark) = mark_in_webhook(body)
        {
            received.times.entry(path.to_owned()).or_default().push(clock.age(mark, now));
        }
    }

    fn refuse(&self, status: StatusCode, why: &str) -> Response<Body> {
        let fault = Fault::Broken(format!("a delivery {why}"));
        self.received.lock().faults.push(fault);
        let mut response = Response::new(manner::empty());
        *response.status_mut() = status;
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn post(receiver: &Receiver, id: &str, secret: &str) -> u16 {
        send(receiver, id, secret).await.unwrap().status().as_u16()
    }

    async fn send(
        receiver: &Receiver,
        id: &str,
        secret: &str,
    ) -> reqwest::Result<reqwest::Response> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let signature =
            Webhook::new(secret).unwrap().sign(id, i64::try_from(now).unwrap(), b"{}").unwrap();
        let client = crate::rest::http_client(Duration::from_secs(10)).unwrap();
        let request = client
            .post(receiver.url("/org"))
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
            .body("{}");
        request.send().await
    }

    #[tokio::test]
    async fn a_signed_delivery_is_accepted_and_counted_however_often_it_comes() {
        let receiver = Receiver::start().await.unwrap();
        receiver.expect_signed("/org", SECRET).unwrap();
        for id in ["dlv_1", "dlv_1", "dlv_2"] {
            assert_eq!(post(&receiver, id, SECRET).await, 204);
        }
        let received = receiver.take();
        assert_eq!(received.by_path["/org"].len(), 2);
        assert_eq!(received.by_path["/org"]["dlv_1"], 2);
        assert_eq!(received.faults, []);
    }

    #[tokio::test]
    async fn a_foreign_signature_is_refused_and_a_fault() {
        let receiver = Receiver::start().await.unwrap();
        receiver.expect_signed("/org", SECRET).unwrap();
        assert_eq!(post(&receiver, "dlv_1", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0").await, 401);
        let received = receiver.take();
        assert!(received.by_path.is_empty());
        assert_eq!(received.faults.len(), 1);
    }

    #[tokio::test]
    async fn every_manner_accepts_what_it_answers_with_2xx_and_nothing_else() {
        for manner in Manner::ALL {
            let receiver = Receiver::of(manner, None).await.unwrap();
            receiver.expect_signed("/org", SECRET).unwrap();
            let sending = send(&receiver, "dlv_1", SECRET);
            let is_success = if manner == Manner::Hanging {
                let (answer, ()) = tokio::join!(sending, async {
                    while receiver.requests() == 0 {
                        tokio::task::yield_now().await;
                    }
                    while receiver.state.release.receiver_count() == 0 {
                        tokio::task::yield_now().await;
                    }
                    receiver.release();
                });
                answer.is_ok()
            } else {
                sending.await.is_ok_and(|answer| answer.status().is_success())
            };
            let received = receiver.take();
            assert_eq!(is_success, manner.always_accepts(), "{manner:?}");
            assert_eq!(received.by_path.contains_key("/org"), is_success, "{manner:?}");
            assert_eq!(received.faults, []);
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_has_a_head_and_no_end() {
        let receiver = Receiver::of(Manner::HalfAnswering, None).await.unwrap();
        let answer = send(&receiver, "dlv_1", SECRET).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err());
        let slow = Receiver::of(Manner::Slow, None).await.unwrap();
        let answer = send(&slow, "dlv_1", SECRET).await.unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), 10);
    }
}
