//! What the hanging endpoints of some tenants cost the others.
//!
//! Rounds with none, one and a tenth of the tenants hanging take turns, so that whatever else changes on the machine
//! changes for all. Only tenants that never hang are compared.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use pulse_protocol::ids::OrgId;
use tokio::time::{Instant, sleep};

use super::{Hook, Play};
use crate::checker::Fault;
use crate::cli::DeliveriesArgs;
use crate::crew::Mode;
use crate::machine::Meter;
use crate::output::{Run, say};
use crate::receiver::{Manner, Receiver};
use crate::scenario::pace;
use crate::stage::World;
use crate::stats::Latencies;

/// Left out of each round: what hangs takes its places, what is healthy finds its pace.
const WARM_UP: Duration = Duration::from_secs(3);
/// Of so many tenants one hangs in the worst rounds.
const TENTH: usize = 10;
/// Nothing came in for so long: what was called for has arrived.
const QUIET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

struct Ground {
    good: Receiver,
    hanging: Receiver,
    hooks: HashMap<OrgId, Hook>,
}

pub(super) async fn run(
    args: &DeliveriesArgs,
    play: &mut Play,
    world: &World,
    run: &mut Run,
) -> Result<()> {
    let tenants = play.fleet.orgs.len();
    let most = tenants / TENTH;
    ensure!(most > 0, "fairness takes at least {TENTH} tenants");
    let clock = Some(play.rig.crew.clock);
    let good = Receiver::of(Manner::Fast, clock).await?;
    let hanging = Receiver::of(Manner::Hanging, clock).await?;
    let hooks = play.subscribe_all(&good).await?;
    let mut ground = Ground { good, hanging, hooks };

    let mut cases: Vec<(usize, Latencies, Vec<f64>)> = Vec::new();
    for victims in [0, 1, most] {
        if cases.iter().all(|(known, ..)| *known != victims) {
            cases.push((victims, Latencies::new(), Vec::new()));
        }
    }
    let meter = Meter::start(world.hub.pid())?;
    for number in 1..=args.rounds {
        say(&format!("fairness, round {number} of {}", args.rounds));
        for (victims, all, p99s) in &mut cases {
            let times = round(args, play, &mut ground, most, *victims).await?;
            let mut latencies = Latencies::new();
            for time in times {
                latencies.record(time);
                all.record(time);
            }
            p99s.push(latencies.percentile_ms(99.0));
        }
    }
    run.usages.push(meter.stop("fairness")?);
    report(tenants, &cases, run);
    ground.hanging.release();
    play.unsubscribe(&ground.hooks).await?;
    play.read_on().await?;
    Ok(())
}

/// Times of the tenants that never hang, while so many others do.
async fn round(
    args: &DeliveriesArgs,
    play: &Play,
    ground: &mut Ground,
    most: usize,
    victims: usize,
) -> Result<Vec<Duration>> {
    for (number, org) in play.fleet.orgs.iter().take(most).enumerate() {
        let old = ground.hooks[&org.id].clone();
        play.api.remove_webhook(org.tenant(), old.rule, old.channel).await?;
        let receiver = if number < victims { &ground.hanging } else { &ground.good };
        ground.hooks.insert(org.id, play.subscribe(org, receiver, None).await?);
    }
    let rate = f64::from(args.fair_rate);
    play.rig.set(Mode::Paced(pace(rate, play.rig.agents(), 1)));
    sleep(WARM_UP).await;
    ground.good.take();
    sleep(Duration::from_secs(args.common.seconds.unwrap_or(10))).await;
    play.rig.drain().await?;
    quiet(&ground.good).await;
    let received = ground.good.take();
    ground.hanging.release();
    let healthy = play.fleet.orgs.iter().skip(most).map(|org| &ground.hooks[&org.id].path);
    Ok(healthy.filter_map(|path| received.times.get(path)).flatten().copied().collect())
}

async fn quiet(receiver: &Receiver) {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (receiver.requests(), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
        let now = receiver.requests();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn report(tenants: usize, cases: &[(usize, Latencies, Vec<f64>)], run: &mut Run) {
    let Some((_, healthy, _)) = cases.first() else { return };
    let base = healthy.percentile_ms(99.0);
    for (victims, latencies, p99s) in cases {
        let name = format!("{victims} of {tenants} tenants hang");
        let p99 = latencies.percentile_ms(99.0);
        run.figure(&format!("{name}: p50 of the others"), "ms", latencies.percentile_ms(50.0), "");
        run.figure(&format!("{name}: p99 of the others"), "ms", p99, "");
        if *victims > 0 {
            let target = "T8 must 1.10 aim 1.02";
            run.figure(
                &format!("{name}: p99 against none"),
                "ratio",
                p99 / base.max(0.001),
                target,
            );
        }
        if latencies.is_empty() {
            run.faults.push(Fault::Broken(format!("{name}: nothing reached the others")));
        }
        let each: Vec<String> = p99s.iter().map(|p99| format!("{p99:.1}")).collect();
        run.note(format!("{name}: p99 by round, ms: {}", each.join(", ")));
    }
}
