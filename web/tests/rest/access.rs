//! Every route of the map, walked by everybody.

use pulse_protocol::api::{OrgStatus, Role};
use pulse_protocol::ids::{
    AgentId, AlertId, ChannelId, DeliveryId, DeviceId, OrgId, RuleId, WindowId,
};
use pulse_protocol::problem::ProblemCode;
use pulse_web::routes::REST;
use reqwest::Method;

use crate::support::{As, Hub, problem};

const OPEN: &str = "/api/v1/auth/login";

/// Every method of every path, with the org in its place and ids of things that do not exist in theirs.
fn walk(org: &str) -> Vec<(Method, String)> {
    REST.iter()
        .filter(|(path, _)| *path != OPEN)
        .flat_map(|(path, methods)| {
            let path = path
                .replace("{org_id}", org)
                .replace("{agent_id}", &AgentId::new().to_string())
                .replace("{device_id}", &DeviceId::new().to_string())
                .replace("{channel_id}", &ChannelId::new().to_string())
                .replace("{rule_id}", &RuleId::new().to_string())
                .replace("{alert_id}", &AlertId::new().to_string())
                .replace("{window_id}", &WindowId::new().to_string())
                .replace("{delivery_id}", &DeliveryId::new().to_string());
            assert!(!path.contains('{'), "{path}: give the id a value above");
            methods.iter().map(move |method| (method.parse().unwrap(), path.clone()))
        })
        .collect()
}

fn in_org(org: &str) -> Vec<(Method, String)> {
    let routes: Vec<_> = walk(org).into_iter().filter(|(_, path)| path.contains(org)).collect();
    assert!(routes.len() > 30);
    routes
}

/// Whether only owners and admins may read it.
fn is_for_admins(path: &str) -> bool {
    path.ends_with("/billing") || path.ends_with("/mails")
}

async fn code_of(hub: &Hub, method: &Method, path: &str, who: &As) -> Option<ProblemCode> {
    let request = hub.request(method.clone(), path, who).header("content-type", "application/json");
    let response = request.body("{}").send().await.unwrap();
    if response.status().is_success() { None } else { Some(problem(response).await.code) }
}

async fn assert_all(hub: &Hub, routes: &[(Method, String)], who: &As, wanted: ProblemCode) {
    for (method, path) in routes {
        assert_eq!(code_of(hub, method, path, who).await, Some(wanted), "{method} {path}");
    }
}

#[actix_web::test]
async fn nobody_gets_in_anywhere() {
    let hub = Hub::start().await;
    let routes = walk(&hub.org(OrgStatus::Active).to_string());
    assert_all(&hub, &routes, &As::Nobody, ProblemCode::Unauthenticated).await;
    let made_up = As::Token("vpt_0123456789012345678901234567890123456789".into());
    assert_all(&hub, &routes, &made_up, ProblemCode::Unauthenticated).await;
    let stale = As::Browser { cookie: "stale".into(), csrf: Some("x") };
    assert_all(&hub, &routes, &stale, ProblemCode::Unauthenticated).await;
}

#[actix_web::test]
async fn a_stranger_cannot_tell_a_foreign_org_from_none() {
    let hub = Hub::start().await;
    let (org, own) = (hub.org(OrgStatus::Active), hub.org(OrgStatus::Active));
    let stranger = hub.member(own, Role::Owner);
    assert_all(&hub, &in_org(&org.to_string()), &stranger, ProblemCode::NotFound).await;
    assert_all(&hub, &in_org(&OrgId::new().to_string()), &stranger, ProblemCode::NotFound).await;
    assert_all(&hub, &in_org("no-id"), &stranger, ProblemCode::NotFound).await;

    let details = |org: String| {
        let (hub, stranger) = (&hub, &stranger);
        async move { problem(hub.get(&format!("/api/v1/orgs/{org}"), stranger).await).await.detail }
    };
    assert_eq!(details(org.to_string()).await, details(OrgId::new().to_string()).await);
}

#[actix_web::test]
async fn a_token_is_good_in_its_own_org_alone() {
    let hub = Hub::start().await;
    let (org, other) = (hub.org(OrgStatus::Active), hub.org(OrgStatus::Active));
    let token = hub.token(org, Some(other));
    assert_all(&hub, &in_org(&org.to_string()), &token, ProblemCode::NotFound).await;
}

#[actix_web::test]
async fn n32_a_viewer_sees_everything_and_changes_nothing() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let viewer = hub.member(org, Role::Viewer);
    for (method, path) in in_org(&org.to_string()) {
        let code = code_of(&hub, &method, &path, &viewer).await;
        let is_refused = code == Some(ProblemCode::Forbidden);
        let must_be = method != Method::GET || is_for_admins(&path);
        assert_eq!(is_refused, must_be, "{method} {path}: {code:?}");
        assert_ne!(code, Some(ProblemCode::Unauthenticated), "{method} {path}");
    }
}

#[actix_web::test]
async fn an_editor_changes_devices_and_acknowledges_alerts() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let editor = hub.member(org, Role::Editor);
    for (method, path) in in_org(&org.to_string()) {
        let is_refused =
            code_of(&hub, &method, &path, &editor).await == Some(ProblemCode::Forbidden);
        let may = (method == Method::GET && !is_for_admins(&path))
            || path.contains("/devices")
            || path.ends_with("/acknowledge");
        assert_eq!(is_refused, !may, "{method} {path}");
    }
}

#[actix_web::test]
async fn owners_and_admins_and_tokens_of_owners_may_do_everything() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let everybody = [
        hub.member(org, Role::Owner),
        hub.member(org, Role::Admin),
        hub.token(org, None),
        hub.token(org, Some(org)),
    ];
    for who in &everybody {
        for (method, path) in in_org(&org.to_string()) {
            let code = code_of(&hub, &method, &path, who).await;
            assert_ne!(code, Some(ProblemCode::Forbidden), "{method} {path}");
            assert_ne!(code, Some(ProblemCode::Unauthenticated), "{method} {path}");
        }
    }
}

#[actix_web::test]
async fn a_closed_org_shows_itself_and_its_bill_alone() {
    let hub = Hub::start().await;
    for (status, wanted) in [
        (OrgStatus::Suspended, ProblemCode::OrgSuspended),
        (OrgStatus::Cancelled, ProblemCode::OrgCancelled),
    ] {
        let org = hub.org(status);
        let root = format!("/api/v1/orgs/{org}");
        let owner = hub.member(org, Role::Owner);
        let (open, closed): (Vec<_>, Vec<_>) =
            in_org(&org.to_string()).into_iter().partition(|(method, path)| {
                *method == Method::GET && (*path == root || *path == format!("{root}/billing"))
            });
        assert_eq!(open.len(), 2);
        assert_all(&hub, &closed, &owner, wanted).await;
        for (method, path) in open {
            assert_ne!(code_of(&hub, &method, &path, &owner).await, Some(wanted), "{path}");
        }
        let bill = hub.get(&format!("{root}/billing"), &owner).await;
        let bill: serde_json::Value = bill.json().await.unwrap();
        assert_eq!(bill, serde_json::json!({"plan": "starter", "status": status}));
        assert_eq!(hub.get("/api/v1/me", &owner).await.status(), 200);
    }
}

#[actix_web::test]
async fn a_browsers_change_needs_its_csrf_token() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let As::Browser { cookie, .. } = hub.member(org, Role::Owner) else { unreachable!() };
    let changes: Vec<_> = walk(&org.to_string())
        .into_iter()
        .filter(|(method, path)| *method != Method::GET && !path.ends_with("/logout"))
        .collect();
    for csrf in [None, Some(""), Some("csrf-token-of-the-tesT"), Some("csrf-token-of-the-test2")] {
        let who = As::Browser { cookie: cookie.clone(), csrf };
        assert_all(&hub, &changes, &who, ProblemCode::Forbidden).await;
        let shown = problem(hub.post("/api/v1/auth/logout", &who, "").await).await;
        assert!(shown.detail.contains("x-csrf-token"));
        assert_eq!(hub.get("/api/v1/me", &who).await.status(), 200, "reading needs none");
    }
}
