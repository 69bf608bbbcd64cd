//! `rolling`: every node of a cluster restarts in turn under its agents. Nobody may notice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::agent::AgentRecord;
use crate::checker::Fault;
use crate::cli::RollingArgs;
use crate::cluster::{Cluster, Ground, Site, Wiring};
use crate::crew::{Crew, Mode};
use crate::entrance::Entrance;
use crate::fleet::Plan;
use crate::hooks::false_alarms;
use crate::output::{Run, say};
use crate::rest::Api;
use crate::rig::{BACKOFF_MAX, Rig, Shape};
use crate::scenario::{longest_absence, pace};

/// Load before the first node goes, and after the last is back.
const LOAD: Duration = Duration::from_secs(5);
/// An announcement may be so late.
const LATE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: &RollingArgs, ground: &Ground) -> Result<Run> {
    let mut run = Run::default();
    let site = Site::prepare(ground, Plan::spread(args.agents, None, 1)?).await?;
    let mut cluster =
        Cluster::start(&site, usize::from(args.cluster.nodes), Wiring::Direct).await?;
    let addresses = cluster.addresses();
    let fleet = Arc::new(site.fleet.clone());
    let allowed = longest_absence(&Api::new(addresses[0])?, &fleet).await?;
    let shape = Shape {
        reports_per_frame: 1,
        in_flight: 256,
        backoff_max: BACKOFF_MAX,
        viewers: args.viewers,
        sample_every: 1,
    };
    let entrance = Entrance::balanced(&addresses)?;
    let mut rig = Rig::through(entrance, addresses[0], fleet, shape).await?;
    rig.all_online().await?;
    rig.set(Mode::Paced(pace(f64::from(args.rate), rig.agents(), 1)));
    sleep(LOAD).await;
    rig.crew.tally.take_latencies();
    rig.audience.take_latency();

    let began = Instant::now();
    roll(&mut cluster, &rig, &mut run).await?;
    let ended = Instant::now();
    run.figure("whole roll", "s", ended.duration_since(began).as_secs_f64(), "");
    let (to_ack, _) = rig.crew.tally.take_latencies();
    let pushed = rig.audience.take_latency();
    sleep(LOAD).await;
    rig.drain().await?;
    rig.online_within(allowed.grace).await?;
    // What is announced falsely is announced within this.
    sleep(allowed.timeout + allowed.grace + LATE).await;
    let reading = rig.read().await?;
    cluster.dispose().await?;
    let verdict = rig.conclude(reading).await?;

    run.figure("during the roll: p50 to ack", "ms", to_ack.percentile_ms(50.0), "");
    run.figure("during the roll: p99 to ack", "ms", to_ack.percentile_ms(99.0), "");
    run.figure("during the roll: slowest ack", "ms", to_ack.max_ms(), "");
    run.figure("during the roll: p99 to dashboard", "ms", pushed.percentile_ms(99.0), "");
    of_sessions(&verdict.records, began, ended, &mut run);
    run.figure("changes sent in all", "", verdict.sent() as f64, "");
    run.latencies.insert("to ack, during the roll", to_ack);
    run.latencies.insert("to dashboard, during the roll", pushed);
    let alarms: Vec<Fault> =
        verdict.journals.iter().flat_map(|(org, journal)| false_alarms(*org, journal)).collect();
    run.figure("agents announced offline", "", alarms.len() as f64, "must 0");
    run.faults.extend(alarms);
    run.faults.extend(verdict.faults);
    if !run.faults.is_empty() {
        site.keep();
    }
    Ok(run)
}

/// One node after the other, as docs/operations.md has it: end, start, ready, go on.
async fn roll(cluster: &mut Cluster, rig: &Rig, run: &mut Run) -> Result<()> {
    let silence = Silence::watch(rig);
    for (at, node) in cluster.nodes.iter_mut().enumerate() {
        let began = Instant::now();
        let status = node.hub.terminate().await?;
        if !status.success() {
            run.faults
                .push(Fault::Broken(format!("after SIGTERM node {} ended with {status}", at + 1)));
        }
        let gone = began.elapsed();
        node.hub.start().await?;
        let ready = began.elapsed();
        rig.all_online().await?;
        let back = began.elapsed();
        say(&format!(
            "node {}: gone after {gone:?}, ready {ready:?}, all agents back {back:?}",
            at + 1
        ));
        run.figure(&format!("node {}: gone, from the signal", at + 1), "s", gone.as_secs_f64(), "");
        run.figure(
            &format!("node {}: ready, from the signal", at + 1),
            "s",
            ready.as_secs_f64(),
            "",
        );
        run.figure(&format!("node {}: all agents there", at + 1), "s", back.as_secs_f64(), "");
    }
    let longest = silence.end().await?;
    run.figure("longest time without any ack", "ms", longest.as_secs_f64() * 1_000.0, "");
    Ok(())
}

/// Somebody who listens for the longest time in which no change of anybody is acked.
struct Silence {
    stop: watch::Sender<bool>,
    task: JoinHandle<Duration>,
}

impl Silence {
    fn watch(rig: &Rig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(longest_silence(Arc::clone(&rig.crew), stopped));
        Self { stop, task }
    }

    async fn end(self) -> Result<Duration> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn longest_silence(crew: Arc<Crew>, stopped: watch::Receiver<bool>) -> Duration {
    let mut ticks = interval(Duration::from_millis(5));
    let acked = || crew.tally.acked_changes.load(Ordering::Relaxed);
    let (mut last, mut since, mut longest) = (acked(), Instant::now(), Duration::ZERO);
    while !*stopped.borrow() {
        ticks.tick().await;
        let now = acked();
        longest = longest.max(since.elapsed());
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    longest
}

/// How often agents had to connect again, and how long they were away for it.
fn of_sessions(records: &[AgentRecord], began: Instant, ended: Instant, run: &mut Run) {
    let (mut most, mut all, mut longest) = (0, 0, Duration::ZERO);
    for record in records {
        let gaps = record.sessions.windows(2).map(|pair| (pair[0].ended_at, pair[1].welcomed_at));
        let gaps: Vec<_> = gaps.filter(|(from, _)| *from >= began && *from <= ended).collect();
        most = most.max(gaps.len());
        all += gaps.len();
        longest = gaps.iter().map(|(from, to)| *to - *from).fold(longest, Duration::max);
    }
    let mean = all as f64 / records.len().max(1) as f64;
    run.figure("reconnects an agent, mean", "", mean, "");
    run.figure("reconnects an agent, most", "", most as f64, "");
    run.figure("longest absence of an agent", "ms", longest.as_secs_f64() * 1_000.0, "");
}
