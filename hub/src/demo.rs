//! `pulse-hub demo`: a hub, three agents and a webhook receiver on this machine, to try it out.
//!
//! Everything is real: the hub and the agents are processes of their own, the devices are checked over the
//! network stack, and what the receiver prints came through the rules and was signed. It starts from nothing
//! each time and ends with Ctrl-C.

mod fleet;
mod receiver;
mod target;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use backoff::ExponentialBackoffBuilder;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoArgs;
use fleet::Fleet;
use receiver::Receiver;

/// The demo's owner.
const EMAIL: &str = "demo@example.com";
/// Where the page is, if nothing else listens there.
const USUAL_PORT: u16 = 8080;
/// How long the hub may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// One agent for each name.
const AGENT_NAMES: [&str; 3] = ["Head office", "Warehouse", "Data centre"];

/// What `admin bootstrap` prints.
#[derive(Deserialize)]
struct Account {
    org_id: String,
    api_token: String,
    password: String,
}

/// Runs the demo until Ctrl-C, or until its hub ends.
///
/// # Errors
///
/// Returns an error if a part does not start.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let hub_program = std::env::current_exe().context("this program's own path is not known")?;
    let agent_program = args.agent.unwrap_or_else(|| hub_program.with_file_name("pulse-agent"));
    ensure!(agent_program.is_file(), "{} is missing: build pulse-agent", agent_program.display());
    let folder = empty_folder(&args.dir)?;

    say("starting the hub …")?;
    let address = free_address(Some(USUAL_PORT))?;
    let hub_settings = HubSettings { folder: &folder, address, ops_address: free_address(None)? };
    let mut hub = hub_settings.start(&hub_program)?;
    wait_until_ready(&hub_settings).await?;
    let account = hub_settings.bootstrap(&hub_program).await?;

    say("starting the webhook receiver and the targets …")?;
    let receiver = Receiver::start()?;
    let target = target::start().await?;

    say("starting three agents …")?;
    let hub_url = format!("http://{address}");
    let fleet = Fleet::new(&hub_url, &account.org_id, &account.api_token)?;
    receiver.expect_secret(fleet.add_alerts(&receiver.url()).await?)?;
    let mut agents = Vec::new();
    for (number, name) in AGENT_NAMES.into_iter().enumerate() {
        let api_key = fleet.add_agent(name, number, target, &receiver.url()).await?;
        agents.push((name, start_agent(&agent_program, &folder, &hub_url, number, &api_key)?));
    }

    say(&format!(
        "\nThe hub runs at {hub_url}\n  sign in as   {EMAIL}\n  password     {}\n",
        account.password
    ))?;
    say("Stop an agent and watch the page; the webhook follows below:")?;
    for (name, agent) in &agents {
        if let Some(pid) = agent.id() {
            say(&format!("  kill {pid:<8} {name}"))?;
        }
    }
    say(&format!("\nLogs are in {}. Ctrl-C stops everything.\n", folder.display()))?;
    until_stopped(&mut hub).await
}

/// Children are killed as they are dropped, so that nothing outlives the demo.
async fn until_stopped(hub: &mut Child) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        _ = terminate.recv() => Ok(()),
        ended = hub.wait() => bail!("the hub ended: {}", ended?),
    }
}

/// Prints a line for the person who watches.
fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn empty_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        // Someone may name a folder of their own: only what a demo left behind is thrown away.
        let ours = folder.join(MARK).exists() || std::fs::read_dir(folder)?.next().is_none();
        ensure!(ours, "{} is not empty and was not made by a demo", folder.display());
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(MARK), "")?;
    Ok(folder.canonicalize()?)
}

/// Marks a folder that a demo made.
const MARK: &str = ".pulse-demo";

/// A free port of the loopback interface: the wanted one if it is free.
fn free_address(wanted: Option<u16>) -> anyhow::Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = wanted.and_then(|port| bind(port).ok()).map_or_else(|| bind(0), Ok)?;
    Ok(listener.local_addr()?)
}

struct HubSettings<'a> {
    folder: &'a Path,
    address: SocketAddr,
    ops_address: SocketAddr,
}

impl HubSettings<'_> {
    fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = clean_command(program);
        // An empty file, so that a pulse.toml in the working directory is left out.
        let file = self.folder.join("pulse.toml");
        std::fs::write(&file, "")?;
        command
            .arg("--config")
            .arg(file)
            .env("PULSE_LISTEN", self.address.to_string())
            .env("PULSE_OPS_LISTEN", self.ops_address.to_string())
            .env(
                "PULSE_DATABASE_URL",
                format!("sqlite://{}", self.folder.join("pulse.db").display()),
            )
            .env("PULSE_EGRESS_ALLOW", "127.0.0.0/8");
        Ok(command)
    }

    fn start(&self, program: &Path) -> anyhow::Result<Child> {
        let mut command = self.command(program)?;
        command.arg("serve").stderr(log_file(self.folder, "hub")?);
        command.spawn().context("the hub does not start")
    }

    async fn bootstrap(&self, program: &Path) -> anyhow::Result<Account> {
        let mut command = self.command(program)?;
        command.args(["admin", "bootstrap", "--email", EMAIL, "--org", "Demo", "--plan", "trial"]);
        let output = command.stderr(Stdio::inherit()).output().await?;
        ensure!(output.status.success(), "admin bootstrap failed: {}", output.status);
        serde_json::from_slice(&output.stdout).context("admin bootstrap printed something else")
    }
}

async fn wait_until_ready(settings: &HubSettings<'_>) -> anyhow::Result<()> {
    let url = format!("http://{}/readyz", settings.ops_address);
    let client = reqwest::Client::new();
    let pauses = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(50))
        .with_max_interval(Duration::from_millis(500))
        .with_max_elapsed_time(Some(READY_WITHIN))
        .build();
    backoff::future::retry(pauses, || async {
        let answer = client.get(&url).send().await.map_err(backoff::Error::transient)?;
        answer.error_for_status().map_err(backoff::Error::transient)
    })
    .await
    .with_context(|| format!("the hub is not ready: see {}/hub.log", settings.folder.display()))?;
    Ok(())
}

fn start_agent(
    program: &Path,
    folder: &Path,
    hub_url: &str,
    number: usize,
    api_key: &str,
) -> anyhow::Result<Child> {
    let name = format!("agent-{}", number + 1);
    let mut command = clean_command(program);
    command
        .env("PULSE_HUB_URL", hub_url)
        .env("PULSE_AGENT_KEY", api_key)
        .env("PULSE_AGENT_DATA_DIR", folder.join(&name))
        // A look at the product is no reason to ping whoever else is on this machine's network.
        .env("PULSE_AGENT_NETWORKS", "off")
        .stderr(log_file(folder, &name)?);
    command.spawn().with_context(|| format!("{name} does not start"))
}

/// A child that is killed with the demo and knows nothing of the caller's own settings.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PULSE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn log_file(folder: &Path, name: &str) -> anyhow::Result<Stdio> {
    Ok(std::fs::File::create(folder.join(format!("{name}.log")))?.into())
}
