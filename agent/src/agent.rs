//! The agent itself: what it was told to watch, what runs, and what is recorded of it.
//!
//! - In: news of the hub, ends of checks and scans, its clocks.
//! - Out: results and frames to the recorder, progress to the link.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentCommand, AgentConfig, AgentFrame, CheckResult, DiscoveredDevice, Network, ScanCompleted,
    ScanOutcome, ScanProgress, ScanStarted, Segments,
};
use pulse_protocol::ids::{CheckId, CommandId, ScanId, SegmentId};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use crate::check::Checker;
use crate::check::ping::Pings;
use crate::command::{Action, Commands, answer, begun};
use crate::last_config::LastConfig;
use crate::link::News;
use crate::network::networks;
use crate::recorder::Recorder;
use crate::scan::{Job, Plan, sweep};
use crate::schedule::{Run, Schedule};

/// Checks that run at once: enough for 1,500 devices a minute that let a check wait 5 s for nothing.
const CONCURRENCY: usize = 128;
/// Past this many results that the disk has not taken, no further check is begun.
const BACKLOG_MAX: usize = 4096;
/// Time until a check is begun again after that.
const BACKLOG_WAIT: Duration = Duration::from_secs(1);
/// Time between two looks at the machine's networks.
const NETWORKS_EVERY: Duration = Duration::from_secs(60);

/// What the agent needs of its surroundings.
pub struct Ports {
    /// The owner of the spool.
    pub recorder: Recorder,
    /// From the link.
    pub news: mpsc::Receiver<News>,
    /// To the link.
    pub progress: mpsc::Sender<ScanProgress>,
    /// The ICMP sockets.
    pub pings: Arc<Pings>,
    /// Runs the checks.
    pub checker: Arc<Checker>,
    /// Where the last configuration is kept.
    pub data_dir: PathBuf,
    /// Whether networks are told and scanned.
    pub networks: bool,
}

struct ScanEnd {
    job: Job,
    found: Result<Vec<DiscoveredDevice>, String>,
}

/// The agent.
pub struct Agent {
    ports: Ports,
    last_config: LastConfig,
    schedule: Schedule,
    checks: JoinSet<CheckResult>,
    /// Which run each task is.
    runs: HashMap<Id, (CheckId, u64)>,
    plan: Plan,
    scans: JoinSet<ScanEnd>,
    commands: Commands,
    /// The networks last told, once the hub has welcomed the agent.
    networks: Option<Vec<Network>>,
    welcomed: bool,
    /// The hub's clock minus this one's, in milliseconds.
    skew_ms: i64,
}

impl Agent {
    /// An agent that remembers the commands it took before.
    #[must_use]
    pub fn new(ports: Ports, taken: Vec<CommandId>) -> Self {
        let last_config = LastConfig::new(&ports.data_dir);
        Self {
            ports,
            last_config,
            schedule: Schedule::default(),
            checks: JoinSet::new(),
            runs: HashMap::new(),
            plan: Plan::default(),
            scans: JoinSet::new(),
            commands: Commands::new(taken),
            networks: None,
            welcomed: false,
            skew_ms: 0,
        }
    }

    /// Ends what an earlier run of the agent began and did not end.
    pub fn end_leftovers(&self, commands: Vec<CommandId>, scans: Vec<(ScanId, SegmentId)>) {
        const ERROR: &str = "the agent stopped before it was done";
        for (scan_id, segment_id) in scans {
            self.ports.recorder.record(scan_completed(scan_id, segment_id, Err(ERROR.to_owned())));
        }
        for command_id in commands {
            self.ports.recorder.record(answer(command_id, Err(ERROR.to_owned())));
        }
    }

    /// Runs until the hub tells it to restart.
    pub async fn run(&mut self) {
        if let Some(config) = self.last_config.read() {
            info!(version = config.version, "watching what the hub told last");
            self.apply(config);
        }
        let mut networks_tick = interval(NETWORKS_EVERY);
        networks_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake_at = self.begin_due();
            tokio::select! {
                Some(news) = self.ports.news.recv() => {
                    if self.hear(news) {
                        return;
                    }
                }
                Some(ended) = self.checks.join_next_with_id() => {
                    self.check_ended(ended);
                    while let Some(ended) = self.checks.try_join_next_with_id() {
                        self.check_ended(ended);
                    }
                }
                Some(ended) = self.scans.join_next() => self.scan_ended(ended),
                _ = networks_tick.tick() => self.look_at_networks(),
                () = sleep_to(wake_at) => {}
            }
        }
    }

    /// Takes news; true if the agent is to restart.
    fn hear(&mut self, news: News) -> bool {
        match news {
            News::Welcome { server_time } => {
                self.skew_ms =
                    server_time.unix_ms().saturating_sub(Timestamp::wall_clock().unix_ms());
                self.welcomed = true;
                if self.networks.is_none() {
                    self.look_at_networks();
                }
                false
            }
            News::Config(config) => {
                self.last_config.write(&config);
                self.apply(config);
                false
            }
            News::Command(command) => self.obey(&command),
        }
    }

    fn apply(&mut self, config: AgentConfig) {
        let now = Instant::now();
        self.schedule.apply(config.checks, now, rand::random::<f64>);
        let segments = if self.ports.networks { config.segments } else { Vec::new() };
        self.plan.apply(segments, now, rand::random::<f64>);
        debug!(version = config.version, checks = self.schedule.len(), "configuration applied");
    }

    /// Begins the checks and scans that are due; gives the time to look again.
    fn begin_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(job) = self.plan.begin(now) {
            self.begin_scan(job);
        }
        if self.ports.recorder.backlog() > BACKLOG_MAX {
            return Some(now + BACKLOG_WAIT);
        }
        let slots = CONCURRENCY.saturating_sub(self.checks.len());
        for Run { generation, check } in self.schedule.start_due(now, slots) {
            let (check_id, checker) = (check.check_id, Arc::clone(&self.ports.checker));
            let task = self.checks.spawn(async move { checker.run(&check).await });
            self.runs.insert(task.id(), (check_id, generation));
        }
        // With all slots taken, the end of a check is the next thing to wait for.
        let next_check = self.schedule.next_due().filter(|_| self.checks.len() < CONCURRENCY);
        next_check.into_iter().chain(self.plan.next_due()).min()
    }

    fn check_ended(&mut self, ended: Result<(Id, CheckResult), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => {
                error!(%error, "a check failed to run");
                (error.id(), None)
            }
        };
        let Some((check_id, generation)) = self.runs.remove(&id) else { return };
        let now = Instant::now();
        let Some((reported, terms)) = self.schedule.finish(check_id, generation, now) else {
            return;
        };
        if let Some(result) = result
            && reported.take(result.status, terms, now)
        {
            self.ports.recorder.record_result(result);
        }
    }

    fn begin_scan(&mut self, job: Job) {
        info!(scan.id = %job.scan_id, segment.id = %job.segment.segment_id, "scan begins");
        self.ports.recorder.record(AgentFrame::ScanStarted(ScanStarted {
            seq: 0,
            scan_id: job.scan_id,
            segment_id: job.segment.segment_id,
            started_at: Timestamp::wall_clock(),
            command_id: job.command_id,
        }));
        let (pings, progress) = (Arc::clone(&self.ports.pings), self.ports.progress.clone());
        self.scans.spawn(async move {
            let found = sweep(&job, pings, progress).await;
            ScanEnd { job, found }
        });
    }

    fn scan_ended(&mut self, ended: Result<ScanEnd, JoinError>) {
        self.plan.end();
        let ScanEnd { job, found } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(%error, "a scan failed to run");
                return;
            }
        };
        match &found {
            Ok(devices) => info!(scan.id = %job.scan_id, devices = devices.len(), "scan ended"),
            Err(error) => warn!(scan.id = %job.scan_id, %error, "scan failed"),
        }
        let error = found.as_ref().err().cloned();
        // Before the command's answer, so that the devices are there when the command succeeds.
        self.ports.recorder.record(scan_completed(job.scan_id, job.segment.segment_id, found));
        if let Some(command_id) = job.command_id
            && let Some(outcome) =
                self.commands.scan_ended(command_id, job.scan_id, error.as_deref())
        {
            self.ports.recorder.record(answer(command_id, outcome));
        }
    }

    /// Does what a command says; true if the agent is to restart.
    fn obey(&mut self, command: &AgentCommand) -> bool {
        let command_id = command.command_id;
        let now =
            Timestamp::from_unix_ms(Timestamp::wall_clock().unix_ms().saturating_add(self.skew_ms));
        let segments = match self.commands.take(command, now) {
            Action::Nothing => return false,
            Action::Answer(outcome) => {
                self.ports.recorder.record(answer(command_id, outcome));
                return false;
            }
            Action::Restart => {
                info!("the hub tells the agent to restart");
                self.ports
                    .recorder
                    .record(answer(command_id, Ok(serde_json::json!({ "restarting": true }))));
                return true;
            }
            Action::ScanAll => self.plan.enabled(),
            Action::Scan(segment_id) => {
                self.plan.segment(segment_id).cloned().into_iter().collect()
            }
        };
        let scans: HashSet<_> = segments
            .into_iter()
            .filter_map(|segment| self.plan.order(segment, command_id))
            .collect();
        if scans.is_empty() {
            let error = "there is no such segment to scan, or too many scans wait".to_owned();
            self.ports.recorder.record(answer(command_id, Err(error)));
        } else {
            self.commands.wait_for(command_id, scans);
            self.ports.recorder.record(begun(command_id));
        }
        false
    }

    /// Tells the machine's networks if they changed.
    fn look_at_networks(&mut self) {
        if !self.welcomed || !self.ports.networks {
            return;
        }
        match networks() {
            Ok(found) if self.networks.as_ref() != Some(&found) => {
                self.networks = Some(found.clone());
                self.ports
                    .recorder
                    .record(AgentFrame::Segments(Segments { seq: 0, networks: found }));
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "the machine does not tell its networks"),
        }
    }
}

fn scan_completed(
    scan_id: ScanId,
    segment_id: SegmentId,
    found: Result<Vec<DiscoveredDevice>, String>,
) -> AgentFrame {
    let (outcome, devices, error) = match found {
        Ok(devices) => (ScanOutcome::Completed, devices, None),
        Err(error) => (ScanOutcome::Failed, Vec::new(), Some(error)),
    };
    let finished_at = Timestamp::wall_clock();
    AgentFrame::ScanCompleted(ScanCompleted {
        seq: 0,
        scan_id,
        segment_id,
        finished_at,
        outcome,
        error,
        devices,
    })
}

async fn sleep_to(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
