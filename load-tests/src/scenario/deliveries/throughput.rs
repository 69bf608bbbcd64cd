//! Webhooks a second, and how soon they arrive.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use pulse_protocol::api::Delivery;
use pulse_protocol::ids::OrgId;
use tokio::time::sleep;

use super::verdict::{Case, Listed, judge};
use super::{Hook, Play, called};
use crate::checker::Fault;
use crate::cli::DeliveriesArgs;
use crate::crew::Mode;
use crate::machine::Meter;
use crate::output::{Run, say};
use crate::receiver::{Manner, Received, Receiver};
use crate::scenario::pace;
use crate::stage::World;
use crate::stats::Latencies;

/// Left out of the timed window.
const WARM_UP: Duration = Duration::from_secs(2);

pub(super) async fn run(
    args: &DeliveriesArgs,
    play: &mut Play,
    world: &World,
    run: &mut Run,
) -> Result<()> {
    let receiver = Receiver::of(Manner::Fast, Some(play.rig.crew.clock)).await?;
    let hooks = play.subscribe_all(&receiver).await?;
    let window = Duration::from_secs(args.common.seconds.unwrap_or(10));

    let most = burst(args, play, world, &hooks, window, run).await?;
    let flood = receiver.take();
    check(play, &hooks, flood, "flood", run).await?;

    play.unsubscribe(&hooks).await?;
    play.read_on().await?;
    let hooks = play.subscribe_all(&receiver).await?;
    play.rig.set(Mode::Paced(pace(most / 2.0, play.rig.agents(), 1)));
    sleep(WARM_UP).await;
    let mut all = receiver.take();
    let meter = Meter::start(world.hub.pid())?;
    sleep(window).await;
    run.usages.push(meter.stop("deliveries at half the maximum")?);
    play.rig.drain().await?;
    play.settle(&hooks, Duration::from_secs(args.settle_seconds)).await?;
    let timed = receiver.take();
    let mut latencies = Latencies::new();
    timed.times.values().flatten().for_each(|time| latencies.record(*time));
    run.figure("half the maximum: p50 report to receipt", "ms", latencies.percentile_ms(50.0), "");
    run.figure("half the maximum: p99 report to receipt", "ms", latencies.percentile_ms(99.0), "");
    run.latencies.insert("report to receipt, at half the maximum", latencies);
    merge(&mut all, timed);
    check(play, &hooks, all, "half the maximum", run).await?;
    play.unsubscribe(&hooks).await?;
    play.read_on().await?;
    Ok(())
}

/// Changes come at a rate beyond what can be delivered; returns the deliveries a second.
async fn burst(
    args: &DeliveriesArgs,
    play: &Play,
    world: &World,
    hooks: &HashMap<OrgId, Hook>,
    window: Duration,
    run: &mut Run,
) -> Result<f64> {
    say(&format!("{} changes a second for {window:?}", args.rate));
    let meter = Meter::start(world.hub.pid())?;
    play.rig.set(Mode::Paced(pace(f64::from(args.rate), play.rig.agents(), 1)));
    sleep(window).await;
    play.rig.drain().await?;
    let open = play.settle(hooks, Duration::from_secs(args.settle_seconds)).await?;
    let usage = meter.stop("flood of deliveries")?;
    let listed = play.listed(hooks).await?;
    let deliveries: Vec<&Delivery> = listed.values().flatten().collect();
    let span = span(&deliveries).context("no delivery was made: is there a rule?")?;
    let most = (deliveries.len() - open) as f64 / span.as_secs_f64().max(0.001);
    run.figure("webhooks delivered", "1/s", most, "T8 must 1,000 aim 4,000");
    run.figure("webhooks of the flood", "", deliveries.len() as f64, "");
    if let Some(cpu) = usage.hub_cpu_pct {
        // Whatever the hub did in that time is in it, the taking in of reports too.
        let busy_us = cpu / 100.0 * usage.seconds * 1_000_000.0;
        run.figure("CPU of the hub a webhook", "us", busy_us / deliveries.len() as f64, "");
    }
    run.usages.push(usage);
    if most > 0.9 * f64::from(args.rate) {
        run.note("the flood was no flood: give a higher --rate");
    }
    Ok(most)
}

/// From the first delivery called for to the end of the last attempt, by the hub's own clock.
fn span(deliveries: &[&Delivery]) -> Option<Duration> {
    let first = deliveries.iter().map(|one| one.created_at.unix_ms()).min()?;
    let attempts = deliveries.iter().flat_map(|one| &one.attempts);
    let end = |at: i64, ms: u64| at.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
    let last = attempts.map(|one| end(one.at.unix_ms(), one.duration_ms)).max()?;
    u64::try_from(last - first).ok().map(Duration::from_millis)
}

async fn check(
    play: &mut Play,
    hooks: &HashMap<OrgId, Hook>,
    received: Received,
    name: &str,
    run: &mut Run,
) -> Result<()> {
    let journals = play.read_on().await?;
    let nothing = HashMap::new();
    let mut repeats = 0;
    for (org, deliveries) in play.listed(hooks).await? {
        let listed: Vec<Listed> = deliveries.iter().map(Listed::from).collect();
        let accepted = received.by_path.get(&hooks[&org].path).unwrap_or(&nothing);
        repeats += accepted.values().filter(|count| **count > 1).count();
        let case = Case {
            name: &format!("{name}, {org}"),
            called: &called(&journals[&org]),
            listed: &listed,
            accepted,
            always_accepts: true,
        };
        run.faults.extend(judge(&case));
        let held = listed.iter().filter(|one| !one.shows_acceptance).count();
        if held > 0 {
            let text = format!("{name}, {org}: {held} deliveries to a good receiver not delivered");
            run.faults.push(Fault::Broken(text));
        }
    }
    run.figure(&format!("{name}: received more than once"), "", repeats as f64, "");
    run.faults.extend(received.faults);
    Ok(())
}

fn merge(all: &mut Received, more: Received) {
    for (path, ids) in more.by_path {
        let known = all.by_path.entry(path).or_default();
        for (id, count) in ids {
            *known.entry(id).or_default() += count;
        }
    }
    all.faults.extend(more.faults);
}
