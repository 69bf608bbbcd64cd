use std::sync::Arc;

use pulse_actors::ports::{DeliveryFilter, OrgStore};
use pulse_domain::record::{DeliveryRecord, Write};
use pulse_protocol::api::{Attempt, AttemptOutcome, DeliveryState};
use pulse_protocol::ids::{ChannelId, DeliveryId};

use crate::kit::*;
use crate::samples::delivery;

fn writes(deliveries: &[DeliveryRecord]) -> Vec<Write> {
    deliveries.iter().cloned().map(Write::Delivery).collect()
}

pub(crate) async fn deliveries_are_listed_newest_first_by_filter(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let (red, blue) = (ChannelId::new(), ChannelId::new());
    let made = [
        delivery(red, 1, Some(10)),
        delivery(blue, 1, None),
        delivery(red, 1, None),
        delivery(blue, 1, Some(10)),
        delivery(red, 1, Some(20)),
    ];
    scribe.write(&writer, 1, writes(&made)).await;
    // Another org's never show.
    Scribe::new(org(&store).await, 0).write(&writer, 1, writes(&[delivery(red, 1, None)])).await;

    let list = async |filter, limit| -> Vec<DeliveryId> {
        let listed = store.deliveries(org_id, filter, limit).await.unwrap();
        listed.into_iter().map(|one| one.id).collect()
    };
    let ids =
        |places: &[usize]| -> Vec<DeliveryId> { places.iter().map(|p| made[*p].id).collect() };
    let all = DeliveryFilter::default;
    assert_eq!(list(all(), 10).await, ids(&[4, 3, 2, 1, 0]));
    assert_eq!(list(all(), 2).await, ids(&[4, 3]));
    assert_eq!(list(DeliveryFilter { before: Some(made[3].id), ..all() }, 2).await, ids(&[2, 1]));
    let of_red = DeliveryFilter { channel_id: Some(red), ..all() };
    assert_eq!(list(of_red, 10).await, ids(&[4, 2, 0]));
    let ended = || DeliveryFilter { state: Some(DeliveryState::Delivered), ..all() };
    assert_eq!(list(ended(), 10).await, ids(&[2, 1]));
    assert_eq!(list(DeliveryFilter { channel_id: Some(blue), ..ended() }, 10).await, ids(&[1]));
}

pub(crate) async fn attempts_are_in_order(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let made = [delivery(ChannelId::new(), 1, Some(10)), delivery(ChannelId::new(), 1, Some(10))];
    let attempt = |nth: u16| Attempt {
        at: at(7),
        duration_ms: u64::from(nth),
        outcome: AttemptOutcome::Retry,
        status: Some(500 + nth),
        answer: None,
        error: (nth == 2).then(|| "it said \"no\"".to_owned()),
    };
    let mut all = writes(&made);
    all.extend((0..5).map(|nth| Write::Attempt(made[0].id, attempt(nth))));
    scribe.write(&writer, 1, all).await;
    scribe.write(&writer, 0, vec![Write::Attempt(made[0].id, attempt(5))]).await;

    let (record, view) = store.delivery(org_id, made[0].id).await.unwrap().unwrap();
    assert_eq!(record, made[0]);
    assert_eq!(view.attempts, (0..6).map(attempt).collect::<Vec<_>>());
    assert_eq!((view.seq, view.event.as_str()), (1, "device.offline"));
    let listed = store.deliveries(org_id, DeliveryFilter::default(), 10).await.unwrap();
    assert_eq!((listed[0].attempts.len(), listed[1].attempts.len()), (0, 6));
    assert!(store.delivery(org_id, DeliveryId::new()).await.unwrap().is_none());
}

pub(crate) async fn due_deliveries_come_with_their_event(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let (channel, other) = (ChannelId::new(), ChannelId::new());
    let alone =
        |channel, seq, at| DeliveryRecord { resource: String::new(), ..delivery(channel, seq, at) };
    let made = [
        alone(channel, 2, Some(30)),
        alone(channel, 1, Some(10)),
        alone(channel, 1, Some(31)),
        alone(channel, 1, None),
        alone(other, 1, Some(1)),
    ];
    let read =
        async |now, limit| store.due_deliveries(org_id, channel, at(now), limit).await.unwrap();
    let nothing = read(99, 10).await;
    assert_eq!((nothing.deliveries.len(), nothing.next_at), (0, None));
    scribe.write(&writer, 2, writes(&made)).await;

    let page = read(30, 10).await;
    let due = page.deliveries;
    let found: Vec<_> = due.iter().map(|one| (one.delivery.clone(), one.event.seq)).collect();
    assert_eq!(found, [(made[1].clone(), 1), (made[0].clone(), 2)]);
    assert_eq!(due[1].event, store.events_after(org_id, 1, 1).await.unwrap()[0]);
    assert_eq!(page.next_at, Some(at(31)));
    let one = read(30, 1).await;
    assert_eq!((one.deliveries.len(), one.next_at), (1, Some(at(30))));
    let none = read(9, 10).await;
    assert_eq!((none.deliveries.len(), none.next_at), (0, Some(at(10))));
    assert_eq!(store.oldest_unfinished().await.unwrap(), Some(made[0].created_at));
    let mut channels = store.channels_with_deliveries().await.unwrap();
    channels.sort();
    assert_eq!(channels, [(org_id, channel.min(other)), (org_id, channel.max(other))]);
}

pub(crate) async fn an_ended_delivery_is_due_no_more(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let channel = ChannelId::new();
    let mut made = delivery(channel, 1, Some(10));
    scribe.write(&writer, 1, writes(std::slice::from_ref(&made))).await;
    assert_eq!(store.channels_with_deliveries().await.unwrap(), [(org_id, channel)]);

    (made.state, made.next_attempt_at, made.tries) = (DeliveryState::Dead, None, 8);
    scribe.write(&writer, 0, writes(std::slice::from_ref(&made))).await;
    let page = store.due_deliveries(org_id, channel, at(99), 10).await.unwrap();
    assert_eq!((page.deliveries.len(), page.next_at), (0, None));
    assert_eq!(store.oldest_unfinished().await.unwrap(), None);
    assert_eq!(store.channels_with_deliveries().await.unwrap(), []);
    assert_eq!(store.delivery(org_id, made.id).await.unwrap().unwrap().0, made);
}

/// What is about one resource is sent in order, so whoever sends one must know of the others.
pub(crate) async fn what_is_due_comes_with_what_waits_of_its_resource(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let channel = ChannelId::new();
    let about = |seq, resource: &str, at| DeliveryRecord {
        resource: resource.to_owned(),
        ..delivery(channel, seq, at)
    };
    let made = [
        about(1, "a", Some(90)),
        about(2, "a", Some(10)),
        about(3, "a", None),
        about(3, "b", Some(95)),
        about(3, "", Some(80)),
        about(2, "", Some(10)),
    ];
    scribe.write(&writer, 3, writes(&made)).await;
    let page = store.due_deliveries(org_id, channel, at(30), 10).await.unwrap();
    let mut found: Vec<_> = page.deliveries.into_iter().map(|due| due.delivery.id).collect();
    found.sort_unstable();
    let mut expected = [made[0].id, made[1].id, made[5].id];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(page.next_at, Some(at(80)));

    // A long queue about one resource: the oldest come first, and nothing without those before it.
    let long: Vec<_> = (0..20).map(|_| about(2, "c", Some(200))).collect();
    let last = about(3, "c", Some(5));
    let all: Vec<_> = long.iter().cloned().chain([last.clone()]).collect();
    scribe.write(&writer, 0, writes(&all)).await;
    let page = store.due_deliveries(org_id, channel, at(5), 2).await.unwrap();
    let found: Vec<_> = page.deliveries.into_iter().map(|due| due.delivery).collect();
    assert_eq!(found, long[..8]);
    assert_eq!(page.next_at, Some(at(5)), "the last is left for later");
}

pub(crate) async fn deliveries_are_found_by_everything_they_are_listed_with(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let org_id = scribe.home.org_id;
    let channel = ChannelId::new();
    let mut made =
        [delivery(channel, 1, None), delivery(channel, 1, Some(10)), delivery(channel, 1, None)];
    made[0].content.resource_name = "Core_Switch 50%".to_owned();
    made[1].content.recipient = Some("Ops@example.com".to_owned());
    made[1].event_name = "agent.offline".to_owned();
    made[2].created_at = made[0].created_at + std::time::Duration::from_secs(60);
    made[2].resource = "r".to_owned();
    scribe.write(&writer, 1, writes(&made)).await;
    let list = async |filter| -> Vec<usize> {
        let listed = store.deliveries(org_id, filter, 10).await.unwrap();
        let place = |id| made.iter().position(|one| one.id == id).unwrap();
        listed.into_iter().map(|one| place(one.id)).collect()
    };
    let text =
        |text: &str| DeliveryFilter { text: Some(text.to_owned()), ..DeliveryFilter::default() };
    assert_eq!(list(text("core_switch")).await, [0]);
    assert_eq!(list(text("50%")).await, [0]);
    assert_eq!(list(text("core-switch")).await, [0_usize; 0]);
    assert_eq!(list(text("OPS@")).await, [1]);
    let all = DeliveryFilter::default;
    let (event, resource) = (Some("agent.offline".to_owned()), Some("r".to_owned()));
    assert_eq!(list(DeliveryFilter { event, ..all() }).await, [1]);
    assert_eq!(list(DeliveryFilter { resource, ..all() }).await, [2]);
    assert_eq!(list(DeliveryFilter { rule_id: Some(made[2].rule_id), ..all() }).await, [2]);
    let later = Some(made[2].created_at);
    assert_eq!(list(DeliveryFilter { from: later, ..all() }).await, [2]);
    assert_eq!(list(DeliveryFilter { to: later, ..all() }).await, [1, 0]);

    let mut counts = store.delivery_counts(org_id, channel, made[0].created_at).await.unwrap();
    counts.sort_unstable_by_key(|(state, _)| state.as_str());
    assert_eq!(counts, [(made[0].state, 2), (made[1].state, 1)]);
    let counts = store.delivery_counts(org_id, channel, made[2].created_at).await.unwrap();
    assert_eq!(counts, [(made[2].state, 1)]);
}
