//! Health and metrics.

use std::sync::atomic::Ordering;

use pulse_protocol::problem::ProblemCode;

use crate::support::{As, Hub, header, problem};

#[actix_web::test]
async fn alive_is_always_and_ready_is_while_hub_and_database_are() {
    let hub = Hub::start().await;
    assert_eq!(hub.get("/healthz", &As::Nobody).await.text().await.unwrap(), "{\"status\":\"ok\"}");
    assert_eq!(hub.get("/readyz", &As::Nobody).await.status(), 200);
    assert_eq!(hub.operations("/readyz").await.status(), 200);

    hub.ready.store(false, Ordering::SeqCst);
    assert_not_ready(&hub).await;
    hub.ready.store(true, Ordering::SeqCst);
    hub.store.is_down.store(true, Ordering::SeqCst);
    assert_not_ready(&hub).await;
    assert_eq!(hub.operations("/healthz").await.status(), 200);
}

async fn assert_not_ready(hub: &Hub) {
    let answer = hub.get("/readyz", &As::Nobody).await;
    assert_eq!(header(answer.headers(), "retry-after"), "1");
    assert_eq!(problem(answer).await.code, ProblemCode::Unavailable);
    assert_eq!(hub.operations("/readyz").await.status(), 503);
}

#[actix_web::test]
async fn metrics_are_on_the_operations_listener_alone_and_count_by_route() {
    let hub = Hub::start().await;
    assert_eq!(hub.get("/metrics", &As::Nobody).await.status(), 404);
    for org in ["a", "b"] {
        hub.get(&format!("/api/v1/orgs/{org}/agents"), &As::Nobody).await;
    }
    let text = hub.operations("/metrics").await.text().await.unwrap();
    let series = "pulse_http_requests_total{method=\"GET\",route=\"/api/v1/orgs/{org_id}/agents\",status=\"401\"} 2";
    assert!(text.contains(series), "{text}");
    assert!(text.contains("pulse_websocket_connections{peer=\"agent\"} 0"));
}
