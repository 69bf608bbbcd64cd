//! `idle`: what an empty hub and an idle agent cost (T10).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::cli::IdleArgs;
use crate::fleet::{self, FleetOrg};
use crate::machine::Look;
use crate::output::Run;
use crate::rest::Api;
use crate::stage::World;

/// The start is over by then.
const SETTLE: Duration = Duration::from_secs(3);
/// An agent that is not online after this will not be.
const PATIENCE: Duration = Duration::from_secs(30);
const MIB_IN_KIB: f64 = 1_024.0;

pub(crate) async fn run(args: &IdleArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    if let Some(fresh) = world.ready_after {
        run.figure("ready, tables to be made", "s", fresh.as_secs_f64(), "T10 must 2 aim 0.3");
    }
    world.hub.terminate().await?;
    let again = world.hub.start().await?;
    run.figure("ready, tables there", "s", again.as_secs_f64(), "T10 must 2 aim 0.3");
    sleep(SETTLE).await;
    let pid = world.hub.pid().context("the hub does not run")?;
    let before = Look::at(pid)?;
    sleep(Duration::from_secs(args.common.seconds.unwrap_or(30))).await;
    let after = Look::at(pid)?;
    run.figure("RSS of the empty hub", "MiB", after.rss_kib / MIB_IN_KIB, "T10 must 60 aim 25");
    if let Some(pss) = after.pss_kib {
        run.figure("PSS of the empty hub", "MiB", pss / MIB_IN_KIB, "");
    }
    run.figure("CPU of the empty hub", "% core", after.cpu_pct_since(&before), "");
    if let Some(agent) = &args.agent {
        measure_agent(args, agent, world, &mut run).await?;
    }
    Ok(run)
}

/// Runs the real agent with TCP checks of a port of ours.
async fn measure_agent(args: &IdleArgs, binary: &Path, world: &World, run: &mut Run) -> Result<()> {
    let binary =
        binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))?;
    let spec =
        world.spec.as_ref().context("the agent's cost is measured on a hub given with --hub")?;
    let api = Api::new(world.hub.address())?;
    let orgs = fleet::bootstrap(spec, 1).await?;
    let org = orgs.first().context("no org was made")?;
    let created = api.create_agent(org.tenant(), "measured".to_owned()).await?;
    let target = TcpListener::bind("127.0.0.1:0").await?;
    let port = target.local_addr()?.port();
    tokio::spawn(async move { while target.accept().await.is_ok() {} });
    for number in 0..args.checks {
        let body = json!({
            "agent_id": created.agent.id,
            "name": format!("device {number}"),
            "address": format!("127.0.{}.{}", number / 250, number % 250 + 1),
            "checks": [{ "check": "tcp", "port": port, "interval_s": 60 }],
        });
        api.create_device(org.tenant(), &body).await?;
    }

    let folder = spec.folder.join("agent");
    std::fs::create_dir(&folder)?;
    let hub_url = format!("http://{}", world.hub.address());
    let mut agent = start_agent(&binary, &folder, &hub_url, &created.api_key)?;
    wait_until_online(&api, org, &mut agent).await?;
    sleep(SETTLE).await;
    let pid = agent.id().context("the agent is gone")?;
    let before = Look::at(pid)?;
    // Two rounds of checks; a window shorter than one round would miss some.
    sleep(Duration::from_secs(args.common.seconds.unwrap_or(120))).await;
    let after = Look::at(pid)?;
    run.figure("RSS of the agent", "MiB", after.rss_kib / MIB_IN_KIB, "T10 must 25 aim 12");
    run.figure("CPU of the agent", "% core", after.cpu_pct_since(&before), "T10 must 1 aim 0.3");
    let size = std::fs::metadata(&binary)?.len() as f64 / 1_000_000.0;
    run.figure("binary of the agent", "MB", size, "T10 must 20 aim 10");
    agent.kill().await.context("cannot end the agent")
}

fn start_agent(binary: &Path, folder: &Path, hub_url: &str, key: &str) -> Result<Child> {
    let log = std::fs::File::create(folder.join("agent.log"))?;
    Command::new(binary)
        .env("PULSE_HUB_URL", hub_url)
        .env("PULSE_AGENT_KEY", key)
        .env("PULSE_AGENT_DATA_DIR", folder)
        .env("PULSE_AGENT_NETWORKS", "off")
        .env("PULSE_LOG", "warn")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))
}

async fn wait_until_online(api: &Api, org: &FleetOrg, agent: &mut Child) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = crate::journal::read(api, org, 0).await?;
        if !events.online.is_empty() {
            return Ok(());
        }
        ensure!(agent.try_wait()?.is_none(), "the agent ended; see agent.log in the hub's folder");
        ensure!(Instant::now() < deadline, "the agent is not online after {PATIENCE:?}");
        sleep(Duration::from_millis(100)).await;
    }
}
