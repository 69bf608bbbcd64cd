//! Signing in and out.

use std::time::Duration;

use pulse_protocol::api::{OrgStatus, Role};
use pulse_protocol::problem::ProblemCode;
use serde_json::{Value, json};

use crate::support::{As, Hub, PASSWORD, header, problem};

fn login(email: &str, password: &str) -> String {
    json!({ "email": email, "password": password }).to_string()
}

#[actix_web::test]
async fn a_sign_in_opens_a_session_that_a_sign_out_ends() {
    let hub = Hub::start().await;
    let user = hub.user("ada@example.com");
    let answer =
        hub.post("/api/v1/auth/login", &As::Nobody, &login(" Ada@Example.com ", PASSWORD)).await;
    assert_eq!(answer.status(), 200);
    let cookie = header(answer.headers(), "set-cookie");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["user"]["id"], user.id.to_string());
    let csrf: &'static str = body["csrf_token"].as_str().unwrap().to_owned().leak();

    let (value, attributes) = cookie.split_once("; ").unwrap();
    let value = value.strip_prefix("pulse_session=").unwrap();
    assert_eq!(value.len(), 43, "32 bytes in base64");
    assert!(hub.accounts.knows_cookie(value), "its hash alone is stored");
    let mut attributes: Vec<_> = attributes.split("; ").collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Max-Age=1209600", "Path=/", "SameSite=Lax"]);

    let browser = As::Browser { cookie: value.to_owned(), csrf: Some(csrf) };
    let me: Value = hub.get("/api/v1/me", &browser).await.json().await.unwrap();
    assert_eq!(me["user"]["email"], "ada@example.com");
    assert_eq!(me["csrf_token"], csrf);

    let out = hub.post("/api/v1/auth/logout", &browser, "").await;
    assert_eq!(out.status(), 204);
    assert!(header(out.headers(), "set-cookie").contains("Max-Age=0"));
    assert_eq!(hub.get("/api/v1/me", &browser).await.status(), 401);
    assert_eq!(hub.accounts.session_count(), 0);
}

#[actix_web::test]
async fn the_cookie_is_secure_where_the_hub_is() {
    let hub = Hub::start_at("https://pulse.example.com").await;
    hub.user("ada@example.com");
    let answer =
        hub.post("/api/v1/auth/login", &As::Nobody, &login("ada@example.com", PASSWORD)).await;
    assert!(header(answer.headers(), "set-cookie").contains("; Secure"));
    assert!(header(answer.headers(), "strict-transport-security").starts_with("max-age="));
}

#[actix_web::test]
async fn a_session_ends_by_itself() {
    let hub = Hub::start().await;
    let user = hub.user("ada@example.com");
    let browser = hub.browser(user);
    assert_eq!(hub.get("/api/v1/me", &browser).await.status(), 200);
    hub.clock.advance(Duration::from_secs(3_600));
    assert_eq!(hub.get("/api/v1/me", &browser).await.status(), 401);
}

#[actix_web::test]
async fn a_wrong_password_and_an_unknown_account_get_the_same_answer() {
    let hub = Hub::start().await;
    hub.user("ada@example.com");
    let mut answers = Vec::new();
    for email in ["ada@example.com", "nobody@example.com"] {
        let answer = hub.post("/api/v1/auth/login", &As::Nobody, &login(email, "wrong")).await;
        assert_eq!(header(answer.headers(), "set-cookie"), "");
        let mut answer = problem(answer).await;
        answer.request_id.clear();
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].code, ProblemCode::Unauthenticated);
    assert!(
        hub.operations("/metrics")
            .await
            .text()
            .await
            .unwrap()
            .contains("pulse_login_failures_total 2")
    );
}

#[actix_web::test]
async fn guessing_is_slowed_down_even_for_the_right_password() {
    let hub = Hub::start().await;
    hub.user("ada@example.com");
    for _ in 0..10 {
        let answer =
            hub.post("/api/v1/auth/login", &As::Nobody, &login("ada@example.com", "x")).await;
        assert_eq!(answer.status(), 401);
    }
    let answer =
        hub.post("/api/v1/auth/login", &As::Nobody, &login("ada@example.com", PASSWORD)).await;
    assert_eq!(header(answer.headers(), "retry-after"), "900");
    assert_eq!(problem(answer).await.code, ProblemCode::RateLimited);

    hub.clock.advance(Duration::from_secs(900));
    let answer =
        hub.post("/api/v1/auth/login", &As::Nobody, &login("ada@example.com", PASSWORD)).await;
    assert_eq!(answer.status(), 200);
}

#[actix_web::test]
async fn a_token_needs_no_csrf_token_and_has_no_session() {
    let hub = Hub::start().await;
    let (org, other) = (hub.org(OrgStatus::Active), hub.org(OrgStatus::Active));
    let token = hub.token(org, Some(org));
    let me: Value = hub.get("/api/v1/me", &token).await.json().await.unwrap();
    assert_eq!(me["csrf_token"], Value::Null);
    assert_eq!(me["orgs"][0]["id"], org.to_string());
    let out = problem(hub.post("/api/v1/auth/logout", &token, "").await).await;
    assert_eq!(out.code, ProblemCode::Forbidden);

    let foreign = hub.token(org, Some(other));
    let me: Value = hub.get("/api/v1/me", &foreign).await.json().await.unwrap();
    assert_eq!(me["orgs"], json!([]), "orgs that the token does not open are not shown");
}

#[actix_web::test]
async fn a_header_that_is_no_bearer_token_is_not_passed_over_for_the_cookie() {
    let hub = Hub::start().await;
    let browser = hub.member(hub.org(OrgStatus::Active), Role::Owner);
    for authorization in ["", "Bearer", "Basic YTpi", "Bearer x y"] {
        let request = hub.request(reqwest::Method::GET, "/api/v1/me", &browser);
        let answer = request.header("authorization", authorization).send().await.unwrap();
        assert_eq!(header(answer.headers(), "www-authenticate"), "Bearer");
        assert_eq!(problem(answer).await.code, ProblemCode::Unauthenticated);
    }
}
