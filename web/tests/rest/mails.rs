//! An org's mails, and the link that ends them.

use std::time::Duration;

use pulse_actors::ports::{MailStore, Suppressions};
use pulse_domain::notification::mail::{MailRecord, MailRequest, PasswordReset};
use pulse_protocol::api::{DeliveryState, Mail, OrgStatus, Page, Role, SuppressionReason};
use pulse_protocol::ids::{DeliveryId, OrgId};
use pulse_protocol::problem::ProblemCode;
use reqwest::Method;

use crate::support::{As, Hub, NOON, header, problem};

/// A mail of the org, after `change`.
async fn mail(hub: &Hub, org: OrgId, change: impl FnOnce(MailRecord) -> MailRecord) -> DeliveryId {
    let reset = PasswordReset {
        request_id: DeliveryId::new().to_string(),
        token: "tok_secret".to_owned(),
        expires_at: NOON + Duration::from_secs(600),
    };
    let request = MailRequest::to_addresses(reset, vec!["a@example.org".to_owned()], NOON);
    let id = hub.mails.enqueue(org, &request).await.unwrap()[0];
    let (before, _) = hub.mails.mail(org, id).await.unwrap().unwrap();
    assert!(hub.mails.change_mail(&before, &change(before.clone())).await.unwrap());
    id
}

/// N38
#[actix_web::test]
async fn an_orgs_mails_are_listed_without_what_they_say_and_replayed() {
    let hub = Hub::start().await;
    let (org, other) = (hub.org(OrgStatus::Active), hub.org(OrgStatus::Active));
    let admin = hub.member(org, Role::Admin);
    let root = format!("/api/v1/orgs/{org}/mails");
    let dead = mail(&hub, org, |mail| mail.given_up(NOON)).await;
    let queued = mail(&hub, org, |mail| mail).await;
    let foreign = mail(&hub, other, |mail| mail.given_up(NOON)).await;

    let list = async |query: &str| -> Vec<DeliveryId> {
        let answer = hub.get(&format!("{root}{query}"), &admin).await;
        assert_eq!(answer.status(), 200, "{query}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("tok_secret") && !text.contains("params"), "{text}");
        let page: Page<Mail> = serde_json::from_str(&text).unwrap();
        page.items.into_iter().map(|mail| mail.id).collect()
    };
    assert_eq!(list("").await, [queued, dead]);
    assert_eq!(list("?state=dead&template=password_reset").await, [dead]);
    assert_eq!(list("?template=welcome").await, []);
    assert_eq!(list("?limit=1").await, [queued]);
    let wrong = hub.get(&format!("{root}?template=nothing&state=x"), &admin).await;
    assert_eq!(problem(wrong).await.errors.len(), 2);

    let replay =
        async |id: DeliveryId| hub.post(&format!("{root}/{id}/replay"), &admin, "{}").await;
    let answer = replay(dead).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Mail>().await.unwrap().state, DeliveryState::Queued);
    assert_eq!(problem(replay(dead).await).await.code, ProblemCode::Conflict);
    assert_eq!(problem(replay(foreign).await).await.code, ProblemCode::NotFound);
}

#[actix_web::test]
async fn a_link_ends_an_orgs_mail_to_one_address_only_when_it_is_confirmed() {
    let hub = Hub::start().await;
    let (org, other) = (hub.org(OrgStatus::Active), hub.org(OrgStatus::Active));
    let link = hub.links.unsubscribe(org, "a@example.org");
    let path = format!("/unsubscribe/{}", link.rsplit('/').next().unwrap());
    let reason = async |org| hub.mails.suppression(org, "A@example.org").await.unwrap();

    let asked = hub.get(&path, &As::Nobody).await;
    assert_eq!(asked.status(), 200);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(asked.headers(), name), value);
    }
    let text = asked.text().await.unwrap();
    assert!(text.contains("a@example.org") && text.contains("Acme"), "{text}");
    assert!(text.contains("<form method=\"post\">") && !text.contains("<script"), "{text}");
    assert_eq!(reason(org).await, None, "looking changes nothing");

    // As a mail program does it (RFC 8058), and again.
    for _ in 0..2 {
        let request = hub.request(Method::POST, &path, &As::Nobody);
        let form = request.header("content-type", "application/x-www-form-urlencoded");
        let done = form.body("List-Unsubscribe=One-Click").send().await.unwrap();
        assert_eq!(done.status(), 200);
        assert!(!done.text().await.unwrap().contains("<form"));
    }
    assert_eq!(reason(org).await, Some(SuppressionReason::Unsubscribed));
    assert_eq!(reason(other).await, None);
}

#[actix_web::test]
async fn a_link_of_another_hub_or_purpose_ends_nothing() {
    let hub = Hub::start().await;
    let org = hub.org(OrgStatus::Active);
    let acknowledge = hub.links.acknowledge(org, pulse_protocol::ids::AlertId::new());
    let token = acknowledge.rsplit('/').next().unwrap();
    for token in [token, "x", "%3Cscript%3E"] {
        let path = format!("/unsubscribe/{token}");
        for method in [Method::GET, Method::POST] {
            let answer = hub.request(method, &path, &As::Nobody).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{token}");
            assert!(!answer.text().await.unwrap().contains("script"));
        }
    }
    assert!(hub.mails.suppressions(None).await.unwrap().is_empty());
}
