//! A webhook receiver: takes everything, checks its signature, remembers each delivery id.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::checker::Fault;

/// What came in so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// By path, which names the org: how often each delivery id was accepted.
    pub(crate) by_path: HashMap<String, HashMap<String, u32>>,
    pub(crate) faults: Vec<Fault>,
}

struct State {
    received: Mutex<Received>,
    /// Signing secrets by path.
    secrets: Mutex<HashMap<String, Webhook>>,
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

impl Receiver {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let secrets = Mutex::new(HashMap::new());
        let state = Arc::new(State { received: Mutex::default(), secrets });
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
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // The hub may be killed in the middle of a request: that is the test, not an error.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let (head, body) = request.into_parts();
        let mut response = Response::new(Empty::new());
        let Ok(body) = body.collect().await else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        let path = head.uri.path();
        let signed = match self.secrets.lock().get(path) {
            Some(webhook) => webhook.verify(&body.to_bytes(), &head.headers),
            None => Ok(()),
        };
        let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok());
        let mut received = self.received.lock();
        match (signed, id) {
            (Ok(()), Some(id)) => {
                let ids = received.by_path.entry(path.to_owned()).or_default();
                *ids.entry(id.to_owned()).or_default() += 1;
                *response.status_mut() = StatusCode::NO_CONTENT;
            }
            (Err(error), _) => {
                received
                    .faults
                    .push(Fault::Broken(format!("a delivery was badly signed: {error}")));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            (Ok(()), None) => {
                received
                    .faults
                    .push(Fault::Broken("a delivery came without `webhook-id`".to_owned()));
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn post(receiver: &Receiver, id: &str, secret: &str) -> u16 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let signature =
            Webhook::new(secret).unwrap().sign(id, i64::try_from(now).unwrap(), b"{}").unwrap();
        let client = crate::rest::http_client(std::time::Duration::from_secs(10)).unwrap();
        let request = client
            .post(receiver.url("/org"))
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
            .body("{}");
        request.send().await.unwrap().status().as_u16()
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
}
