use std::collections::BTreeSet;
use std::sync::Arc;

use pulse_actors::ports::OrgStore;
use pulse_store::{ConnectError, Database, Options};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::kit::*;

async fn tables(db: &DatabaseConnection, is_postgres: bool) -> BTreeSet<String> {
    let text = if is_postgres {
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    };
    let select = Statement::from_string(db.get_database_backend(), text);
    let rows = db.query_all_raw(select).await.unwrap();
    rows.into_iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

pub(crate) async fn migrations_go_up_down_and_up(db: Arc<Fresh>) {
    let raw = {
        // The store creates the file.
        db.connect().await.close().await.unwrap();
        db.raw().await
    };
    pulse_migrations::up(&raw).await.unwrap();
    let up = tables(&raw, db.is_postgres()).await;
    assert!(up.contains("events") && up.contains("shards"), "{up:?}");
    pulse_migrations::down(&raw).await.unwrap();
    let down = tables(&raw, db.is_postgres()).await;
    assert_eq!(down, BTreeSet::from(["seaql_migrations".to_owned()]));
    pulse_migrations::up(&raw).await.unwrap();
    pulse_migrations::up(&raw).await.unwrap();
    assert_eq!(tables(&raw, db.is_postgres()).await, up);

    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    scribe.write(&writer, 1, vec![]).await;
    assert_eq!(store.event_range(scribe.home.org_id).await.unwrap(), (1, 1));
}

pub(crate) async fn two_may_migrate_at_once(db: Arc<Fresh>) {
    let mut migrating = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let db = Arc::clone(&db);
        migrating.spawn(async move { drop(db.store().await) });
    }
    migrating.join_all().await;
    org(&db.connect().await).await;
}

#[tokio::test]
async fn a_faulty_address_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let connect = async |url: String| {
        let refused = Database::connect(&url, Options::default()).await.unwrap_err();
        (refused.to_string(), refused)
    };
    let (text, error) = connect(format!("sqlite://{}/pulse.db", missing.display())).await;
    assert!(matches!(error, ConnectError::NoFolder(_)) && text.contains("missing"), "{text}");
    let (text, error) = connect(format!("sqlite://{}", folder.path().display())).await;
    assert!(matches!(error, ConnectError::File { .. }) && text.contains("may write"), "{text}");
    for url in ["mysql://a/b", "pulse.db", ""] {
        assert!(matches!(connect(url.to_owned()).await.1, ConnectError::Url(_)), "{url}");
    }
}
