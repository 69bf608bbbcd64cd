//! `chaos`: faults of every kind on several nodes under load (R3).
//!
//! At the end every acked change is in its journal, once and in order; no number is missing or repeated, in the
//! journals or at any dashboard; what was written over REST is there once; every event that the rule calls for was
//! delivered; and no agent was announced offline that was not away.

pub(crate) mod absence;
pub(crate) mod fault;
mod figures;
mod recovery;
mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum as _;
use pulse_protocol::Timestamp;
use rand::Rng as _;
use tokio::time::sleep;

use self::fault::{Hurt, Kind, Schedule, Victims};
use self::figures::Slot;
use self::recovery::Watch;
use self::writes::Writer;
use crate::checker::Fault;
use crate::cli::ChaosArgs;
use crate::cluster::{Cluster, Ground, Site, Wiring};
use crate::crew::Mode;
use crate::entrance::Entrance;
use crate::hooks::Hooks;
use crate::output::{Run, say};
use crate::rest::Api;
use crate::rig::{Rig, Shape, Verdict};
use crate::scenario::{Absence, longest_absence, pace};

/// Short waits: an agent must not stay away for longer than the grace by its own back-off, or it would rightly be
/// announced.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Load before the first fault, and after the last.
const LOAD: Duration = Duration::from_secs(3);
/// What has not recovered by then is a fault of the hub, and the next one comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Agents, viewers and writers at work on a cluster.
struct Play {
    site: Site,
    cluster: Cluster,
    rig: Rig,
    hooks: Hooks,
    writer: Writer,
    allowed: Absence,
    hurts: Vec<Hurt>,
    slots: Vec<Slot>,
}

pub(crate) async fn run(args: &ChaosArgs, ground: &Ground) -> Result<Run> {
    let plan = crate::fleet::Plan::spread(args.agents, Some(args.orgs), args.devices)?;
    let site = Site::prepare(ground, plan).await?;
    let mut run = Run::default();
    let mut play = Play::begin(args, site).await?;
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    run.note(format!("faults drawn with --seed {seed}"));
    play.inflict_all(args, seed, &mut run).await?;
    let site = play.end(args, &mut run).await?;
    if !run.faults.is_empty() {
        site.keep();
    }
    Ok(run)
}

impl Play {
    async fn begin(args: &ChaosArgs, site: Site) -> Result<Self> {
        let cluster =
            Cluster::start(&site, usize::from(args.cluster.nodes), Wiring::Breakable).await?;
        let addresses = cluster.addresses();
        let fleet = Arc::new(site.fleet.clone());
        let api = Api::new(addresses[0])?;
        let allowed = longest_absence(&api, &fleet).await?;
        let hooks = Hooks::subscribe(&api, &fleet).await?;
        let entrance = Entrance::balanced(&addresses)?;
        let shape = Shape {
            reports_per_frame: 1,
            in_flight: 256,
            backoff_max: BACKOFF_MAX,
            viewers: args.viewers,
            sample_every: 1,
        };
        let seats = Arc::clone(&entrance);
        let rig = Rig::through(seats, addresses[0], Arc::clone(&fleet), shape).await?;
        rig.all_online().await?;
        rig.set(Mode::Paced(pace(f64::from(args.rate), rig.agents(), 1)));
        let writer = Writer::start(entrance, &addresses, fleet, args.writes)?;
        sleep(LOAD).await;
        let (hurts, slots) = (Vec::new(), Vec::new());
        Ok(Self { site, cluster, rig, hooks, writer, allowed, hurts, slots })
    }

    async fn inflict_all(&mut self, args: &ChaosArgs, seed: u64, run: &mut Run) -> Result<()> {
        let may_kill = self.site.postgres.is_some();
        let wanted = |kind: &Kind| args.only.is_empty() || args.only.contains(kind);
        let kinds = Kind::value_variants().iter().copied().filter(wanted);
        let kinds = kinds.filter(|kind| may_kill || *kind != Kind::PostgresKill).collect();
        if !may_kill {
            run.note("this PostgreSQL is not ours to kill: that fault is left out");
        }
        let rounds = args.rounds.unwrap_or(u32::MAX);
        let mut schedule = Schedule::new(seed, kinds, self.cluster.nodes.len(), rounds);
        let watch = Watch::new(&self.rig, &self.cluster.addresses())?;
        let length = Duration::from_secs_f64(args.minutes * 60.0);
        let began = Instant::now();
        let is_time = || args.rounds.is_some() || began.elapsed() < length;
        let every = Duration::from_secs(args.every);
        while is_time()
            && let Some(mut fault) = schedule.draw()
        {
            if let Some(lasting) = args.lasting {
                fault.lasts = Duration::from_secs_f64(lasting);
            }
            let next = Instant::now() + every;
            let slot = self.inflict(fault, &watch).await?;
            say(&format!("fault {}: {slot}", self.slots.len() + 1));
            run.faults.extend(slot.fault());
            self.slots.push(slot);
            run.faults.extend(self.fallen()?);
            tokio::time::sleep_until(next.into()).await;
        }
        Ok(())
    }

    /// One fault, from its beginning until all has recovered.
    async fn inflict(&mut self, fault: fault::Fault, watch: &Watch) -> Result<Slot> {
        self.rig.crew.tally.take_latencies();
        let mut victims =
            Victims { cluster: &mut self.cluster, postgres: self.site.postgres.as_mut() };
        let address = victims.address(&fault);
        let (began, began_at) = (Instant::now(), Timestamp::wall_clock());
        victims.inflict(&fault).await?;
        sleep(fault.lasts).await;
        let ended = Instant::now();
        let (healed, recovery) =
            tokio::join!(victims.heal(&fault), watch.recovered(ended, PATIENCE));
        healed?;
        self.hurts.push(Hurt { address, from: began, to: ended });
        let (to_ack, _) = self.rig.crew.tally.take_latencies();
        Ok(Slot { fault, began, began_at, ended, recovery, slowest_ack_ms: to_ack.max_ms() })
    }

    /// Nodes that ended without having been told to.
    fn fallen(&mut self) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for (at, node) in self.cluster.nodes.iter_mut().enumerate() {
            if let Some(status) = node.hub.ended()? {
                faults.push(Fault::Broken(format!("node {} ended with {status}", at + 1)));
            }
        }
        Ok(faults)
    }

    async fn end(mut self, args: &ChaosArgs, run: &mut Run) -> Result<Site> {
        sleep(LOAD).await;
        let ends = [self.rig.drain().await, self.rig.online_within(self.allowed.grace).await];
        // The verdict says why.
        let stuck = ends.into_iter().filter_map(Result::err);
        run.faults
            .extend(stuck.map(|error| Fault::Broken(format!("after the last fault: {error:#}"))));
        let ledger = self.writer.finish().await?;
        // A false announcement would come within this.
        sleep(self.allowed.timeout + self.allowed.grace + Duration::from_secs(1)).await;
        let patience = Duration::from_secs(args.settle_seconds);
        let deliveries = self.hooks.settle(&self.rig.api, &self.site.fleet, patience).await?;

        let clocks = (Instant::now(), Timestamp::wall_clock());
        let acked = self.rig.changes_acked();
        let lost = self.rig.crew.tally.lost_connections.load(std::sync::atomic::Ordering::Relaxed);
        let reading = self.rig.read().await?;
        self.cluster.dispose().await?;
        let verdict = self.rig.conclude(reading).await?;

        figures::of_recovery(&self.slots, run);
        run.figure("changes sent", "", verdict.sent() as f64, "");
        run.figure("changes acked", "", acked as f64, "");
        run.figure("connections of agents that broke", "", lost as f64, "");
        run.figure("writes over REST that were answered", "", ledger.made() as f64, "");
        run.figure("writes over REST without an answer", "", ledger.unknown() as f64, "");
        judge_absences(&verdict, &self.hurts, self.allowed, clocks, run);
        run.faults.extend(ledger.faults(&verdict.journals));
        self.hooks.judge(&deliveries, &verdict.journals, run);
        run.faults.extend(verdict.faults);
        Ok(self.site)
    }
}

/// Compares each announcement with what its agent knows. `clocks` are the same moment on both.
fn judge_absences(
    verdict: &Verdict,
    hurts: &[Hurt],
    allowed: Absence,
    clocks: (Instant, Timestamp),
    run: &mut Run,
) {
    let mut true_ones = 0_u32;
    for (org, journal) in &verdict.journals {
        for one in &journal.offline {
            let Some(at) = clocks.0.checked_sub(clocks.1.duration_since(one.at)) else { continue };
            let record = verdict.records.iter().find(|record| record.id == one.agent);
            let sessions = record.map_or(&[][..], |record| record.sessions.as_slice());
            match absence::is_false(at, sessions, hurts, allowed) {
                Some(why) => run.faults.push(Fault::Broken(format!(
                    "agent {} was falsely announced offline in event {} of {org} at {}: {why}",
                    one.agent, one.seq, one.at
                ))),
                None => true_ones += 1,
            }
        }
    }
    run.figure("agents announced offline, rightly", "", f64::from(true_ones), "");
}
