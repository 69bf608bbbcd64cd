//! A loaded hub: agents, viewers, and the proof at the end that nothing was lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, try_join_all};
use pulse_protocol::ids::{CheckId, OrgId};
use pulse_protocol::status::DeviceStatus;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::{AgentRecord, SimAgent, SimDevice};
use crate::checker::{self, Fault};
use crate::crew::{Crew, Mode, Tally};
use crate::entrance::Entrance;
use crate::fleet::{Fleet, FleetOrg};
use crate::hub::Hub;
use crate::journal::{self, Journal};
use crate::rest::Api;
use crate::session::Freshness;
use crate::socket::{first_text, open_dashboard};
use crate::viewer::{Audience, Curtain, SimViewer, ViewerRecord};
use crate::wire::{Clock, Kind, glance};

/// How a fleet is set to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) reports_per_frame: usize,
    /// First connections under way at once.
    pub(crate) in_flight: usize,
    pub(crate) backoff_max: Duration,
    pub(crate) viewers: usize,
    pub(crate) sample_every: u64,
}

/// Longest wait of a real agent between two attempts, by the protocol.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Nothing in a run is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Agents and viewers at work on a hub.
pub(crate) struct Rig {
    pub(crate) api: Api,
    pub(crate) crew: Arc<Crew>,
    pub(crate) audience: Arc<Audience>,
    fleet: Arc<Fleet>,
    mode: watch::Sender<Mode>,
    curtain: watch::Sender<Curtain>,
    agents: Vec<JoinHandle<AgentRecord>>,
    viewers: Vec<JoinHandle<ViewerRecord>>,
    /// Of every agent that has devices: its newest change that was acked.
    pub(crate) acked: Vec<Arc<Freshness>>,
    /// Of every viewer: the newest change it saw.
    pub(crate) seen: Vec<Arc<Freshness>>,
    /// The last number of each org before anything began.
    baseline: HashMap<OrgId, u64>,
}

/// What a rig leaves for a scenario's own checks.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) faults: Vec<Fault>,
    pub(crate) journals: HashMap<OrgId, Journal>,
    pub(crate) records: Vec<AgentRecord>,
}

impl Verdict {
    /// Changes that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.records.iter().map(|record| record.sent.len()).sum()
    }
}

/// The journals at the end of a run, and what viewers have to say about them.
#[derive(Debug)]
pub(crate) struct Reading {
    journals: HashMap<OrgId, Journal>,
    faults: Vec<Fault>,
}

impl Rig {
    /// Starts the viewers, then the agents; waits for neither agent.
    pub(crate) async fn start(hub: &Hub, fleet: Arc<Fleet>, shape: Shape) -> Result<Self> {
        let address = hub.address();
        Self::through(Entrance::single(address), address, fleet, shape).await
    }

    /// As [`Self::start`], at the nodes behind an entrance; REST goes to one of them.
    pub(crate) async fn through(
        entrance: Arc<Entrance>,
        rest: SocketAddr,
        fleet: Arc<Fleet>,
        shape: Shape,
    ) -> Result<Self> {
        let api = Api::new(rest)?;
        let clock = Clock::start();
        let (mode, mode_seen) = watch::channel(Mode::Idle);
        let (curtain, curtain_seen) = watch::channel(Curtain::Open);
        let audience =
            Arc::new(Audience::new(Arc::clone(&entrance), clock, curtain_seen, shape.sample_every));
        let crew = Arc::new(Crew {
            entrance,
            clock,
            mode: mode_seen,
            reports_per_frame: shape.reports_per_frame,
            backoff_max: shape.backoff_max,
            doors: Semaphore::new(shape.in_flight.max(1)),
            tally: Tally::new(),
        });
        let baseline = baseline(rest, &fleet).await?;
        let devices = devices(&api, &fleet).await?;
        let mut rig = Self {
            api,
            crew,
            audience,
            fleet,
            mode,
            curtain,
            agents: Vec::new(),
            viewers: Vec::new(),
            acked: Vec::new(),
            seen: Vec::new(),
            baseline,
        };
        rig.seat(shape.viewers).await?;
        rig.send_out(&devices);
        Ok(rig)
    }

    async fn seat(&mut self, viewers: usize) -> Result<()> {
        let orgs = self.fleet.orgs.iter().cycle().take(viewers).enumerate();
        for (number, org) in orgs {
            let viewer =
                SimViewer::new(Arc::clone(&self.audience), org.id, org.token.clone(), number);
            self.seen.push(viewer.freshness());
            self.viewers.push(tokio::spawn(viewer.run()));
        }
        let mut watching = self.audience.watching.subscribe();
        let all = timeout(PATIENCE, watching.wait_for(|watching| *watching >= viewers)).await;
        all.context("not every viewer got its snapshot")?.context("the audience is gone")?;
        Ok(())
    }

    fn send_out(&mut self, devices: &HashMap<CheckId, bool>) {
        // One agent of each org in turn, so that no org's home is met by all at once.
        let longest = self.fleet.orgs.iter().map(|org| org.agents.len()).max().unwrap_or(0);
        for number in 0..longest {
            for agent in self.fleet.orgs.iter().filter_map(|org| org.agents.get(number)) {
                let has_devices = !agent.devices.is_empty();
                let devices = agent
                    .devices
                    .iter()
                    .map(|device| SimDevice {
                        check_id: device.check_id,
                        online: devices.get(&device.check_id).copied().unwrap_or(false),
                    })
                    .collect();
                let agent =
                    SimAgent::new(Arc::clone(&self.crew), agent.id, agent.key.clone(), devices);
                if has_devices {
                    self.acked.push(agent.freshness());
                }
                self.agents.push(tokio::spawn(agent.run()));
            }
        }
    }

    pub(crate) fn agents(&self) -> usize {
        self.agents.len()
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until every agent is welcomed.
    pub(crate) async fn all_online(&self) -> Result<()> {
        self.online_within(PATIENCE).await
    }

    /// As [`Self::all_online`], for so long.
    pub(crate) async fn online_within(&self, patience: Duration) -> Result<()> {
        let mut online = self.crew.tally.online.subscribe();
        let all = self.agents.len();
        let waited = timeout(patience, online.wait_for(|online| *online >= all)).await;
        if waited.is_err() {
            bail!(
                "{} of {all} agents are welcomed after {patience:?}; {} attempts failed{}",
                *self.crew.tally.online.borrow(),
                self.crew.tally.failed_attempts.load(Ordering::Relaxed),
                self.crew.tally.first_fault().map_or(String::new(), |fault| format!("; {fault}"))
            );
        }
        Ok(())
    }

    /// Stops the load and waits until all that was sent is acked.
    pub(crate) async fn drain(&self) -> Result<()> {
        self.set(Mode::Idle);
        let deadline = Instant::now() + PATIENCE;
        while self.crew.tally.unacked_frames.load(Ordering::Relaxed) > 0 {
            if Instant::now() > deadline {
                let left = self.crew.tally.unacked_frames.load(Ordering::Relaxed);
                bail!("{left} frames are not acked {PATIENCE:?} after the load ended");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Changes acked so far.
    pub(crate) fn changes_acked(&self) -> u64 {
        self.crew.tally.acked_changes.load(Ordering::Relaxed)
    }

    /// Reads the journals, lets the viewers see their end, ends the hub and compares everything.
    ///
    /// The hub goes first: what closes a connection first keeps its port busy for a minute, and the agents' ports
    /// are needed for the next run.
    pub(crate) async fn finish(mut self, hub: &mut Hub) -> Result<Verdict> {
        let reading = self.read().await?;
        hub.dispose().await?;
        self.conclude(reading).await
    }

    /// Reads the journals and lets the viewers see their end.
    pub(crate) async fn read(&mut self) -> Result<Reading> {
        let mut journals = HashMap::new();
        for org in &self.fleet.orgs {
            journals.insert(org.id, journal::read(&self.api, org, self.baseline[&org.id]).await?);
        }
        let faults = self.dismiss_viewers(&journals).await?;
        Ok(Reading { journals, faults })
    }

    /// Sends the agents away, once no hub runs any more, and compares what they sent with what was read.
    pub(crate) async fn conclude(mut self, reading: Reading) -> Result<Verdict> {
        let Reading { journals, mut faults } = reading;
        self.set(Mode::Stop);
        let records = join_all(std::mem::take(&mut self.agents)).await;
        let records: Vec<AgentRecord> = records.into_iter().collect::<Result<_, _>>()?;
        faults.extend(self.crew.tally.take_faults());
        faults.extend(journals.values().flat_map(|journal| journal.faults.clone()));
        for record in &records {
            let seen = journals.values().find_map(|journal| journal.changes.get(&record.id));
            let seen = seen.map_or(&[][..], Vec::as_slice);
            faults.extend(checker::changes(
                &record.id.to_string(),
                &record.sent,
                record.acked,
                seen,
            ));
        }
        Ok(Verdict { faults, journals, records })
    }

    async fn dismiss_viewers(&mut self, journals: &HashMap<OrgId, Journal>) -> Result<Vec<Fault>> {
        let lasts = journals.iter().map(|(org, journal)| (*org, journal.last)).collect();
        self.curtain.send_replace(Curtain::After(Arc::new(lasts)));
        let mut leaving = Box::pin(join_all(std::mem::take(&mut self.viewers)));
        let records = match timeout(PATIENCE, &mut leaving).await {
            Ok(records) => records,
            Err(_) => {
                self.curtain.send_replace(Curtain::Now);
                leaving.await
            }
        };
        let mut faults = Vec::new();
        for record in records {
            let ViewerRecord { org, last, faults: found } = record?;
            faults.extend(found);
            if last < journals[&org].last {
                let what = format!(
                    "a viewer of {org} got {last}, the journal has {}",
                    journals[&org].last
                );
                faults.push(Fault::Lost { what });
            }
        }
        Ok(faults)
    }
}

/// The last number of each org, from the snapshot that a new dashboard is given.
async fn baseline(rest: SocketAddr, fleet: &Fleet) -> Result<HashMap<OrgId, u64>> {
    let one = async |org: &FleetOrg| -> Result<(OrgId, u64)> {
        let mut socket = open_dashboard(rest, org.id, &org.token, None).await?;
        let frame = first_text(&mut socket).await?;
        let first = glance(frame.as_bytes())?;
        if first.kind != Kind::Snapshot {
            bail!("a new dashboard's first frame is {:?}, not a snapshot", first.kind);
        }
        Ok((org.id, first.seq))
    };
    try_join_all(fleet.orgs.iter().map(one)).await.map(|found| found.into_iter().collect())
}

/// Which checks are online now: the first report of each must be a change.
async fn devices(api: &Api, fleet: &Fleet) -> Result<HashMap<CheckId, bool>> {
    let mut online = HashMap::new();
    for org in
        fleet.orgs.iter().filter(|org| org.agents.iter().any(|agent| !agent.devices.is_empty()))
    {
        for check in api.devices(org.tenant()).await?.into_iter().flat_map(|device| device.checks) {
            online.insert(check.id, check.status == DeviceStatus::Online);
        }
    }
    Ok(online)
}
