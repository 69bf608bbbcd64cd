use std::sync::Arc;

use pulse_actors::ports::OrgStore;
use pulse_domain::record::Write;
use pulse_protocol::ids::{ChannelId, OrgId};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use tokio::time::{Instant, sleep};

use crate::kit::*;
use crate::samples::{self, Draw};

/// A write that no table takes: a second agent with the key of the first.
fn refused(draw: &mut Draw) -> Vec<Write> {
    let (first, mut second) = (draw.one(samples::agent()), draw.one(samples::agent()));
    second.key_hash = first.key_hash;
    vec![Write::Agent(first), Write::Agent(second)]
}

pub async fn a_refused_row_leaves_nothing_of_its_batch(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribe = Scribe::new(org(&store).await, 0);
    let channel_id = ChannelId::new();
    let mut writes = vec![Write::Delivery(samples::delivery(channel_id, 1, Some(1)))];
    writes.extend(refused(&mut Draw::new()));
    submit(&writer, scribe.submission(1, writes)).await;
    assert_eq!(scribe.outcome().await, Told::Refused);
    let org_id = scribe.home.org_id;
    assert_eq!(store.event_range(org_id).await.unwrap(), (0, 0));
    assert!(store.channels_with_deliveries().await.unwrap().is_empty());
    let image = store.load(org_id).await.unwrap().unwrap();
    assert_eq!((image.seq, image.agents.len()), (0, 0));
    // The next life begins where the tables are.
    Scribe::new(org_id, image.seq).write(&writer, 1, vec![]).await;
}

pub async fn a_conflict_fails_its_home_alone(db: Arc<Fresh>) {
    let store = db.store().await;
    let writer = journal(&store);
    let mut scribes = Vec::new();
    for place in 0..12 {
        // Every third believes the journal to be further than it is.
        let believed = if place % 3 == 1 { 5 } else { 0 };
        scribes.push(Scribe::new(org(&store).await, believed));
    }
    for scribe in scribes.iter_mut().cycle_times(3) {
        submit(&writer, scribe.submission(2, vec![])).await;
    }
    for (place, scribe) in scribes.iter_mut().enumerate() {
        let (told, last) = match place % 3 {
            1 => (Told::Conflict, 0),
            _ => (Told::Committed(3), 6),
        };
        assert_eq!(scribe.outcome().await, told);
        assert_eq!(store.load(scribe.home.org_id).await.unwrap().unwrap().seq, last);
    }
}

trait CycleTimes<'a> {
    fn cycle_times(self, times: usize) -> Vec<&'a mut Scribe>;
}
