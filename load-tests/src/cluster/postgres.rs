//! A private PostgreSQL with its usual durability, that can be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::hub::free_address;
use crate::machine::children;

const START_WITHIN: Duration = Duration::from_secs(60);
/// Who it runs as when this process is root, which the server refuses to be.
const USER: &str = "postgres";

/// A server on a free port; killed when dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    address: SocketAddr,
    programs: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    child: Child,
}

impl Postgres {
    /// Makes a server in `folder`, which exists and is empty, with the programs there or the newest installed ones.
    pub(crate) async fn start(folder: PathBuf, programs: Option<PathBuf>) -> Result<Self> {
        let programs = programs.map_or_else(newest_programs, Ok)?;
        let user = if geteuid().is_root() {
            let found = User::from_name(USER)?;
            Some(found.with_context(|| {
                format!("PostgreSQL refuses to run as root, and there is no user {USER}")
            })?)
        } else {
            None
        };
        if let Some(user) = &user {
            chown(&folder, Some(user.uid), Some(user.gid))?;
        }
        initialise(&programs, &folder, user.as_ref()).await?;
        let address = free_address()?;
        let child = spawn(&programs, &folder, user.as_ref(), address)?;
        let mut postgres = Self { address, programs, folder, user, child };
        postgres.answers().await?;
        Ok(postgres)
    }

    /// Of a superuser, without a password.
    pub(crate) fn url(&self) -> String {
        format!("postgres://pulse@{}/postgres", self.address)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL to every one of its processes.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let parent = self.child.id().context("PostgreSQL does not run")?;
        let started = children(parent)?;
        self.child.kill().await.context("cannot kill PostgreSQL")?;
        for child in started {
            // Those that saw their parent die have ended already.
            let _ = kill(Pid::from_raw(i32::try_from(child)?), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Starts it again on the same data and port, and waits until it has recovered.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            self.child = spawn(&self.programs, &self.folder, self.user.as_ref(), self.address)?;
            match self.answers().await {
                Ok(()) => return Ok(()),
                // The shared memory of the killed one goes with the last of its processes.
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        let port = self.address.port().to_string();
        loop {
            let asked = Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .await;
            if asked.context("cannot run pg_isready")?.success() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("PostgreSQL ended with {status}; see {}", log(&self.folder).display());
            }
            ensure!(
                Instant::now() < deadline,
                "PostgreSQL does not answer within {START_WITHIN:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // The user may not be able to enter the folder that this process is in.
    command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn initialise(programs: &Path, folder: &Path, user: Option<&User>) -> Result<()> {
    let output = command(&programs.join("initdb"), user)
        .args(["-U", "pulse", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
        .arg(folder.join("data"))
        .output()
        .await
        .context("cannot run initdb")?;
    ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn spawn(
    programs: &Path,
    folder: &Path,
    user: Option<&User>,
    address: SocketAddr,
) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log(folder))?;
    command(&programs.join("postgres"), user)
        .args(["-p", &address.port().to_string(), "-h", "127.0.0.1"])
        // No socket of its own: its path may be too long in this folder.
        .args(["-c", "unix_socket_directories=", "-c", "max_connections=300", "-D"])
        .arg(folder.join("data"))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run postgres")
}

/// Debian keeps the programs off the path, in a folder for each version.
fn newest_programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<f64>().ok();
    let known = versions.filter_map(|entry| Some((version(&entry.path())?, entry.path())));
    let newest = known.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let installed = newest.map(|(_, path)| path.join("bin"));
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    installed
        .filter(|folder| folder.join("initdb").is_file())
        .or(on_path)
        .context("initdb is missing: install the PostgreSQL server, or say --postgres-bin")
}
