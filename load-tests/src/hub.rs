//! The hub as a process: started on free ports with a private folder, killed, started again.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::machine::Pinning;
use crate::rest::http_client;

/// Where the hub keeps its data.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A file in the hub's folder.
    Sqlite,
    /// A server, and the key that the hub needs there for its secrets.
    Postgres { url: String, secret_key: String },
}

/// How to run a hub.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) binary: PathBuf,
    pub(crate) database: Database,
    pub(crate) folder: PathBuf,
    pub(crate) pinning: Option<Pinning>,
    /// What makes it a member of a cluster. None for a hub of its own.
    pub(crate) membership: Option<Membership>,
}

/// A node's place in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) redis_url: String,
    pub(crate) node: String,
}

impl Spec {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("PULSE_EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
            // A run with several nodes is understood by what they say of each other, or not at all.
            ("PULSE_LOG", std::env::var("PULSE_LOG").unwrap_or_else(|_| "warn".to_owned())),
            // One machine stands for thousands, and it is the hub that is measured, not its limits.
            ("PULSE_LIMIT_HANDSHAKES_PER_ADDRESS", "0".to_owned()),
            ("PULSE_LIMIT_HANDSHAKES_PER_NODE", "0".to_owned()),
            ("PULSE_LIMIT_FRAMES_PER_SECOND", "0".to_owned()),
        ];
        match &self.database {
            Database::Sqlite => {
                let file = self.folder.join("pulse.db");
                environment.push(("PULSE_DATABASE_URL", format!("sqlite://{}", file.display())));
            }
            Database::Postgres { url, secret_key } => {
                environment.push(("PULSE_DATABASE_URL", url.clone()));
                environment.push(("PULSE_SECRET_KEY", secret_key.clone()));
            }
        }
        if let Some(membership) = &self.membership {
            environment.push(("PULSE_REDIS_URL", membership.redis_url.clone()));
            environment.push(("PULSE_NODE_ID", membership.node.clone()));
        }
        environment
    }

    /// Makes an org and its owner with `admin bootstrap`; a hub may run beside it.
    pub(crate) async fn bootstrap(&self, email: &str, org: &str) -> Result<Bootstrapped> {
        let output = Command::new(&self.binary)
            .args(["admin", "bootstrap", "--email", email, "--org", org, "--plan", "unlimited"])
            .envs(self.environment())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        ensure!(
            output.status.success(),
            "`admin bootstrap` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout)
            .context("`admin bootstrap` did not print the agreed JSON")
    }
}

/// What `admin bootstrap` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Bootstrapped {
    pub(crate) org_id: pulse_protocol::ids::OrgId,
    /// None when the account was there already.
    pub(crate) api_token: Option<String>,
}

/// A hub: one this process started, or one that runs already.
#[derive(Debug)]
pub(crate) struct Hub {
    address: SocketAddr,
    ops_address: SocketAddr,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Own(Box<OwnProcess>),
    Foreign { pid: Option<u32> },
}

#[derive(Debug)]
struct OwnProcess {
    spec: Spec,
    /// Made once: making one takes longer than a hub takes to start.
    client: reqwest::Client,
    child: Option<Child>,
    starts: u32,
}

/// How long a hub may take to become ready, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);

impl Hub {
    /// A hub that can be started; nothing runs yet. Its ports stay the same over restarts.
    pub(crate) fn new(spec: Spec) -> Result<Self> {
        let client = http_client(Duration::from_secs(2))?;
        Ok(Self {
            address: free_address()?,
            ops_address: free_address()?,
            process: Process::Own(Box::new(OwnProcess { spec, client, child: None, starts: 0 })),
        })
    }

    /// A hub that somebody else runs; it is never killed.
    pub(crate) const fn foreign(address: SocketAddr, pid: Option<u32>) -> Self {
        Self { address, ops_address: address, process: Process::Foreign { pid } }
    }

    /// The public listener.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Own(own) => own.child.as_ref().and_then(Child::id),
            Process::Foreign { pid } => *pid,
        }
    }

    /// Starts the process and waits until `/readyz` answers 200. Returns how long that took from `exec`.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        let (address, ops_address) = (self.address, self.ops_address);
        let Process::Own(own) = &mut self.process else {
            bail!("this scenario starts and stops the hub: give it with --hub, not with --url");
        };
        let OwnProcess { spec, client, child, starts } = &mut **own;
        *starts += 1;
        let log_path = spec.folder.join(format!("hub-{starts}.log"));
        let log = File::create(&log_path).context("cannot write the hub's log")?;
        let mut command = match spec.pinning {
            Some(pinning) => pinning.on_hub_core(&spec.binary),
            None => Command::new(&spec.binary),
        };
        command
            .arg("serve")
            .envs(spec.environment())
            .env("PULSE_LISTEN", address.to_string())
            .env("PULSE_OPS_LISTEN", ops_address.to_string())
            .env("PULSE_PUBLIC_URL", format!("http://{address}"))
            .current_dir(&spec.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let began = Instant::now();
        let started =
            command.spawn().with_context(|| format!("cannot run {}", spec.binary.display()))?;
        let running = child.insert(started);
        wait_until_ready(client, address, running, &log_path).await?;
        Ok(began.elapsed())
    }

    /// Ends the hub without warning (SIGKILL) and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).await.map(|_| ())
    }

    /// Asks the hub to end (SIGTERM) and waits until it is gone.
    pub(crate) async fn terminate(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM).await
    }

    /// Stops the hub where it stands (SIGSTOP); whoever is connected notices nothing.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a paused hub go on (SIGCONT).
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if matches!(self.process, Process::Foreign { .. }) {
            bail!("this scenario stops the hub: give it with --hub, not with --url");
        }
        let pid = self.pid().context("the hub does not run")?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("cannot signal the hub")
    }

    async fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let Process::Own(own) = &mut self.process else {
            bail!("this scenario stops the hub: give it with --hub, not with --url");
        };
        let child = own.child.as_mut().context("the hub does not run")?;
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status =
            status.with_context(|| format!("the hub still runs {PATIENCE:?} after {signal}"))??;
        own.child = None;
        Ok(status)
    }

    /// How the hub ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.process {
            Process::Own(own) => Ok(own.child.as_mut().map(Child::try_wait).transpose()?.flatten()),
            Process::Foreign { .. } => Ok(None),
        }
    }

    /// Ends a hub of our own, however it stands; a foreign one is left alone.
    pub(crate) async fn dispose(&mut self) -> Result<()> {
        if matches!(&self.process, Process::Own(own) if own.child.is_some()) {
            self.kill().await?;
        }
        Ok(())
    }
}

async fn wait_until_ready(
    client: &reqwest::Client,
    address: SocketAddr,
    child: &mut Child,
    log: &Path,
) -> Result<()> {
    // No retry loop of a library: this is a measurement, so it asks at an even pace.
    let url = format!("http://{address}/readyz");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(answer) = client.get(&url).send().await
            && answer.status().is_success()
        {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the hub ended with {status} before it was ready:\n{}", tail(log));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the hub was not ready after {PATIENCE:?}:\n{}", tail(log));
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Below the range that outgoing connections take their ports from: while the hub is away, one of ten thousand
/// agents that try again could otherwise be given the hub's own port, and connect to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// An address on the loopback interface that nobody listens on.
///
/// # Errors
///
/// Returns an error when a hundred guesses were all taken.
pub(crate) fn free_address() -> Result<SocketAddr> {
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path, binary: &str) -> Spec {
        Spec {
            binary: binary.into(),
            database: Database::Sqlite,
            folder: folder.into(),
            pinning: None,
            membership: None,
        }
    }

    #[test]
    fn a_free_address_can_be_bound() {
        let address = free_address().unwrap();
        assert!(PORTS.contains(&address.port()));
        TcpListener::bind(address).unwrap();
    }

    #[tokio::test]
    async fn a_hub_that_ends_at_once_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut hub = Hub::new(spec(folder.path(), "/bin/false")).unwrap();
        let error = hub.start().await.unwrap_err().to_string();
        assert!(error.contains("before it was ready"), "{error}");
    }

    #[tokio::test]
    async fn a_foreign_hub_is_neither_started_nor_stopped() {
        let mut hub = Hub::foreign(free_address().unwrap(), Some(std::process::id()));
        assert!(hub.start().await.is_err());
        assert!(hub.kill().await.is_err());
        hub.dispose().await.unwrap();
    }

    #[tokio::test]
    async fn bootstrap_says_what_the_command_said() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            spec(folder.path(), "/bin/false").bootstrap("a@example.com", "A").await.unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
    }
}
