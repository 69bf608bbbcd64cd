use std::sync::{Arc, Mutex};

use pulse_actors::ports::{Journal, OrgStore};
use pulse_domain::record::Write;
use pulse_protocol::ids::AgentId;
use pulse_store::{JournalOptions, JournalWriter, Outcome};
use tokio::time::timeout;

use crate::kit::*;
use crate::samples::{self, Draw};

pub(crate) async fn numbers_have_no_gap_under_concurrent_homes(db: Arc<Fresh>) {
    const BATCHES: u64 = 60;
    let store = db.store().await;
    let writer = journal(&store);
    let mut homes = tokio::task::JoinSet::new();
    for events in [0, 1, 1, 2, 3, 5, 40] {
        let (org_id, writer) = (org(&store).await, writer.clone());
        homes.spawn(async move {
            let mut scribe = Scribe::new(org_id, 0);
            for _ in 0..BATCHES {
                submit(&writer, scribe.submission(events, vec![])).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(scribe.outcome().await, Told::Committed(BATCHES));
            (org_id, events * BATCHES)
        });
    }
    while let Some(ended) = homes.join_next().await {
        let (org_id, last) = ended.unwrap();
        let events = store.events_after(org_id, 0, 10_000).await.unwrap();
        assert!(events.iter().map(|event| event.seq).eq(1..=last));
        assert_eq!(store.load(org_id).await.unwrap().unwrap().seq, last);
        assert_eq!(store.event_range(org_id).await.unwrap(), (last.min(1), last));
    }
}

pub(crate) async fn a_home_hears_of_its_submissions_in_order(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    for _ in 0..200 {
        submit(&writer, scribe.submission(1, vec![])).await;
    }
    scribe.outcome().await;
    let tickets: Vec<u64> = scribe
        .told()
        .into_iter()
        .map(|told| match told {
            Told::Committed(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(tickets.is_sorted_by(|a, b| a < b));
}

pub(crate) async fn what_is_confirmed_is_seen_by_others(db: Arc<Fresh>) {
    let (store, other) = (db.store().await, db.connect().await);
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    for seq in 1..=30 {
        scribe.write(&writer, 1, vec![]).await;
        let seen = other.event_range(scribe.home.org_id).await.unwrap();
        assert_eq!(seen, (1, seq));
    }
}

pub(crate) async fn of_several_writes_of_a_row_the_last_counts(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let first = draw.one(samples::device_state());
    let mut states = draw.some(9, samples::device_state());
    states.iter_mut().for_each(|state| state.device_id = first.device_id);
    // Within one batch, and over batches that share a commit.
    for pair in states.chunks(2) {
        let writes = pair.iter().cloned().map(Write::DeviceState).collect();
        submit(&writer, scribe.submission(0, writes)).await;
    }
    assert_eq!(scribe.outcome().await, Told::Committed(scribe.ticket));
    let image = store.load(scribe.home.org_id).await.unwrap().unwrap();
    assert_eq!(image.device_states, [states.pop().unwrap()]);
}

pub(crate) async fn a_row_deleted_and_written_again_is_there(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let (kept, gone) = (draw.one(samples::rule()), draw.one(samples::rule()));
    let writes = vec![
        Write::Rule(kept.clone()),
        Write::Rule(gone.clone()),
        Write::RuleRemoved(kept.id),
        Write::RuleRemoved(gone.id),
        Write::Rule(kept.clone()),
    ];
    scribe.write(&writer, 1, writes).await;
    assert_eq!(store.load(scribe.home.org_id).await.unwrap().unwrap().rules, [kept]);
}

pub(crate) async fn removing_an_agent_takes_what_hangs_on_it(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let fleet = |draw: &mut Draw, agent_id: Option<AgentId>| {
        let mut agent = draw.one(samples::agent());
        agent.id = agent_id.unwrap_or(agent.id);
        let (mut presence, mut position) =
            (draw.one(samples::presence()), draw.one(samples::position()));
        (presence.agent_id, position.agent_id) = (agent.id, agent.id);
        let (mut segment, mut device) = (draw.one(samples::segment()), draw.one(samples::device()));
        (segment.agent_id, device.agent_id) = (agent.id, agent.id);
        let mut state = draw.one(samples::device_state());
        state.device_id = device.id;
        (agent, presence, position, segment, device, state)
    };
    let writes = |fleet: &(_, _, _, _, _, _)| {
        let (agent, presence, position, segment, device, state) = fleet.clone();
        vec![
            Write::Agent(agent),
            Write::Presence(presence),
            Write::Position(position),
            Write::Segment(segment),
            Write::Device(device),
            Write::DeviceState(state),
        ]
    };
    let (gone, kept) = (fleet(&mut draw, None), fleet(&mut draw, None));
    scribe.write(&writer, 1, [writes(&gone), writes(&kept)].concat()).await;
    // Another org has an agent of the same id: no delete may reach it.
    let mut other = Scribe::new(org(&store).await, 0);
    let theirs = fleet(&mut draw, Some(gone.0.id));
    other.write(&writer, 1, writes(&theirs)).await;

    scribe.write(&writer, 1, vec![Write::AgentRemoved(gone.0.id)]).await;

    for (scribe, left) in [(&scribe, kept), (&other, theirs)] {
        let image = store.load(scribe.home.org_id).await.unwrap().unwrap();
        assert_eq!(image.agents, [left.0]);
        assert_eq!(image.presences, [left.1]);
        assert_eq!(image.positions, [left.2]);
        assert_eq!(image.segments, [left.3]);
        assert_eq!(image.devices, [left.4]);
        assert_eq!(image.device_states, [left.5]);
    }
}

pub(crate) async fn removing_a_device_a_channel_and_a_rule(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut draw = Draw::new();
    let (device, mut state) = (draw.one(samples::device()), draw.one(samples::device_state()));
    state.device_id = device.id;
    let (channel, rule) = (draw.one(samples::channel()), draw.one(samples::rule()));
    let delivery = samples::delivery(channel.id, 1, Some(1));
    let writes = vec![
        Write::Device(device.clone()),
        Write::DeviceState(state),
        Write::Channel(channel.clone()),
        Write::Rule(rule.clone()),
        Write::Delivery(delivery.clone()),
    ];
    scribe.write(&writer, 1, writes).await;
    let removals = vec![
        Write::DeviceRemoved(device.id),
        Write::ChannelRemoved(channel.id),
        Write::RuleRemoved(rule.id),
    ];
    scribe.write(&writer, 1, removals).await;
    let org_id = scribe.home.org_id;
    let image = store.load(org_id).await.unwrap().unwrap();
    assert!(image.devices.is_empty() && image.device_states.is_empty());
    assert!(image.channels.is_empty() && image.rules.is_empty());
    assert_eq!(store.channel(org_id, channel.id).await.unwrap(), None);
    assert_eq!(store.delivery(org_id, delivery.id).await.unwrap().unwrap().0, delivery);
}

pub(crate) async fn a_restarted_journal_goes_on_at_the_head(db: Arc<Fresh>) {
    let store = db.store().await;
    let org_id = org(&store).await;
    let writer = journal(&store);
    Scribe::new(org_id, 0).write(&writer, 7, vec![]).await;
    writer.close().await;
    store.close().await.unwrap();

    let store = db.store().await;
    let seq = store.load(org_id).await.unwrap().unwrap().seq;
    assert_eq!(seq, 7);
    let writer = journal(&store);
    Scribe::new(org_id, seq).write(&writer, 2, vec![]).await;
    assert_eq!(store.event_range(org_id).await.unwrap(), (1, 9));
}

pub(crate) async fn closing_commits_what_waits_and_refuses_the_rest(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    for _ in 0..100 {
        submit(&writer, scribe.submission(1, vec![])).await;
    }
    writer.close().await;
    assert_eq!(scribe.told().last(), Some(&Told::Committed(100)));
    assert_eq!(store.event_range(scribe.home.org_id).await.unwrap(), (1, 100));

    submit(&writer, scribe.submission(1, vec![])).await;
    assert_eq!(scribe.outcome().await, Told::Unavailable);
    let late = scribe.submission(1, vec![]);
    timeout(DEADLINE, writer.submit(late)).await.expect("a closed journal keeps nobody waiting");
}

pub(crate) async fn a_full_queue_hands_back_and_takes_those_who_wait(db: Arc<Fresh>) {
    let store = db.store().await;
    let options = JournalOptions { queue_len_max: 2, ..JournalOptions::default() };
    let writer = JournalWriter::start(&store, options);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let mut handed_back = 0;
    for _ in 0..300 {
        let submission = scribe.submission(1, vec![]);
        if let Err(back) = writer.try_submit(submission) {
            assert!(writer.queue_len() <= 2);
            assert_eq!(back.ticket, scribe.ticket);
            handed_back += 1;
            timeout(DEADLINE, writer.submit(*back)).await.expect("room in time");
        }
    }
    assert!(handed_back > 0, "a queue of two was never full");
    assert_eq!(scribe.outcome().await, Told::Committed(300));
}

pub(crate) async fn a_commit_is_counted(db: Arc<Fresh>) {
    let store = db.store().await;
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let options = JournalOptions {
        on_commit: Arc::new(move |stats| seen.lock().unwrap().push(*stats)),
        ..JournalOptions::default()
    };
    let writer = JournalWriter::start(&store, options);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let states = Draw::new().some(3, samples::device_state());
    scribe.write(&writer, 2, states.into_iter().map(Write::DeviceState).collect()).await;
    Scribe::new(scribe.home.org_id, 0).outcome_of_conflict(&writer).await;
    writer.close().await;
    let commits = commits.lock().unwrap();
    let (first, second) = (&commits[0], &commits[1]);
    assert_eq!((first.outcome, second.outcome), (Outcome::Committed, Outcome::Refused));
    assert_eq!((first.homes, first.submissions, first.events, first.rows), (1, 1, 2, 5));
}

impl Scribe {
    async fn outcome_of_conflict(&mut self, writer: &JournalWriter) {
        submit(writer, self.submission(1, vec![])).await;
        assert_eq!(self.outcome().await, Told::Conflict);
    }
}
