use std::sync::Arc;

use pulse_actors::ports::{Accounts, OrgStore, SessionLogin};
use pulse_domain::record::{OrgRecord, Write};
use pulse_protocol::api::{OrgStatus, Plan, Role, User};
use pulse_protocol::ids::{OrgId, SessionId, TokenId, UserId};
use pulse_store::Database;
use pulse_store::admin::{Bootstrap, Bootstrapped, bootstrap, set_org_status};
use sea_orm::{ConnectionTrait, Statement};

use crate::kit::*;
use crate::samples::{self, Draw};

fn wanted<'a>(email: &'a str, org_name: &'a str, token_hash: &'a [u8; 32]) -> Bootstrap<'a> {
    let (plan, password_hash) = (Plan::Starter, "$argon2id$first");
    Bootstrap { email, org_name, plan, password_hash, token_hash, rotate: false, now: at(1_000) }
}

async fn boot(store: &Database, email: &str, org_name: &str, token: &str) -> Bootstrapped {
    bootstrap(store, &wanted(email, org_name, &hash(token))).await.unwrap()
}

/// Somebody with an org.
pub(crate) async fn owner(store: &Database, email: &str) -> User {
    boot(store, email, "Org", email).await;
    store.user_by_email(email).await.unwrap().unwrap().0
}

pub(crate) async fn an_agent_comes_in_by_its_key_and_for_a_while_by_the_one_before(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut agent = Draw::new().one(samples::agent());
    (agent.key_hash, agent.enabled) = (hash("new"), true);
    agent.previous_key = Some((hash("old"), at(500)));
    scribe.write(&writer, 1, vec![Write::Agent(agent.clone())]).await;

    let by_key = async |key: &str, now| store.agent_by_key(&hash(key), at(now)).await.unwrap();
    let login = by_key("new", 900).await.unwrap();
    assert_eq!((login.agent_id, login.org_id), (agent.id, scribe.home.org_id));
    assert_eq!((login.enabled, login.org_status), (true, OrgStatus::Active));
    assert_eq!(by_key("old", 499).await, Some(login));
    assert_eq!(by_key("old", 500).await, None);
    assert_eq!(by_key("unknown", 1).await, None);

    agent.enabled = false;
    scribe.write(&writer, 1, vec![Write::Agent(agent.clone())]).await;
    assert!(!by_key("new", 1).await.unwrap().enabled);
    scribe.write(&writer, 1, vec![Write::AgentRemoved(agent.id)]).await;
    assert_eq!(by_key("new", 1).await, None);
}

pub(crate) async fn a_session_lasts_until_its_end(db: Arc<Fresh>) {
    let store = db.store().await;
    let user = owner(&store, "a@example.org").await;
    let login = SessionLogin {
        session_id: SessionId::new(),
        user: user.clone(),
        csrf_token: "csrf".to_owned(),
        expires_at: at(100),
    };
    let cookie = hash("cookie");
    store.create_session(&cookie, &login, at(1)).await.unwrap();
    let found = store.session(&cookie, at(99)).await.unwrap().unwrap();
    assert_eq!((found.session_id, found.user), (login.session_id, user));
    assert_eq!((found.csrf_token.as_str(), found.expires_at), ("csrf", at(100)));
    assert!(store.session(&hash("other"), at(1)).await.unwrap().is_none());
    assert!(store.session(&cookie, at(100)).await.unwrap().is_none());
    assert!(store.session_is_open(login.session_id, at(99)).await.unwrap());
    assert!(!store.session_is_open(login.session_id, at(100)).await.unwrap());
    store.end_session(login.session_id).await.unwrap();
    store.end_session(login.session_id).await.unwrap();
    assert!(store.session(&cookie, at(1)).await.unwrap().is_none());
    assert!(!store.session_is_open(login.session_id, at(1)).await.unwrap());
}

pub(crate) async fn a_token_is_good_until_its_end(db: Arc<Fresh>) {
    let store = db.store().await;
    let made = boot(&store, "a@example.org", "Org", "token").await;
    let login = store.api_token(&hash("token"), at(100_000)).await.unwrap().unwrap();
    assert_eq!((login.user.id, login.org_id), (made.user_id, None));
    assert!(store.token_is_good(login.token_id, at(100_000)).await.unwrap());
    assert!(!store.token_is_good(TokenId::new(), at(100_000)).await.unwrap());
    assert!(store.api_token(&hash("other"), at(1)).await.unwrap().is_none());

    let raw = db.raw().await;
    let last_use = async || -> i64 {
        let text = "SELECT last_used_at FROM api_tokens";
        let select = Statement::from_string(raw.get_database_backend(), text);
        raw.query_one_raw(select).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    assert_eq!(last_use().await, 100_000);
    store.api_token(&hash("token"), at(159_999)).await.unwrap();
    assert_eq!(last_use().await, 100_000, "noted at most once a minute");
    store.api_token(&hash("token"), at(160_000)).await.unwrap();
    assert_eq!(last_use().await, 160_000);

    raw.execute_unprepared("UPDATE api_tokens SET expires_at = 200000").await.unwrap();
    assert!(store.api_token(&hash("token"), at(199_999)).await.unwrap().is_some());
    assert!(store.api_token(&hash("token"), at(200_000)).await.unwrap().is_none());
    assert!(!store.token_is_good(login.token_id, at(200_000)).await.unwrap());
}

pub(crate) async fn bootstrap_is_idempotent(db: Arc<Fresh>) {
    let store = db.store().await;
    let first = boot(&store, "Ann@Example.org", "Acme & Sons", "one").await;
    assert!(first.org_created && first.password_set && first.token_set);
    let again = boot(&store, "ann@example.ORG", "acme & SONS", "two").await;
    let unchanged =
        Bootstrapped { org_created: false, password_set: false, token_set: false, ..first };
    assert_eq!(again, unchanged);
    assert!(store.api_token(&hash("two"), at(1)).await.unwrap().is_none());

    let (user, password) = store.user_by_email(" ANN@example.org").await.unwrap().unwrap();
    assert_eq!((user.id, user.email.as_str()), (first.user_id, "ann@example.org"));
    assert_eq!(password, "$argon2id$first");
    assert!(store.user_by_email("bob@example.org").await.unwrap().is_none());
    let org = store.org(first.org_id).await.unwrap().unwrap();
    assert_eq!((org.name.as_str(), org.slug.as_str()), ("Acme & Sons", "acme-sons"));
    assert_eq!((org.plan, org.status), (Plan::Starter, OrgStatus::Active));
    assert_eq!(store.role(first.user_id, first.org_id).await.unwrap(), Some(Role::Owner));
    assert_eq!(store.role(UserId::new(), first.org_id).await.unwrap(), None);
    assert_eq!(store.role(first.user_id, OrgId::new()).await.unwrap(), None);

    // A second org of the same person: a token of its own, the password as it was.
    let second = boot(&store, "ann@example.org", "Zebra", "three").await;
    assert_eq!(second.user_id, first.user_id);
    assert!(second.org_created && second.token_set && !second.password_set);
    let orgs = store.memberships(first.user_id).await.unwrap();
    let names: Vec<&str> = orgs.iter().map(|org| org.name.as_str()).collect();
    assert_eq!(names, ["Acme & Sons", "Zebra"]);
}

pub(crate) async fn rotation_replaces_password_and_token(db: Arc<Fresh>) {
    let store = db.store().await;
    let first = boot(&store, "a@example.org", "Org", "one").await;
    let user = store.user_by_email("a@example.org").await.unwrap().unwrap().0;
    let login = SessionLogin {
        session_id: SessionId::new(),
        user,
        csrf_token: String::new(),
        expires_at: at(100),
    };
    store.create_session(&hash("cookie"), &login, at(1)).await.unwrap();

    let token = hash("two");
    let rotate = Bootstrap {
        password_hash: "$argon2id$second",
        rotate: true,
        ..wanted("a@example.org", "Org", &token)
    };
    let rotated = bootstrap(&store, &rotate).await.unwrap();
    assert_eq!((rotated.org_id, rotated.user_id), (first.org_id, first.user_id));
    assert!(!rotated.org_created && rotated.password_set && rotated.token_set);
    assert!(store.api_token(&hash("one"), at(1)).await.unwrap().is_none());
    assert!(store.api_token(&token, at(1)).await.unwrap().is_some());
    let password = store.user_by_email("a@example.org").await.unwrap().unwrap().1;
    assert_eq!(password, "$argon2id$second");
    assert!(store.session(&hash("cookie"), at(1)).await.unwrap().is_none());
}

pub(crate) async fn orgs_of_one_name_get_slugs_of_their_own(db: Arc<Fresh>) {
    let store = db.store().await;
    let first = boot(&store, "a@example.org", "Acme", "one").await;
    let second = boot(&store, "b@example.org", "Acme", "two").await;
    assert_ne!(first.org_id, second.org_id);
    let slug = store.org(second.org_id).await.unwrap().unwrap().slug;
    assert!(slug.starts_with("acme-") && slug.len() == "acme-".len() + 6, "{slug}");
}

pub(crate) async fn two_bootstraps_at_once_make_one_org(db: Arc<Fresh>) {
    let (here, there) = (db.store().await, db.connect().await);
    let (one, two) = tokio::join!(
        boot(&here, "a@example.org", "Org", "one"),
        boot(&there, "a@example.org", "Org", "two"),
    );
    assert_eq!((one.org_id, one.user_id), (two.org_id, two.user_id));
    assert!(one.org_created != two.org_created);
}

pub(crate) async fn a_status_set_from_outside_is_noticed_and_a_homes_write_is_not(db: Arc<Fresh>) {
    let (store, cli) = (db.store().await, db.connect().await);
    let made = boot(&store, "a@example.org", "Acme", "one").await;
    let reason = Some("unpaid");
    let set = set_org_status(&cli, "acme", OrgStatus::Suspended, reason, at(5_000)).await.unwrap();
    assert_eq!(set, Some(made.org_id));
    let org = store.org(made.org_id).await.unwrap().unwrap();
    assert_eq!((org.status, org.status_reason.as_deref()), (OrgStatus::Suspended, reason));
    assert_eq!(store.orgs_changed_since(at(5_000)).await.unwrap(), [made.org_id]);
    assert_eq!(store.orgs_changed_since(at(5_001)).await.unwrap(), []);

    let writer = journal(&store);
    // The home has not heard of the suspension yet.
    let stale = OrgRecord {
        name: "Acme Ltd".to_owned(),
        status: OrgStatus::Trial,
        status_reason: None,
        ..org.clone()
    };
    Scribe::new(made.org_id, 0).write(&writer, 1, vec![Write::Org(stale)]).await;
    let renamed = OrgRecord { name: "Acme Ltd".to_owned(), ..org };
    assert_eq!(store.org(made.org_id).await.unwrap(), Some(renamed));
    assert_eq!(store.orgs_changed_since(at(5_000)).await.unwrap(), [made.org_id]);
    assert_eq!(store.orgs_changed_since(at(5_001)).await.unwrap(), []);

    let by_id = made.org_id.to_string();
    let set = set_org_status(&cli, &by_id, OrgStatus::Active, None, at(6_000)).await.unwrap();
    assert_eq!(set, Some(made.org_id));
    let org = store.org(made.org_id).await.unwrap().unwrap();
    assert_eq!((org.status, org.status_reason), (OrgStatus::Active, None));
    let nobody = OrgId::new().to_string();
    for unknown in ["nobody", &nobody] {
        let set = set_org_status(&cli, unknown, OrgStatus::Active, None, at(1)).await.unwrap();
        assert_eq!(set, None);
    }
}
