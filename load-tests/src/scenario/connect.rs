//! `connect`: what a connected agent costs (T1, T2), and how fast agents get in (T3).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::checker::Fault;
use crate::cli::ConnectArgs;
use crate::machine::{Look, Meter};
use crate::output::Run;
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::stage::World;

/// The hub's own start, and the first wave of `agent.online` events, are over by then.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &ConnectArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    let shape = Shape {
        reports_per_frame: 1,
        in_flight: args.in_flight,
        backoff_max: BACKOFF_MAX,
        viewers: 0,
        sample_every: 1,
    };
    sleep(SETTLE).await;
    let empty = world.hub.pid().map(Look::at).transpose()?;

    let rig = Rig::start(&world.hub, Arc::clone(&world.fleet), shape).await?;
    let meter = Meter::start(world.hub.pid())?;
    let began = Instant::now();
    rig.all_online().await?;
    let connecting = began.elapsed();
    run.usages.push(meter.stop("connecting")?);
    let agents = rig.agents() as f64;
    run.figure("connects", "1/s", agents / connecting.as_secs_f64(), "T3 must 1,500 aim 4,000");

    sleep(SETTLE).await;
    let lost_before = rig.crew.tally.lost_connections.load(Ordering::Relaxed);
    let meter = Meter::start(world.hub.pid())?;
    sleep(Duration::from_secs(args.common.seconds.unwrap_or(30))).await;
    let idle = meter.stop("idle with heartbeats")?;
    let lost = rig.crew.tally.lost_connections.load(Ordering::Relaxed) - lost_before;

    let full = world.hub.pid().map(Look::at).transpose()?;
    if let Some((empty, full)) = empty.zip(full) {
        match empty.pss_kib.zip(full.pss_kib) {
            Some((before, after)) => {
                let growth = (after - before) / agents;
                run.figure("memory an agent (growth of PSS)", "KiB", growth, "T1 must 16 aim 8");
                run.figure("PSS with no agent", "MiB", before / 1_024.0, "");
                run.figure("PSS with all agents", "MiB", after / 1_024.0, "");
            }
            None => run.note("PSS is not shown by this kernel: T1 was not measured"),
        }
        run.figure("RSS growth an agent", "KiB", (full.rss_kib - empty.rss_kib) / agents, "");
    }
    if let Some(cpu) = idle.hub_cpu_pct {
        run.figure("CPU of the hub, agents idle", "% core", cpu, "T2 must 15 aim 6");
    }
    run.usages.push(idle);

    let verdict = rig.finish(&mut world.hub).await?;
    run.faults.extend(verdict.faults);
    if lost > 0 {
        run.faults.push(Fault::Broken(format!("{lost} connections were lost while idle")));
    }
    let offline: usize = verdict.journals.values().map(|journal| journal.offline.len()).sum();
    if offline > 0 {
        run.faults.push(Fault::Broken(format!("{offline} agents were announced offline")));
    }
    Ok(run)
}
