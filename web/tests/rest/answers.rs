//! What every answer has in common: problems, ids, headers, pages.

use std::sync::atomic::Ordering;

use pulse_protocol::api::{OrgStatus, Role};
use pulse_protocol::problem::ProblemCode;
use reqwest::Method;
use serde_json::json;

use crate::support::{As, Hub, header, problem};

#[actix_web::test]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let hub = Hub::start().await;
    let owner = hub.member(hub.org(OrgStatus::Active), Role::Owner);
    for path in
        ["/api/v1/nothing", "/api", "/api/v1/orgs/", "/ws/nothing", "/webhooks/x", "/assets/no.js"]
    {
        let answer =
            hub.request(Method::GET, path, &owner).header("accept", "text/html").send().await;
        assert_eq!(problem(answer.unwrap()).await.code, ProblemCode::NotFound, "{path}");
    }
    let answer = hub.request(Method::PUT, "/api/v1/orgs", &owner).send().await.unwrap();
    assert_eq!(header(answer.headers(), "allow"), "GET");
    assert_eq!(problem(answer).await.code, ProblemCode::MethodNotAllowed);
    let answer = hub.post("/some/page", &As::Nobody, "{}").await;
    assert_eq!(problem(answer).await.code, ProblemCode::NotFound);
}

#[actix_web::test]
async fn each_fault_of_a_body_has_its_own_code() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let owner = hub.member(org, Role::Owner);
    let path = format!("/api/v1/orgs/{org}/agents");
    let huge = format!("{{\"name\": \"{}\"}}", "a".repeat(300 * 1024));
    for (body, code, field) in [
        ("", ProblemCode::MalformedJson, None),
        ("{", ProblemCode::MalformedJson, None),
        ("name=a", ProblemCode::MalformedJson, None),
        ("{}", ProblemCode::ValidationFailed, Some(("name", "required"))),
        ("{\"name\": 5}", ProblemCode::ValidationFailed, Some(("name", "invalid"))),
        ("[]", ProblemCode::ValidationFailed, Some(("body", "invalid"))),
        (huge.as_str(), ProblemCode::PayloadTooLarge, None),
    ] {
        let shown = problem(hub.post(&path, &owner, body).await).await;
        assert_eq!(shown.code, code, "{body:.20}");
        let fault = shown.errors.first().map(|fault| (fault.field.as_str(), fault.code.as_str()));
        assert_eq!(fault, field, "{body:.20}");
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let request = hub.request(Method::POST, &path, &owner).header("content-type", media_type);
        let shown = problem(request.body("{\"name\": \"a\"}").send().await.unwrap()).await;
        assert_eq!(shown.code, ProblemCode::UnsupportedMediaType, "{media_type}");
    }
}

#[actix_web::test]
async fn a_channel_that_would_reach_inside_is_refused_when_it_is_written() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let owner = hub.member(org, Role::Owner);
    let config = json!({"url": "http://169.254.169.254/latest", "headers": {"Host": "x"}});
    let body = json!({"name": "a", "kind": "webhook", "config": config}).to_string();
    let shown =
        problem(hub.post(&format!("/api/v1/orgs/{org}/channels"), &owner, &body).await).await;
    let faults: Vec<_> = shown.errors.iter().map(|fault| (&*fault.field, &*fault.code)).collect();
    assert_eq!(faults, [("config.url", "forbidden"), ("config.headers.Host", "forbidden")]);
}

#[actix_web::test]
async fn a_database_that_is_away_is_503_and_its_text_stays_inside() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let owner = hub.member(org, Role::Owner);
    hub.store.is_down.store(true, Ordering::SeqCst);
    let answer = hub.get(&format!("/api/v1/orgs/{org}/events"), &owner).await;
    assert_eq!(header(answer.headers(), "retry-after"), "1");
    let shown = problem(answer).await;
    assert_eq!(shown.code, ProblemCode::Unavailable);
    assert!(!serde_json::to_string(&shown).unwrap().contains("driver"));
}

#[actix_web::test]
async fn every_answer_carries_an_id_and_a_sane_one_is_kept() {
    let hub = Hub::start().await;
    let ids = |given: &'static str| {
        let request =
            hub.request(Method::GET, "/healthz", &As::Nobody).header("x-request-id", given);
        async move { header(request.send().await.unwrap().headers(), "x-request-id") }
    };
    assert_eq!(ids("abc-DEF_1.2").await, "abc-DEF_1.2");
    let long: &'static str = "a".repeat(65).leak();
    for insane in ["", "a b", "a\"b", "<script>", long] {
        let id = ids(insane).await;
        assert!(id.len() == 32 && id != insane, "{insane}: {id}");
    }
    let id = header(hub.get("/healthz", &As::Nobody).await.headers(), "x-request-id");
    assert_ne!(id, header(hub.get("/healthz", &As::Nobody).await.headers(), "x-request-id"));
}

#[actix_web::test]
async fn every_answer_is_hardened_and_those_of_the_api_are_not_kept() {
    let hub = Hub::start().await;
    for path in ["/api/v1/me", "/healthz", "/", "/assets/x", "/api/nothing"] {
        let answer = hub.get(path, &As::Nobody).await;
        let value = |name| header(answer.headers(), name);
        assert!(value("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(value("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(value("x-frame-options"), "DENY", "{path}");
        assert_eq!(value("referrer-policy"), "same-origin", "{path}");
        assert_eq!(value("strict-transport-security"), "", "{path}: not without TLS");
        let is_program = path.starts_with("/api") || path == "/healthz";
        assert_eq!(value("cache-control") == "no-store", is_program, "{path}");
    }
}

#[actix_web::test]
async fn head_is_answered_like_get_without_a_body() {
    let hub = Hub::start().await;
    let answer = hub.request(Method::HEAD, "/healthz", &As::Nobody).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap().len(), 0);
}
