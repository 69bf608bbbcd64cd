//! `storm`: the hub restarts under its agents (T3). All come back, and none is announced offline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::checker::Fault;
use crate::cli::{Blow, StormArgs};
use crate::hooks::false_alarms;
use crate::machine::Meter;
use crate::output::Run;
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::scenario::longest_absence;
use crate::stage::World;

/// All agents have sent a heartbeat by then, and the wave of `agent.online` events is over.
const SETTLE: Duration = Duration::from_secs(6);
/// An announcement may be so late.
const LATE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: &StormArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    let shape = Shape {
        reports_per_frame: 1,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: 0,
        sample_every: 1,
    };
    let rig = Rig::start(&world.hub, Arc::clone(&world.fleet), shape).await?;
    rig.all_online().await?;
    for blow in [Blow::Kill, Blow::Term] {
        if args.signal == blow || args.signal == Blow::Both {
            sleep(SETTLE).await;
            strike(blow, &rig, world, &mut run).await?;
        }
    }
    // What is announced falsely is announced within this.
    let absence = longest_absence(&rig.api, &world.fleet).await?;
    sleep(absence.timeout + absence.grace + LATE).await;
    let verdict = rig.finish(&mut world.hub).await?;
    run.faults.extend(verdict.faults);
    let alarms = verdict.journals.iter().flat_map(|(org, journal)| false_alarms(*org, journal));
    run.faults.extend(alarms);
    Ok(run)
}

async fn strike(blow: Blow, rig: &Rig, world: &mut World, run: &mut Run) -> Result<()> {
    let name = if blow == Blow::Kill { "SIGKILL" } else { "SIGTERM" };
    let failed_before = rig.crew.tally.failed_attempts.load(Ordering::Relaxed);
    let began = Instant::now();
    if blow == Blow::Kill {
        world.hub.kill().await?;
    } else {
        let status = world.hub.terminate().await?;
        if !status.success() {
            run.faults.push(Fault::Broken(format!("after SIGTERM the hub ended with {status}")));
        }
    }
    let gone = began.elapsed();
    let ready_after = world.hub.start().await?;
    let ready = Instant::now();
    let meter = Meter::start(world.hub.pid())?;
    rig.all_online().await?;
    run.usages.push(meter.stop(&format!("{name}: coming back"))?);
    let (all, since_ready) = (began.elapsed(), ready.elapsed());
    let failed = rig.crew.tally.failed_attempts.load(Ordering::Relaxed) - failed_before;
    run.figure(&format!("{name}: hub gone after"), "s", gone.as_secs_f64(), "");
    run.figure(&format!("{name}: hub ready again, from exec"), "s", ready_after.as_secs_f64(), "");
    run.figure(
        &format!("{name}: all back, from the signal"),
        "s",
        all.as_secs_f64(),
        "T3 must 15 aim 5",
    );
    run.figure(&format!("{name}: all back, from ready"), "s", since_ready.as_secs_f64(), "");
    run.figure(&format!("{name}: attempts that failed"), "", failed as f64, "");
    Ok(())
}
