//! A private Redis that keeps nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::hub::free_address;

const PROGRAM: &str = "redis-server";
const START_WITHIN: Duration = Duration::from_secs(30);

/// A server on a free port; killed when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Redis {
    pub(crate) async fn start(folder: PathBuf) -> Result<Self> {
        let address = free_address()?;
        let child = spawn(address, &folder)?;
        let redis = Self { address, folder, child };
        redis.answers().await?;
        Ok(redis)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL; everything it knew is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill Redis")
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.child = spawn(self.address, &self.folder)?;
        self.answers().await
    }

    async fn answers(&self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while ping(self.address).await.is_err() {
            ensure!(Instant::now() < deadline, "Redis does not answer within {START_WITHIN:?}");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn spawn(address: SocketAddr, folder: &PathBuf) -> Result<Child> {
    Command::new(PROGRAM)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &address.port().to_string(), "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {PROGRAM}: install Redis"))
}

async fn ping(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    let is_pong = &answer == b"+PONG\r\n";
    is_pong.then_some(()).ok_or_else(|| std::io::Error::other("not the answer of a Redis"))
}
