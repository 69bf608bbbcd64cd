//! What the demo makes over REST: agents, devices, a channel and a rule.

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::target::Targets;

/// What the receiver is told about.
const ALERTS: [&str; 4] = ["agent.offline", "agent.online", "device.offline", "device.online"];
/// Short, so that something is to be seen.
const CHECK_INTERVAL_S: u32 = 5;

/// The demo org, over REST.
pub(super) struct Fleet {
    client: reqwest::Client,
    org_url: String,
}

impl Fleet {
    pub(super) fn new(hub_url: &str, org_id: &str, api_token: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {api_token}"))?);
        let client = reqwest::Client::builder().default_headers(headers).build()?;
        Ok(Self { client, org_url: format!("{hub_url}/api/v1/orgs/{org_id}") })
    }

    async fn add(&self, what: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}/{what}", self.org_url)).json(&body);
        let answer = request.send().await.context("the hub does not answer")?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        anyhow::ensure!(status.is_success(), "adding to {what} was answered with {status}: {body}");
        Ok(body)
    }

    /// Adds a channel to `receiver_url` and a rule for it, and returns the signing secret.
    pub(super) async fn add_alerts(&self, receiver_url: &str) -> anyhow::Result<String> {
        let channel = json!({
            "name": "Demo receiver", "kind": "webhook", "config": { "url": receiver_url },
        });
        let channel = self.add("channels", channel).await?;
        // The demo's devices fail every few minutes, and each time is to be seen.
        let rule = json!({
            "name": "Comings and goings", "event_types": ALERTS, "channel_ids": [channel["id"]],
            "cooldown_s": 0, "flap_detection": false,
        });
        self.add("rules", rule).await?;
        let secret = channel["secret"].as_str().context("the new channel has no secret")?;
        Ok(secret.to_owned())
    }

    /// Adds an agent with its devices, and returns its key.
    pub(super) async fn add_agent(
        &self,
        name: &str,
        number: usize,
        targets: Targets,
        page_url: &str,
    ) -> anyhow::Result<String> {
        let created = self.add("agents", json!({ "name": name })).await?;
        let agent_id = &created["agent"]["id"];
        let mut devices = vec![
            ("This machine", json!({ "check": "ping" })),
            ("Local listener", json!({ "check": "tcp", "port": targets.live.port() })),
        ];
        devices.push(match number {
            0 => ("Local page", json!({ "check": "http", "url": page_url })),
            _ => ("Closed port", json!({ "check": "tcp", "port": targets.dead.port() })),
        });
        for (device, mut check) in devices {
            check["interval_s"] = json!(CHECK_INTERVAL_S);
            let device = json!({
                "agent_id": agent_id,
                "name": format!("{device} ({name})"),
                "address": "127.0.0.1",
                "checks": [check],
            });
            self.add("devices", device).await?;
        }
        let api_key = created["api_key"].as_str().context("the new agent has no key")?;
        Ok(api_key.to_owned())
    }
}
