//! `kill`: `kill -9` of the hub at random moments under load (R1).
//!
//! At the end every acked change is in its journal, once and in order; no number is missing or repeated, in the
//! journals or at any dashboard; every event that the rule calls for was delivered; and no agent was announced
//! offline, since the hub is never away for long and its grace counts from its being ready.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use crate::checker::Fault;
use crate::cli::KillArgs;
use crate::crew::Mode;
use crate::hooks::{Hooks, false_alarms};
use crate::output::{Run, say};
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
    let api = Api::new(world.hub.address())?;
    let grace = longest_absence(&api, &world.fleet).await?.grace;
    let hooks = Hooks::subscribe(&api, &world.fleet).await?;

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

    let patience = Duration::from_secs(args.settle_seconds);
    let deliveries = hooks.settle(&api, &world.fleet, patience).await?;
    let pushed = rig.audience.take_latency();
    let reconnects = rig.audience.reconnects.load(std::sync::atomic::Ordering::Relaxed);
    let resyncs = rig.audience.resyncs.load(std::sync::atomic::Ordering::Relaxed);
    let acked = rig.changes_acked();
    let verdict = rig.finish(&mut world.hub).await?;
    run.figure("kills", "", f64::from(args.kills), "R1 must 50");
    run.figure("changes sent", "", verdict.sent() as f64, "");
    run.figure("changes acked", "", acked as f64, "");
    run.faults.extend(verdict.faults);
    let alarms = verdict.journals.iter().flat_map(|(org, journal)| false_alarms(*org, journal));
    run.faults.extend(alarms);
    hooks.judge(&deliveries, &verdict.journals, &mut run);
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
