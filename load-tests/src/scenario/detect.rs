//! `detect`: from an agent's death to the dashboard that shows it (T7).
//!
//! Two deaths: the socket closes without a word, as when a process is killed; or nothing comes any more and the
//! socket stays open, as when a machine loses its power. The second is timed from just after a heartbeat, the
//! longest it can take. Each is measured at the default settings and at tighter ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt};
use pulse_protocol::agent::{AgentFrame, Heartbeat};
use pulse_protocol::ids::AgentId;
use rand::Rng;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::checker::Fault;
use crate::cli::DetectArgs;
use crate::fleet::{FleetAgent, FleetOrg};
use crate::output::Run;
use crate::rest::{Api, Liveness};
use crate::scenario::part_of;
use crate::socket::{Socket, first_text, json_text, open_agent, open_dashboard};
use crate::stage::World;
use crate::stats::Latencies;
use crate::wire::{Kind, glance};

/// How an agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Closed,
    Silent,
}

/// One way to die under one setting; each has an org of its own.
#[derive(Debug)]
pub(crate) struct Case {
    name: &'static str,
    death: Death,
    liveness: Liveness,
    /// What it may take beyond timeout and grace, and what is aimed for.
    target: &'static str,
}

const fn liveness(interval_ms: u64, timeout_ms: u64, grace_ms: u64) -> Liveness {
    Liveness {
        heartbeat_interval_ms: interval_ms,
        heartbeat_timeout_ms: timeout_ms,
        offline_grace_ms: grace_ms,
    }
}

/// The defaults: 5 s after a closed socket, 17 s after a silent death.
const DEFAULTS: Liveness = liveness(5_000, 12_000, 5_000);
/// Adds up to the 6 s that the protocol names: timeout 5 s and grace 1 s, at the shortest interval.
const SIX_SECONDS: Liveness = liveness(1_000, 5_000, 1_000);
/// The smallest values within the bounds: interval and grace of 1 s, a timeout of twice the interval.
const SMALLEST: Liveness = liveness(1_000, 2_000, 1_000);

/// Every case that is measured, at the same time.
pub(crate) static CASES: [Case; 5] = [
    Case {
        name: "closed socket, defaults (5 s)",
        death: Death::Closed,
        liveness: DEFAULTS,
        target: "T7 must 5.5 aim 5.1",
    },
    Case {
        name: "silent death, defaults (17 s)",
        death: Death::Silent,
        liveness: DEFAULTS,
        target: "T7 must 18 aim 17.3",
    },
    Case {
        name: "silent death, 1/5/1 s (6 s)",
        death: Death::Silent,
        liveness: SIX_SECONDS,
        target: "T7 must 7 aim 6.3",
    },
    Case {
        name: "silent death, 1/2/1 s (3 s)",
        death: Death::Silent,
        liveness: SMALLEST,
        target: "T7 must 4 aim 3.3",
    },
    Case {
        name: "closed socket, 1/2/1 s (1 s)",
        death: Death::Closed,
        liveness: SMALLEST,
        target: "T7 must 1.5 aim 1.1",
    },
];

/// Deaths are spread over this, so that they do not meet in one commit or one sweep.
const SPREAD: Duration = Duration::from_secs(5);
/// A death that is not announced so long after it should have been is lost.
const LATE: Duration = Duration::from_secs(10);

impl Case {
    /// The wait that the settings themselves ask for.
    const fn owed(&self) -> Duration {
        let timeout_ms = match self.death {
            Death::Closed => 0,
            Death::Silent => self.liveness.heartbeat_timeout_ms,
        };
        Duration::from_millis(timeout_ms + self.liveness.offline_grace_ms)
    }
}

pub(crate) async fn run(args: &DetectArgs, world: &mut World) -> Result<Run> {
    let api = Api::new(world.hub.address())?;
    let changes = CASES.iter().zip(&world.fleet.orgs);
    try_join_all(changes.map(|(case, org)| api.change_org(org.tenant(), case.liveness))).await?;

    let (world, mut run) = (&*world, Run::default());
    let cases = CASES.iter().zip(&world.fleet.orgs);
    let found =
        try_join_all(cases.map(|(case, org)| one_case(case, org, args.agents, world))).await?;
    for (case, latencies, faults) in found {
        run.figure(
            &format!("{}: slowest", case.name),
            "s",
            latencies.max_ms() / 1_000.0,
            case.target,
        );
        let median = latencies.percentile_ms(50.0) / 1_000.0;
        run.figure(&format!("{}: median", case.name), "s", median, "");
        let over_ms = latencies.max_ms() - case.owed().as_secs_f64() * 1_000.0;
        run.figure(&format!("{}: beyond the wait", case.name), "ms", over_ms, "");
        run.latencies.insert(case.name, latencies);
        run.faults.extend(faults);
    }
    run.note("settings are heartbeat interval / timeout / grace; silent deaths are timed from a heartbeat");
    Ok(run)
}

async fn one_case(
    case: &'static Case,
    org: &FleetOrg,
    agents: usize,
    world: &World,
) -> Result<(&'static Case, Latencies, Vec<Fault>)> {
    let address = world.hub.address();
    let mut dashboard = open_dashboard(address, org.id, &org.token, None).await?;
    first_text(&mut dashboard).await?;

    let (bury, over) = watch::channel(false);
    let agents = &org.agents[..agents.min(org.agents.len())];
    let connected = try_join_all(agents.iter().map(|agent| connect(address, agent))).await?;
    let began = Instant::now();
    let dying = connected.into_iter().map(|(id, socket)| {
        let death = Dying {
            id,
            socket,
            case,
            at: began + case_delay(case) + part_of(SPREAD),
            over: over.clone(),
        };
        tokio::spawn(death.run_owned())
    });
    let dying: Vec<_> = dying.collect();

    let patience = case_delay(case) + SPREAD + case.owed() + LATE;
    let announced = announcements(&mut dashboard, agents.len(), patience).await?;
    bury.send_replace(true);
    let mut latencies = Latencies::new();
    let mut faults = Vec::new();
    for death in join_all(dying).await {
        let (id, died_at) = death??;
        match announced.get(&id).map(|seen| seen.saturating_duration_since(died_at)) {
            None => faults.push(Fault::Lost {
                what: format!("{}: agent {id} was never announced", case.name),
            }),
            // A death is timed before it is carried out, so an earlier announcement is a false one.
            Some(took) if took < case.owed() => {
                let text = format!("{}: agent {id} was announced after {took:?} only", case.name);
                faults.push(Fault::Broken(text));
            }
            Some(took) => latencies.record(took),
        }
    }
    Ok((case, latencies, faults))
}

/// Long enough for every agent to have sent heartbeats.
fn case_delay(case: &Case) -> Duration {
    Duration::from_millis(2 * case.liveness.heartbeat_interval_ms)
}

async fn connect(address: std::net::SocketAddr, agent: &FleetAgent) -> Result<(AgentId, Socket)> {
    let spool_id = format!("{:032x}", rand::rng().random::<u128>());
    let (socket, _) = open_agent(address, &agent.key, &spool_id, 1)
        .await
        .with_context(|| format!("agent {} did not get in", agent.id))?;
    Ok((agent.id, socket))
}

/// When each of `count` agents was announced offline, as the dashboard receives it.
async fn announcements(
    dashboard: &mut Socket,
    count: usize,
    patience: Duration,
) -> Result<HashMap<AgentId, Instant>> {
    #[derive(Deserialize)]
    struct Event {
        event: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        agent_id: Option<AgentId>,
    }
    let mut announced = HashMap::new();
    let collecting = async {
        while announced.len() < count {
            let text = first_text(dashboard).await?;
            let now = Instant::now();
            if glance(text.as_bytes())?.kind != Kind::Event {
                continue;
            }
            let event: Event = serde_json::from_str(&text)?;
            if event.event == "agent.offline"
                && let Some(agent) = event.data.agent_id
            {
                announced.entry(agent).or_insert(now);
            }
        }
        anyhow::Ok(())
    };
    // Those that are missing when time runs out are faults of the case.
    if let Ok(done) = timeout(patience, collecting).await {
        done?;
    }
    Ok(announced)
}

struct Dying {
    id: AgentId,
    socket: Socket,
    case: &'static Case,
    at: Instant,
    over: watch::Receiver<bool>,
}

impl Dying {
    /// Lives, dies at its time, and says when that was.
    async fn run_owned(mut self) -> Result<(AgentId, Instant)> {
        let interval = Duration::from_millis(self.case.liveness.heartbeat_interval_ms);
        // Spread over the interval, as real agents are.
        sleep(part_of(interval)).await;
        while Instant::now() < self.at {
            self.beat().await?;
            let next = Instant::now() + interval;
            self.listen_until(next.min(self.at)).await?;
        }
        if self.case.death == Death::Silent {
            self.beat().await?;
        }
        let died_at = Instant::now();
        match self.case.death {
            // No close frame: the kernel ends the connection of a process that is gone.
            Death::Closed => drop(self.socket),
            // The socket stays open, and nothing reads or answers it.
            Death::Silent => {
                self.over.wait_for(|is_over| *is_over).await?;
            }
        }
        Ok((self.id, died_at))
    }

    async fn beat(&mut self) -> Result<()> {
        let beat = AgentFrame::Heartbeat(Heartbeat { uptime_s: 1, spool_depth: 0, load: None });
        self.socket
            .send(Message::Text(json_text(&beat)))
            .await
            .context("a living agent lost its connection")
    }

    /// Reads on, so that pings are answered.
    async fn listen_until(&mut self, at: Instant) -> Result<()> {
        let deadline = sleep_until(at.into());
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = &mut deadline => return Ok(()),
                frame = self.socket.next() => {
                    frame.context("a living agent lost its connection")??;
                }
            }
        }
    }
}
