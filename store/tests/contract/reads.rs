use std::sync::Arc;

use pulse_actors::ports::OrgStore;
use pulse_domain::record::Write;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{CommandState, ScanState};
use pulse_protocol::status::AgentState;

use crate::kit::*;
use crate::samples::{self, Draw};

pub(crate) async fn events_are_paged_by_number(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let submission = scribe.submission(10, vec![]);
    let written = submission.batch.events.clone();
    submit(&writer, submission).await;
    scribe.outcome().await;
    assert_eq!(store.events_after(org_id, 0, 4).await.unwrap(), written[..4]);
    assert_eq!(store.events_after(org_id, 4, 100).await.unwrap(), written[4..]);
    for after in [10, 11, u64::MAX] {
        assert_eq!(store.events_after(org_id, after, 100).await.unwrap(), []);
    }
}

/// The kit's events happen at 1, 2, 3, … seconds.
pub(crate) async fn events_are_read_by_time_and_name(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let submission = scribe.submission(10, vec![]);
    let written = submission.batch.events.clone();
    submit(&writer, submission).await;
    scribe.outcome().await;
    let names = [written[0].name.to_string()];
    let since = async |ms, limit| {
        store.events_since(org_id, Timestamp::from_unix_ms(ms), &names, limit).await.unwrap()
    };
    for (first, event) in written.iter().enumerate() {
        let ms = event.at.unix_ms();
        assert_eq!(since(ms, 100).await, written[first..]);
        assert_eq!(since(ms + 1, 100).await, written[first + 1..]);
    }
    assert_eq!(since(0, 3).await, written[7..], "the latest are kept");
    let other = ["agent.offline".to_owned()];
    let none = store.events_since(org_id, Timestamp::from_unix_ms(0), &other, 9).await.unwrap();
    assert_eq!(none, []);
    let nobody = pulse_protocol::ids::OrgId::new();
    let none = store.events_since(nobody, Timestamp::from_unix_ms(0), &names, 9).await.unwrap();
    assert_eq!(none, []);
}

pub(crate) async fn orgs_with_unfinished_business_are_woken(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut draw = Draw::new();
    let mut presence = draw.one(samples::presence());
    let mut scan = draw.one(samples::scan());
    let mut command = draw.one(samples::command());
    let mut alert = draw.one(samples::alert());
    let mut window = draw.one(samples::window());
    let mut asleep = [
        Write::Presence({
            presence.state = AgentState::Offline;
            presence
        }),
        Write::Scan({
            scan.state = ScanState::Failed;
            scan.clone()
        }),
        Write::Command({
            command.state = CommandState::Cancelled;
            command.clone()
        }),
        Write::Alert({
            alert.due_at = None;
            alert.clone()
        }),
        Write::Window({
            window.next_change_at = None;
            window.clone()
        }),
    ];
    let mut scribes = Vec::new();
    for write in &asleep {
        let mut scribe = Scribe::new(org(&store).await, 0);
        scribe.write(&writer, 1, vec![write.clone()]).await;
        scribes.push(scribe);
    }
    assert_eq!(store.orgs_to_wake().await.unwrap(), []);

    presence.state = AgentState::Online;
    scan.state = ScanState::Running;
    command.state = CommandState::Delivered;
    (alert.due_at, window.next_change_at) = (Some(at(1)), Some(at(1)));
    asleep = [
        Write::Presence(presence),
        Write::Scan(scan),
        Write::Command(command),
        Write::Alert(alert),
        Write::Window(window),
    ];
    let mut woken = Vec::new();
    for (scribe, write) in scribes.iter_mut().zip(asleep) {
        scribe.write(&writer, 1, vec![write]).await;
        woken.push(scribe.home.org_id);
        woken.sort();
        assert_eq!(store.orgs_to_wake().await.unwrap(), woken);
    }
}

pub(crate) async fn commands_are_paged_newest_first(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let mut commands = draw.some(5, samples::command());
    let agent_id = commands[0].agent_id;
    commands.iter_mut().for_each(|command| command.agent_id = agent_id);
    let foreign = draw.one(samples::command());
    let writes = commands.iter().chain([&foreign]).cloned().map(Write::Command).collect();
    scribe.write(&writer, 1, writes).await;

    commands.sort_by_key(|command| std::cmp::Reverse(command.id));
    let org_id = scribe.home.org_id;
    let page = store.commands(org_id, agent_id, None, 3).await.unwrap();
    assert!(page.iter().map(|one| one.id).eq(commands[..3].iter().map(|one| one.id)));
    let rest = store.commands(org_id, agent_id, Some(page[2].id), 3).await.unwrap();
    assert!(rest.iter().map(|one| one.id).eq(commands[3..].iter().map(|one| one.id)));
    assert_eq!(page[0].payload, commands[0].payload);
}

pub(crate) async fn a_database_answers_a_ping(db: Arc<Fresh>) {
    let store = db.connect().await;
    store.ping().await.unwrap();
}
