//! `scale`: what an agent and a change cost on one hub and on several nodes, and as the number of agents grows.
//!
//! On one machine several nodes cannot be faster than one. What is compared is the processor time and the memory of
//! one unit, over all processes that take part: that is what machines are bought for.

mod bench;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use self::bench::{Bench, Place, Use};
use crate::checker::Fault;
use crate::cli::ScaleArgs;
use crate::cluster::Ground;
use crate::crew::Mode;
use crate::fleet::{AGENTS_PER_ORG_MAX, Plan};
use crate::output::{Run, say};
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::scenario::pace;

/// Hubs have started, shards have found their places, and the wave of first events is over.
const SETTLE: Duration = Duration::from_secs(5);
/// Left out of each window.
const WARM_UP: Duration = Duration::from_secs(2);

/// The measured costs of a place with so many agents.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    kib_an_agent: f64,
    /// Of a core, for 1,000 idle agents.
    idle_pct: f64,
    /// Seconds of a core for 1,000 changes, in the closed loop, over all processes.
    s_per_1000: f64,
    /// The same at the fixed rate.
    s_per_1000_at_rate: f64,
    changes_a_second: f64,
    p99_ms: f64,
}

impl ScaleArgs {
    /// The fleet of so many agents.
    pub(crate) fn plan(&self, agents: usize) -> Result<Plan> {
        let orgs = agents.div_ceil(AGENTS_PER_ORG_MAX).max(1);
        let plan = Plan::spread(agents, Some(orgs), self.devices)?;
        Ok(Plan { reporting_per_org: Some(self.reporting.div_ceil(orgs)), ..plan })
    }
}

pub(crate) async fn run(args: &ScaleArgs, ground: &Ground) -> Result<Run> {
    let mut run = Run::default();
    if ground.database.is_some() {
        run.note("this PostgreSQL is not ours: its processor time is in no figure");
    }
    let nodes = (1..=args.cluster.nodes).map(|nodes| Place::Cluster(usize::from(nodes)));
    let places: Vec<Place> = [Place::Sqlite, Place::Postgres].into_iter().chain(nodes).collect();
    let mut found = BTreeMap::new();
    for agents in &args.agents {
        for place in &places {
            say(&format!("{place}, {agents} agents"));
            let costs = measure(args, ground, *place, *agents, &mut run).await?;
            found.insert((*agents, *place), costs);
        }
    }
    ratios(&found, &mut run);
    Ok(run)
}

async fn measure(
    args: &ScaleArgs,
    ground: &Ground,
    place: Place,
    agents: usize,
    run: &mut Run,
) -> Result<Costs> {
    let window = Duration::from_secs(args.common.seconds.unwrap_or(10));
    let mut bench = Bench::set_up(ground, place, args.plan(agents)?).await?;
    sleep(SETTLE).await;
    let mut costs = Costs::default();
    let empty_kib = bench.pss_kib()?;
    let shape = Shape {
        reports_per_frame: 1,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: 0,
        sample_every: 1,
    };
    let mut rig = Rig::through(bench.entrance()?, bench.rest(), bench.fleet(), shape).await?;
    rig.all_online().await?;
    sleep(SETTLE).await;

    let name = |what: &str| format!("{agents} agents, {place}: {what}");
    let idle = bench.spent_while(sleep(window)).await?;
    costs.kib_an_agent = (bench.pss_kib()? - empty_kib) / rig.agents() as f64;
    costs.idle_pct = 100.0 * idle.all() / window.as_secs_f64() / (rig.agents() as f64 / 1_000.0);
    run.figure(&name("memory an agent"), "KiB", costs.kib_an_agent, "");
    run.figure(&name("1,000 idle agents"), "% core", costs.idle_pct, "");

    let (used, changes) = load(&rig, &bench, Mode::Closed, window).await?;
    costs.changes_a_second = changes / window.as_secs_f64();
    costs.s_per_1000 = used.all() * 1_000.0 / changes.max(1.0);
    run.figure(&name("durable changes"), "1/s", costs.changes_a_second, "");
    tell_use(&name("closed loop"), used, changes, run);

    let every = pace(f64::from(args.rate), rig.acked.len(), 1);
    let (used, changes) = load(&rig, &bench, Mode::Paced(every), window).await?;
    costs.s_per_1000_at_rate = used.all() * 1_000.0 / changes.max(1.0);
    tell_use(&name(&format!("{}/s", args.rate)), used, changes, run);
    let (to_ack, _) = rig.crew.tally.take_latencies();
    costs.p99_ms = to_ack.percentile_ms(99.0);
    run.figure(
        &name(&format!("{}/s: p50 to ack", args.rate)),
        "ms",
        to_ack.percentile_ms(50.0),
        "",
    );
    run.figure(&name(&format!("{}/s: p99 to ack", args.rate)), "ms", costs.p99_ms, "");

    let reading = rig.read().await?;
    bench.dispose().await?;
    let faults = rig.conclude(reading).await?.faults;
    if !faults.is_empty() {
        bench.keep();
    }
    run.faults.extend(faults.into_iter().map(|fault| Fault::Broken(format!("{place}: {fault}"))));
    Ok(costs)
}

/// What all processes used, and how many changes were acked, while the agents worked so.
async fn load(rig: &Rig, bench: &Bench, mode: Mode, window: Duration) -> Result<(Use, f64)> {
    rig.set(mode);
    sleep(WARM_UP).await;
    rig.crew.tally.take_latencies();
    let before = rig.changes_acked();
    let used = bench.spent_while(sleep(window)).await?;
    let changes = (rig.changes_acked() - before) as f64;
    rig.drain().await?;
    Ok((used, changes))
}

fn tell_use(name: &str, used: Use, changes: f64, run: &mut Run) {
    let of_1000 = |seconds: f64| seconds * 1_000.0 * 1_000.0 / changes.max(1.0);
    let parts = [
        ("hubs", Some(used.hubs)),
        ("PostgreSQL", used.postgres),
        ("Redis", used.redis),
        ("all", Some(used.all())),
        ("generator", Some(used.own)),
    ];
    for (part, seconds) in parts {
        if let Some(seconds) = seconds {
            let name = format!("{name}: 1,000 changes, {part}");
            run.figure(&name, "ms core", of_1000(seconds), "");
        }
    }
}

/// Each place against PostgreSQL without Redis, and the most agents against the fewest.
fn ratios(found: &BTreeMap<(usize, Place), Costs>, run: &mut Run) {
    for ((agents, place), costs) in found {
        if let Some(alone) = found.get(&(*agents, Place::Postgres))
            && matches!(place, Place::Cluster(_))
        {
            let of = format!("{agents} agents, {place} to one hub on PostgreSQL");
            compare(&of, costs, alone, run);
        }
        let fewest = found.keys().map(|(agents, _)| *agents).min().unwrap_or(*agents);
        if *agents > fewest
            && let Some(few) = found.get(&(fewest, *place))
        {
            compare(&format!("{place}, {agents} agents to {fewest}"), costs, few, run);
        }
    }
}

fn compare(of: &str, costs: &Costs, base: &Costs, run: &mut Run) {
    let parts = [
        ("memory an agent", costs.kib_an_agent, base.kib_an_agent),
        ("an idle agent", costs.idle_pct, base.idle_pct),
        ("a change, closed loop", costs.s_per_1000, base.s_per_1000),
        ("a change, fixed rate", costs.s_per_1000_at_rate, base.s_per_1000_at_rate),
        ("throughput", costs.changes_a_second, base.changes_a_second),
        ("p99 to ack", costs.p99_ms, base.p99_ms),
    ];
    for (part, value, base) in parts.into_iter().filter(|(_, _, base)| *base > 0.0) {
        run.figure(&format!("{of}: {part}"), "times", value / base, "");
    }
}
