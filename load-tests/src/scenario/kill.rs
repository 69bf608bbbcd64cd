//! `kill`: `kill -9` of the hub at random moments under load (R1).
//!
//! At the end every acked change is in its journal, once and in order; no number is missing or repeated, in the
//! journals or at any dashboard; every event that the rule calls for was delivered; and no agent was announced
//! offline, since the hub is never away for long and its grace counts from its being ready.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use pulse_protocol::api::{Delivery, DeliveryState};
use pulse_protocol::ids::{ChannelId, OrgId};
use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::agent::Mode;
use crate::checker::{self, Delivered, Fault};
use crate::cli::KillArgs;
use crate::fleet::FleetOrg;
use crate::output::{Run, say};
use crate::receiver::{Received, Receiver};
use crate::rest::Api;
use crate::rig::{Rig, Shape};
use crate::scenario::{longest_absence, pace};
use crate::stage::World;
use crate::stats::Latencies;

/// The hub lives at least so long: dying in its own start is a kind of its own, and it must get somewhere.
const LIFE_MIN: Duration = Duration::from_millis(200);
/// Short waits: an agent must not stay away for longer than the grace by its own back-off, or it would rightly
/// be announced.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: &KillArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    let receiver = Receiver::start().await?;
    let api = Api::new(world.hub.address())?;
    let grace = longest_absence(&api, &world.fleet).await?.grace;
    let subscribing = world.fleet.orgs.iter().map(|org| subscribe(&api, org, &receiver));
    let channels = try_join_all(subscribing).await?;

    let shape = Shape {
        reports_per_frame: 1,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: args.viewers,
        sample_every: 1,
    };
    let rig = Rig::start(&world.hub, Arc::clone(&world.fleet), shape).await?;
    rig.all_online().await?;
    rig.set(Mode::Paced(pace(f64::from(args.rate), rig.agents(), 1)));
    sleep(LOAD).await;

    let mut returns = Latencies::new();
    for number in 1..=args.kills {
        sleep(life(args)).await;
        world.hub.kill().await?;
        let ready_after = world.hub.start().await?;
        returns.record(ready_after);
        say(&format!("kill {number} of {}: ready again after {ready_after:?}", args.kills));
    }
    // The last of the agents must not be late either, or an announcement of it would be true.
    let ends = [rig.online_within(grace).await, load_and_drain(&rig).await];
    // The verdict says why.
    let stuck = ends.into_iter().filter_map(Result::err);
    run.faults.extend(stuck.map(|error| Fault::Broken(format!("after the last kill: {error:#}"))));
    // A false announcement would come when the grace of the last start has passed.
    sleep(grace + Duration::from_secs(1)).await;

    let deliveries =
        settle(&api, &world.fleet.orgs, &channels, Duration::from_secs(args.settle_seconds))
            .await?;
    let received = receiver.take();
    let pushed = rig.audience.take_latency();
    let reconnects = rig.audience.reconnects.load(std::sync::atomic::Ordering::Relaxed);
    let resyncs = rig.audience.resyncs.load(std::sync::atomic::Ordering::Relaxed);
    let acked = rig.acked();
    let verdict = rig.finish(&mut world.hub).await?;
    run.faults.extend(verdict.faults);
    for org in &world.fleet.orgs {
        let journal = &verdict.journals[&org.id];
        let offline = journal.offline.iter();
        run.faults.extend(offline.map(|(seq, agent)| {
            Fault::Broken(format!(
                "agent {agent} was falsely announced offline in event {seq} of {}",
                org.id
            ))
        }));
        run.faults.extend(compare(org, &deliveries, &journal.devices_gone, &received));
    }
    run.faults.extend(received.faults);

    let repeats =
        received.by_path.values().flat_map(HashMap::values).filter(|count| **count > 1).count();
    run.figure("kills", "", f64::from(args.kills), "R1 must 50");
    run.figure("changes sent", "", verdict.sent as f64, "");
    run.figure("changes acked", "", acked as f64, "");
    run.figure("deliveries", "", deliveries.values().map(Vec::len).sum::<usize>() as f64, "");
    run.figure("deliveries received more than once", "", repeats as f64, "");
    run.figure("attempts of dashboards to reconnect", "", reconnects as f64, "");
    run.figure("dashboards told to start anew", "", resyncs as f64, "");
    run.figure("slowest start after a kill", "ms", returns.max_ms(), "");
    run.latencies.insert("start after a kill", returns);
    run.latencies.insert("to dashboard, kills included", pushed);
    Ok(run)
}

async fn load_and_drain(rig: &Rig) -> Result<()> {
    sleep(LOAD).await;
    rig.drain().await
}

fn life(args: &KillArgs) -> Duration {
    let most = Duration::from_millis(args.life_ms_max).max(LIFE_MIN);
    rand::rng().random_range(LIFE_MIN..=most)
}

fn path(org: &FleetOrg) -> String {
    format!("/{}", org.id)
}

/// Gives an org a signed webhook to the receiver, and a rule that calls for it.
async fn subscribe(api: &Api, org: &FleetOrg, receiver: &Receiver) -> Result<ChannelId> {
    let channel = api.create_webhook(org.tenant(), &receiver.url(&path(org))).await?;
    let secret = channel.secret.as_deref().context("a new webhook was given no secret")?;
    receiver.expect_signed(&path(org), secret)?;
    api.create_rule(org.tenant(), &["agent.offline", "device.offline"], &channel).await?;
    Ok(channel.channel.id)
}

type ByOrg = HashMap<OrgId, Vec<Delivery>>;

/// Waits until no delivery of this run's channels is on its way any more, or time runs out; returns them all.
async fn settle(
    api: &Api,
    orgs: &[FleetOrg],
    channels: &[ChannelId],
    patience: Duration,
) -> Result<ByOrg> {
    let deadline = Instant::now() + patience;
    loop {
        let mut all = ByOrg::new();
        for (org, channel) in orgs.iter().zip(channels) {
            let mut found = api.deliveries(org.tenant()).await?;
            // A database that is used again has the channels of earlier runs too.
            found.retain(|one| one.channel_id == *channel);
            all.insert(org.id, found);
        }
        let is_open =
            |one: &&Delivery| matches!(one.state, DeliveryState::Queued | DeliveryState::Retrying);
        let open = all.values().flatten().filter(is_open).count();
        if open == 0 || Instant::now() > deadline {
            return Ok(all);
        }
        say(&format!("{open} deliveries are still on their way"));
        sleep(Duration::from_secs(2)).await;
    }
}

fn compare(
    org: &FleetOrg,
    deliveries: &ByOrg,
    called: &BTreeSet<u64>,
    received: &Received,
) -> Vec<Fault> {
    let nothing = HashMap::new();
    let listed: Vec<Delivered> = deliveries[&org.id]
        .iter()
        .map(|one| Delivered { id: one.id.to_string(), seq: one.seq, state: one.state })
        .collect();
    let received = received.by_path.get(&path(org)).unwrap_or(&nothing);
    checker::deliveries(&org.id.to_string(), called, &listed, received)
}
