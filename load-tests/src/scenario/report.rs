//! `report`: durable changes a second, and how soon they are acked (T4) and pushed (T5).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::checker::Fault;
use crate::cli::ReportArgs;
use crate::crew::Mode;
use crate::machine::Meter;
use crate::output::Run;
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::scenario::pace;
use crate::stage::World;

/// Left out of each window: caches fill, windows open.
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: &ReportArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    let reports_per_frame = usize::from(args.reports_per_frame);
    let window = Duration::from_secs(args.common.seconds.unwrap_or(10));
    let shape = Shape {
        reports_per_frame,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: args.viewers,
        sample_every: 1,
    };
    let rig = Rig::start(&world.hub, Arc::clone(&world.fleet), shape).await?;
    rig.all_online().await?;
    run.note(format!(
        "{} agents in {} orgs, {} devices each, {reports_per_frame} change(s) a frame, {} viewers",
        rig.agents(),
        world.fleet.orgs.len(),
        args.devices,
        args.viewers
    ));

    let most = closed_loop(&rig, world, window, &mut run).await?;
    let half = pace(most / 2.0, rig.agents(), reports_per_frame);
    open_loop(&rig, world, "half the maximum", half, window, &mut run).await?;
    let (to_ack, lag) = rig.crew.tally.take_latencies();
    run.figure("half the maximum: p50 to ack", "ms", to_ack.percentile_ms(50.0), "");
    run.figure(
        "half the maximum: p99 to ack",
        "ms",
        to_ack.percentile_ms(99.0),
        "T4 must 50 aim 15",
    );
    run.figure("half the maximum: p99 lag of generator", "ms", lag.percentile_ms(99.0), "");
    run.latencies.insert("to ack, at half the maximum", to_ack);

    if args.viewers > 0 {
        let every = pace(f64::from(args.rate), rig.agents(), reports_per_frame);
        open_loop(&rig, world, "pushed", every, window, &mut run).await?;
        let pushed = rig.audience.take_latency();
        run.figure("pushed: p50 send to receive", "ms", pushed.percentile_ms(50.0), "");
        run.figure(
            "pushed: p99 send to receive",
            "ms",
            pushed.percentile_ms(99.0),
            "T5 must 40 aim 10",
        );
        run.figure("pushed: slowest", "ms", pushed.max_ms(), "");
        if pushed.is_empty() {
            run.faults.push(Fault::Broken("no pushed event could be timed".to_owned()));
        }
        run.latencies.insert("to dashboard", pushed);
        let resyncs = rig.audience.resyncs.load(Ordering::Relaxed);
        run.figure("viewers cut off, closed loop included", "", resyncs as f64, "");
    }

    let verdict = rig.finish(&mut world.hub).await?;
    run.figure("changes sent in all", "", verdict.sent() as f64, "");
    run.faults.extend(verdict.faults);
    Ok(run)
}

/// Keeps every window full and returns the changes acked a second.
async fn closed_loop(rig: &Rig, world: &World, window: Duration, run: &mut Run) -> Result<f64> {
    rig.set(Mode::Closed);
    sleep(WARM_UP).await;
    let meter = Meter::start(world.hub.pid())?;
    let (began, before) = (Instant::now(), rig.changes_acked());
    sleep(window).await;
    let most = (rig.changes_acked() - before) as f64 / began.elapsed().as_secs_f64();
    let usage = meter.stop("closed loop")?;
    if let Some(cpu) = usage.hub_cpu_pct {
        run.figure("CPU of the hub a change", "us", cpu * 10_000.0 / most.max(1.0), "");
    }
    run.usages.push(usage);
    rig.drain().await?;
    run.figure("durable changes", "1/s", most, "T4 must 10,000 aim 30,000");
    Ok(most)
}

/// Sends at an even pace; what was timed before the window is forgotten.
async fn open_loop(
    rig: &Rig,
    world: &World,
    name: &str,
    every: Duration,
    window: Duration,
    run: &mut Run,
) -> Result<()> {
    rig.set(Mode::Paced(every));
    sleep(WARM_UP).await;
    rig.crew.tally.take_latencies();
    rig.audience.take_latency();
    let meter = Meter::start(world.hub.pid())?;
    let (began, before) = (Instant::now(), rig.changes_acked());
    sleep(window).await;
    let rate = (rig.changes_acked() - before) as f64 / began.elapsed().as_secs_f64();
    run.usages.push(meter.stop(name)?);
    run.figure(&format!("{name}: changes acked"), "1/s", rate, "");
    rig.drain().await
}
