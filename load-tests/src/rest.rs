//! The REST interface, as far as the harness needs it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pulse_protocol::api::{
    AgentCreated, ChannelCreated, Delivery, DeliveryState, Device, Org, Page, Rule,
};
use pulse_protocol::event::Event;
use pulse_protocol::ids::{AgentId, ChannelId, OrgId, RuleId};
use pulse_protocol::problem::Problem;
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

/// Entries asked for in one page.
const PAGE: usize = 500;

/// An HTTP client that gives up after `timeout`.
pub(crate) fn http_client(timeout: Duration) -> Result<reqwest::Client> {
    // The client wants a provider of cryptography even where it speaks plain HTTP. That another one was
    // installed meanwhile is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(timeout).build().context("cannot make an HTTP client")
}

/// A client of one hub.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: reqwest::Client,
    base: String,
}

/// An org and the token that opens it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    pub(crate) org: OrgId,
    pub(crate) token: &'a str,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let client = http_client(Duration::from_secs(30))?;
        Ok(Self { client, base: format!("http://{address}/api/v1/orgs") })
    }

    pub(crate) async fn create_agent(
        &self,
        tenant: Tenant<'_>,
        name: String,
    ) -> Result<AgentCreated> {
        self.send(tenant, Method::POST, "/agents", Some(&json!({ "name": name }))).await
    }

    pub(crate) async fn create_device(&self, tenant: Tenant<'_>, device: &Value) -> Result<Device> {
        self.send(tenant, Method::POST, "/devices", Some(device)).await
    }

    /// Seconds to wait after each failed attempt; the hub's own schedule, if none.
    pub(crate) async fn create_webhook(
        &self,
        tenant: Tenant<'_>,
        url: &str,
        retry_schedule_s: Option<&[u32]>,
    ) -> Result<ChannelCreated> {
        let mut body = json!({ "name": "receiver", "kind": "webhook", "config": { "url": url } });
        if let Some(schedule) = retry_schedule_s {
            body["retry_schedule_s"] = json!(schedule);
        }
        self.send(tenant, Method::POST, "/channels", Some(&body)).await
    }

    /// A rule that holds nothing back: what it calls for can be counted.
    pub(crate) async fn create_rule(
        &self,
        tenant: Tenant<'_>,
        events: &[&str],
        channel: &ChannelCreated,
    ) -> Result<Rule> {
        let body = json!({
            "name": "all of it",
            "event_types": events,
            "channel_ids": [channel.channel.id],
            "cooldown_s": 0,
            "min_duration_s": 0,
            "grouping": "none",
            "flap_detection": false,
        });
        self.send(tenant, Method::POST, "/rules", Some(&body)).await
    }

    /// Removes a rule and then its channel.
    pub(crate) async fn remove_webhook(
        &self,
        tenant: Tenant<'_>,
        rule: RuleId,
        channel: ChannelId,
    ) -> Result<(), Refusal> {
        let nothing = json!({});
        self.write(tenant, Method::DELETE, &format!("/rules/{rule}"), &nothing).await?;
        self.write(tenant, Method::DELETE, &format!("/channels/{channel}"), &nothing).await
    }

    pub(crate) async fn change_org(&self, tenant: Tenant<'_>, change: Liveness) -> Result<Org> {
        self.send(tenant, Method::PATCH, "", Some(&change)).await
    }

    pub(crate) async fn org(&self, tenant: Tenant<'_>) -> Result<Org> {
        self.send(tenant, Method::GET, "", None::<&Value>).await
    }

    pub(crate) async fn devices(&self, tenant: Tenant<'_>) -> Result<Vec<Device>> {
        self.list(tenant, "/devices", "").await
    }

    /// Those in one state, or all.
    pub(crate) async fn deliveries(
        &self,
        tenant: Tenant<'_>,
        state: Option<DeliveryState>,
    ) -> Result<Vec<Delivery>> {
        let filter = state.map_or(String::new(), |state| format!("&state={state}"));
        self.list(tenant, "/deliveries", &filter).await
    }

    /// Those of one channel, in one state or all.
    pub(crate) async fn deliveries_of(
        &self,
        tenant: Tenant<'_>,
        channel: ChannelId,
        state: Option<DeliveryState>,
    ) -> Result<Vec<Delivery>> {
        let state = state.map_or(String::new(), |state| format!("&state={state}"));
        self.list(tenant, "/deliveries", &format!("&channel={channel}{state}")).await
    }

    /// Gives an agent another name.
    pub(crate) async fn rename_agent(
        &self,
        tenant: Tenant<'_>,
        agent: AgentId,
        name: &str,
    ) -> Result<(), Refusal> {
        let path = format!("/agents/{agent}");
        self.write(tenant, Method::PATCH, &path, &json!({ "name": name })).await
    }

    /// Makes a device without checks.
    pub(crate) async fn write_device(
        &self,
        tenant: Tenant<'_>,
        device: &Value,
    ) -> Result<(), Refusal> {
        self.write(tenant, Method::POST, "/devices", device).await
    }

    /// One page of the journal after a number, in order; empty at the end.
    pub(crate) async fn events(&self, tenant: Tenant<'_>, after: u64) -> Result<Vec<Event>> {
        let path = format!("/events?after={after}&limit={PAGE}");
        let page: Page<Event> = self.send(tenant, Method::GET, &path, None::<&Value>).await?;
        Ok(page.items)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        tenant: Tenant<'_>,
        path: &str,
        filter: &str,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let url = format!("{path}?limit={PAGE}{filter}{cursor}");
            let page: Page<T> = self.send(tenant, Method::GET, &url, None::<&Value>).await?;
            items.extend(page.items);
            let Some(next) = page.next_cursor else { return Ok(items) };
            cursor = format!("&cursor={}", byte_serialize(next.as_bytes()).collect::<String>());
        }
    }

    /// Writes once, whatever comes of it.
    async fn write(
        &self,
        tenant: Tenant<'_>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(), Refusal> {
        let url = format!("{}/{}{path}", self.base, tenant.org);
        let request = self.client.request(method, url).bearer_auth(tenant.token).json(body);
        let answer = request.send().await.map_err(|error| Refusal::Unknown(error.to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_server_error() => Err(Refusal::Unknown(refusal(answer).await)),
            _ => Err(Refusal::Refused(refusal(answer).await)),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        tenant: Tenant<'_>,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let url = format!("{}/{}{path}", self.base, tenant.org);
        let mut request = self.client.request(method.clone(), url).bearer_auth(tenant.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let called = || format!("{method} /api/v1/orgs/{{org}}{path}");
        let answer = request.send().await.with_context(called)?;
        if !answer.status().is_success() {
            bail!("{}: {}", called(), refusal(answer).await);
        }
        answer.json().await.with_context(called)
    }
}

/// Why a write was not answered with success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It may have been made, or not: the hub went away, or could not tell.
    #[error("no answer that counts: {0}")]
    Unknown(String),
    /// It was not made, and should have been.
    #[error("refused: {0}")]
    Refused(String),
}

async fn refusal(answer: Response) -> String {
    let status: StatusCode = answer.status();
    match answer.json::<Problem>().await {
        Ok(problem) => {
            format!("{status} {}: {} {:?}", problem.code, problem.detail, problem.errors)
        }
        Err(_) => format!("{status} without a problem document"),
    }
}

/// How soon an org's agents are believed gone: a change of those settings, and nothing else, of an org.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Liveness {
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) heartbeat_timeout_ms: u64,
    pub(crate) offline_grace_ms: u64,
}
