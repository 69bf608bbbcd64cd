//! What the edge counts.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TEXT_FORMAT, TextEncoder,
};

use crate::WebState;
use crate::error::ApiError;

/// From an answer out of memory to one that waits for a receiver.
const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0];

/// The numbers that the edge knows, in the hub's registry; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    /// Sign-ins with a wrong address or password.
    pub login_failures: IntCounter,
    /// Open sockets of agents.
    pub agent_connections: IntGauge,
    /// Sockets of agents that are not read because their org is busy or their window is full.
    pub agent_sockets_paused: IntGauge,
    /// Open sockets of dashboards.
    pub dashboard_connections: IntGauge,
    /// Frames from agents.
    pub agent_frames_in: IntCounter,
    /// Frames to agents.
    pub agent_frames_out: IntCounter,
    /// Frames from dashboards.
    pub dashboard_frames_in: IntCounter,
    /// Frames to dashboards.
    pub dashboard_frames_out: IntCounter,
}

impl Metrics {
    /// Registers the numbers.
    ///
    /// # Errors
    ///
    /// When the registry holds numbers of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("pulse_http_requests_total", "HTTP requests answered"),
            &["method", "route", "status"],
        )?;
        let request_seconds = HistogramVec::new(
            HistogramOpts::new(
                "pulse_http_request_duration_seconds",
                "Time to answer an HTTP request",
            )
            .buckets(SECONDS.to_vec()),
            &["route"],
        )?;
        let login_failures = IntCounter::new(
            "pulse_login_failures_total",
            "Sign-ins with a wrong address or password",
        )?;
        let connections = IntGaugeVec::new(
            Opts::new("pulse_websocket_connections", "Open websockets by kind of peer"),
            &["peer"],
        )?;
        let frames = IntCounterVec::new(
            Opts::new(
                "pulse_websocket_frames_total",
                "Websocket frames by kind of peer and direction",
            ),
            &["peer", "direction"],
        )?;
        let agent_sockets_paused = IntGauge::new(
            "pulse_agent_sockets_paused",
            "Agents' sockets that are not read because their org is busy or their window full",
        )?;
        registry.register(Box::new(agent_sockets_paused.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(request_seconds.clone()))?;
        registry.register(Box::new(login_failures.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(frames.clone()))?;
        Ok(Self {
            registry: registry.clone(),
            agent_sockets_paused,
            requests,
            request_seconds,
            login_failures,
            agent_connections: connections.with_label_values(&["agent"]),
            dashboard_connections: connections.with_label_values(&["dashboard"]),
            agent_frames_in: frames.with_label_values(&["agent", "in"]),
            agent_frames_out: frames.with_label_values(&["agent", "out"]),
            dashboard_frames_in: frames.with_label_values(&["dashboard", "in"]),
            dashboard_frames_out: frames.with_label_values(&["dashboard", "out"]),
        })
    }

    /// Everything in the registry in Prometheus' text form.
    ///
    /// # Errors
    ///
    /// When a number of the registry cannot be written.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Counts one answer. `route` is a pattern of the URL map, never a path: there are few of them.
    pub(crate) fn count_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        // A client may make up methods; each would be a new series.
        let method = if KNOWN_METHODS.contains(&method) { method } else { "other" };
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

const KNOWN_METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// `GET /metrics`, on the operations listener alone.
pub(crate) async fn show(state: web::Data<WebState>) -> Result<HttpResponse, ApiError> {
    let text = state.metrics.render().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(text))
}
