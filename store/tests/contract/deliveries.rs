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
    let all = DeliveryFilter::default();
    assert_eq!(list(all, 10).await, ids(&[4, 3, 2, 1, 0]));
    assert_eq!(list(all, 2).await, ids(&[4, 3]));
    assert_eq!(list(DeliveryFilter { before: Some(made[3].id), ..all }, 2).await, ids(&[2, 1]));
    let of_red = DeliveryFilter { channel_id: Some(red), ..all };
    assert_eq!(list(of_red, 10).await, ids(&[4, 2, 0]));
    let ended = DeliveryFilter { state: Some(DeliveryState::Delivered), ..all };
    assert_eq!(list(ended, 10).await, ids(&[2, 1]));
    assert_eq!(list(DeliveryFilter { channel_id: Some(blue), ..ended }, 10).await, ids(&[1]));
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
    let made = [
        delivery(channel, 2, Some(30)),
        delivery(channel, 1, Some(10)),
        delivery(channel, 1, Some(31)),
        delivery(channel, 1, None),
        delivery(other, 1, Some(1)),
    ];
    assert_eq!(store.next_due_at(org_id, channel).await.unwrap(), None);
    scribe.write(&writer, 2, writes(&made)).await;

    let due = store.due_deliveries(org_id, channel, at(30), 10).await.unwrap();
    let found: Vec<_> = due.iter().map(|one| (one.delivery.clone(), one.event.seq)).collect();
    assert_eq!(found, [(made[1].clone(), 1), (made[0].clone(), 2)]);
    assert_eq!(due[1].event, store.events_after(org_id, 1, 1).await.unwrap()[0]);
    assert_eq!(store.due_deliveries(org_id, channel, at(30), 1).await.unwrap().len(), 1);
    assert!(store.due_deliveries(org_id, channel, at(9), 10).await.unwrap().is_empty());
    assert_eq!(store.next_due_at(org_id, channel).await.unwrap(), Some(at(10)));
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
    assert!(store.due_deliveries(org_id, channel, at(99), 10).await.unwrap().is_empty());
    assert_eq!(store.next_due_at(org_id, channel).await.unwrap(), None);
    assert_eq!(store.channels_with_deliveries().await.unwrap(), []);
    assert_eq!(store.delivery(org_id, made.id).await.unwrap().unwrap().0, made);
}
