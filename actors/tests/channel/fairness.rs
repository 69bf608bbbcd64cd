//! What one receiver does is nobody else's trouble.

use std::time::Duration;

use pulse_actors::ports::Clock;
use pulse_actors::testing::{Fleet, RecordingAgent, World, settle};
use pulse_protocol::api::DeliveryState;
use pulse_protocol::ids::ChannelId;

use crate::stage::{Stage, TOLD};

/// Orgs of their own, each with an agent and a channel.
struct Tenants {
    world: World,
    all: Vec<(Fleet, ChannelId)>,
}

impl Tenants {
    async fn new(count: usize) -> Self {
        let world = World::new().unwrap();
        let mut all = vec![];
        for _ in 0..count {
            let fleet = world.fleet().await.unwrap();
            let channel_id = world.channel(fleet.org_id, TOLD).await.unwrap();
            all.push((fleet, channel_id));
        }
        Self { world, all }
    }

    /// Each tenant has five devices to tell of; says how long each of the others took until the last was accepted.
    async fn run(&self, but: usize) -> Vec<Duration> {
        for (fleet, channel_id) in &self.all {
            self.world.sender.takes(*channel_id, Duration::from_millis(40));
            let home = self.world.directory.org(fleet.org_id).await.unwrap();
            let connection = fleet.attach(&home, &RecordingAgent::default(), 1);
            home.do_send(fleet.segments(connection));
            for seq in 2..=6 {
                let address = format!("10.0.0.{seq}");
                let online = pulse_protocol::status::DeviceStatus::Online;
                home.do_send(fleet.report(connection, seq, &address, online));
            }
        }
        let begun = self.world.clock.now();
        let mut took = vec![None; self.all.len()];
        for _ in 0..200 {
            settle().await;
            for (place, (fleet, _)) in self.all.iter().enumerate() {
                let records = self.world.store.delivery_records(fleet.org_id);
                let is_done = |(record, _): &(pulse_domain::record::DeliveryRecord, usize)| {
                    record.state == DeliveryState::Delivered
                };
                if took[place].is_none() && records.len() == 5 && records.iter().all(is_done) {
                    took[place] = Some(self.world.clock.now().duration_since(begun));
                }
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let others = took.into_iter().enumerate().filter(|(place, _)| *place != but);
        others.map(|(_, took)| took.unwrap()).collect()
    }
}

#[actix::test]
async fn one_tenant_of_a_hundred_that_hangs_delays_nobody() {
    const COUNT: usize = 100;
    tokio::time::pause();
    let quiet = Tenants::new(COUNT).await.run(0).await;
    let tenants = Tenants::new(COUNT).await;
    tenants.world.sender.hang(tenants.all[0].1);
    let beside = tenants.run(0).await;
    let worst = |all: &[Duration]| all.iter().max().copied().unwrap();
    assert!(
        worst(&beside) <= worst(&quiet) + Duration::from_millis(10),
        "{:?} beside a receiver that hangs, {:?} without",
        worst(&beside),
        worst(&quiet),
    );
    assert!(tenants.world.sender.most_at_once(tenants.all[0].1) <= 4);
}

/// A sender that does not bound itself.
#[actix::test]
async fn an_attempt_that_never_ends_is_given_up() {
    let stage = Stage::new().await;
    stage.world.sender.hang(stage.channel_id);
    stage.find_device(2);
    settle().await;
    stage.pass(Duration::from_secs(59)).await;
    assert_eq!(stage.states(), [DeliveryState::Queued]);
    stage.pass(Duration::from_secs(2)).await;
    assert_eq!(stage.states(), [DeliveryState::Retrying]);
    assert_eq!(stage.world.metrics.in_flight.get(), 0);
}
