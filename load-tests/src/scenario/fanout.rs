//! `fanout`: how many events a second reach dashboards in time (T6).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::checker::Fault;
use crate::cli::FanoutArgs;
use crate::crew::Mode;
use crate::machine::{Meter, Usage};
use crate::output::{Run, say};
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::scenario::pace;
use crate::stage::World;
use crate::stats::Latencies;

/// Left out of each step.
const WARM_UP: Duration = Duration::from_secs(1);
/// A step beyond this is too slow.
const P99_MS_MAX: f64 = 100.0;
/// A step that delivers less than this share of what was asked for has reached its limit.
const KEPT_UP: f64 = 0.95;
/// Steps enough for any hub: 1.25 to the 30th is 800 times the first.
const STEPS_MAX: u32 = 30;

struct Step {
    asked: f64,
    delivered: f64,
    latencies: Latencies,
    usage: Usage,
    resyncs: u64,
}

impl Step {
    fn holds(&self) -> bool {
        self.latencies.percentile_ms(99.0) < P99_MS_MAX
            && self.delivered >= KEPT_UP * self.asked
            && self.resyncs == 0
    }
}

pub(crate) async fn run(args: &FanoutArgs, world: &mut World) -> Result<Run> {
    ensure!(args.step > 1.0, "--step must be more than 1");
    let reports_per_frame = usize::from(args.reports_per_frame);
    let shape = Shape {
        reports_per_frame,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: args.viewers,
        sample_every: args.sample_every,
    };
    let rig = Rig::start(&world.hub, Arc::clone(&world.fleet), shape).await?;
    rig.all_online().await?;
    let viewers_an_org = args.viewers as f64 / world.fleet.orgs.len() as f64;
    let window = Duration::from_secs(args.common.seconds.unwrap_or(4));

    let mut run = Run::default();
    let mut best: Option<Step> = None;
    let mut asked = f64::from(args.from);
    for _ in 0..STEPS_MAX {
        let every = pace(asked / viewers_an_org, rig.agents(), reports_per_frame);
        let step = one_step(&rig, world, asked, every, window).await?;
        let line = format!(
            "asked {asked:.0}/s: {:.0}/s delivered, p99 {:.1} ms, {} cut off",
            step.delivered,
            step.latencies.percentile_ms(99.0),
            step.resyncs
        );
        say(&line);
        run.note(line);
        if !step.holds() {
            break;
        }
        best = Some(step);
        asked *= args.step;
    }
    rig.drain().await?;

    match best {
        Some(best) => {
            run.figure(
                "deliveries with p99 under 100 ms",
                "1/s",
                best.delivered,
                "T6 must 200,000 aim 500,000",
            );
            run.figure("p50 at that rate", "ms", best.latencies.percentile_ms(50.0), "");
            run.figure("p99 at that rate", "ms", best.latencies.percentile_ms(99.0), "");
            run.latencies.insert("to dashboard, at the highest rate in time", best.latencies);
            run.usages.push(best.usage);
        }
        None => {
            run.faults
                .push(Fault::Broken(format!("the first step, {}/s, was too much", args.from)));
        }
    }
    let deliveries = rig.audience.deliveries.load(Ordering::Relaxed).max(1);
    let bytes = rig.audience.bytes.load(Ordering::Relaxed);
    run.figure("mean size of an event", "bytes", bytes as f64 / deliveries as f64, "about 200");
    let verdict = rig.finish(&mut world.hub).await?;
    run.faults.extend(verdict.faults);
    Ok(run)
}

async fn one_step(
    rig: &Rig,
    world: &World,
    asked: f64,
    every: Duration,
    window: Duration,
) -> Result<Step> {
    rig.set(Mode::Paced(every));
    sleep(WARM_UP).await;
    let deliveries = || rig.audience.deliveries.load(Ordering::Relaxed);
    let resyncs = || rig.audience.resyncs.load(Ordering::Relaxed);
    rig.audience.take_latency();
    let meter = Meter::start(world.hub.pid())?;
    let (began, before, cut_before) = (Instant::now(), deliveries(), resyncs());
    sleep(window).await;
    let delivered = (deliveries() - before) as f64 / began.elapsed().as_secs_f64();
    Ok(Step {
        asked,
        delivered,
        latencies: rig.audience.take_latency(),
        usage: meter.stop(&format!("{asked:.0} deliveries a second asked for"))?,
        resyncs: resyncs() - cut_before,
    })
}
