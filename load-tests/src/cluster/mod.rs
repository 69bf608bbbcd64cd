//! Several hubs on one PostgreSQL and one Redis, both of this process where it may kill them.

pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod redis;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use url::Url;

use crate::cluster::postgres::Postgres;
use crate::cluster::proxy::Wire;
use crate::cluster::redis::Redis;
use crate::fleet::{self, Fleet, Plan};
use crate::hub::{Database, Hub, Membership, Spec};
use crate::machine::Pinning;
use crate::output::say;

/// What a run of a cluster is built on.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) binary: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) pinning: Option<Pinning>,
    /// The PostgreSQL to use. None: one is made for the run.
    pub(crate) database: Option<String>,
    pub(crate) postgres_programs: Option<PathBuf>,
}

/// A PostgreSQL with a fleet in it, and no hub on it yet.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) fleet: Fleet,
    pub(crate) postgres: Option<Postgres>,
    /// Of a hub on it that is no member of anything.
    pub(crate) spec: Spec,
    folders: Vec<TempDir>,
}

impl Site {
    /// Makes a server, unless one is given, and the fleet.
    pub(crate) async fn prepare(ground: &Ground, plan: Plan) -> Result<Self> {
        let folder = TempDir::with_prefix_in("run-", &ground.out)?;
        let mut folders = Vec::new();
        let (postgres, url) = match &ground.database {
            Some(url) => (None, url.clone()),
            None => {
                let data = TempDir::with_prefix_in("postgres-", &ground.out)?;
                let programs = ground.postgres_programs.clone();
                let postgres = Postgres::start(data.path().to_path_buf(), programs).await?;
                let url = postgres.url();
                folders.push(data);
                (Some(postgres), url)
            }
        };
        let database = Database::Postgres { url, secret_key: fleet::new_secret_key() };
        let path = folder.path().to_path_buf();
        folders.push(folder);
        let spec = Spec {
            binary: ground.binary.clone(),
            database,
            folder: path,
            pinning: ground.pinning,
            membership: None,
        };
        let file = spec.folder.join("fleet.json");
        let fleet = fleet::prepare(&spec, plan, &file).await?.fleet;
        Ok(Self { fleet, postgres, spec, folders })
    }

    /// Keeps the data and the logs beyond the end of this process.
    pub(crate) fn keep(self) {
        let kept: Vec<String> =
            self.folders.into_iter().map(|folder| folder.keep().display().to_string()).collect();
        say(&format!("the data and the logs are kept in {}", kept.join(" and ")));
    }
}

/// How nodes reach what they stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// As anybody would: where costs are measured.
    Direct,
    /// Through this process, which can cut each wire.
    Breakable,
}

/// One node, and its wires to what it stands on.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) redis: Wire,
    pub(crate) postgres: Wire,
}

/// All nodes, and their Redis.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
}

impl Cluster {
    /// Starts Redis, and so many nodes one after the other.
    pub(crate) async fn start(site: &Site, count: usize, wiring: Wiring) -> Result<Self> {
        let redis = Redis::start(site.spec.folder.clone()).await?;
        let mut nodes = Vec::new();
        for number in 1..=count {
            let mut node = Node::new(site, &redis, number, wiring).await?;
            node.hub.start().await?;
            nodes.push(node);
        }
        Ok(Self { nodes, redis })
    }

    /// Where agents and dashboards find the nodes.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.hub.address()).collect()
    }

    /// Ends every node, however it stands.
    pub(crate) async fn dispose(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.hub.dispose().await?;
        }
        Ok(())
    }
}

impl Node {
    async fn new(site: &Site, redis: &Redis, number: usize, wiring: Wiring) -> Result<Self> {
        let Database::Postgres { url, secret_key } = &site.spec.database else {
            anyhow::bail!("a cluster needs PostgreSQL");
        };
        let name = format!("node-{number}");
        let folder = site.spec.folder.join(&name);
        make_folder(&folder)?;
        let to_redis = Wire::to(redis.address()).await?;
        let to_postgres = Wire::to(address_of(url)?).await?;
        let (postgres_url, redis_address) = match wiring {
            Wiring::Direct => (url.clone(), redis.address()),
            Wiring::Breakable => (through(url, to_postgres.address())?, to_redis.address()),
        };
        let database = Database::Postgres { url: postgres_url, secret_key: secret_key.clone() };
        let redis_url = format!("redis://{redis_address}");
        let membership = Some(Membership { redis_url, node: name });
        let hub = Hub::new(Spec { database, folder, membership, ..site.spec.clone() })?;
        Ok(Self { hub, redis: to_redis, postgres: to_postgres })
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Where the server of a `postgres://` URL listens.
fn address_of(url: &str) -> Result<SocketAddr> {
    let parsed = Url::parse(url).context("--database is no URL")?;
    let host = parsed.host_str().context("--database names no host")?;
    let mut found = (host, parsed.port().unwrap_or(5_432)).to_socket_addrs()?;
    found.next().with_context(|| format!("--database: {host} has no address"))
}

/// The same URL with another address.
fn through(url: &str, address: SocketAddr) -> Result<String> {
    let mut parsed = Url::parse(url).context("--database is no URL")?;
    let host = address.ip().to_string();
    parsed.set_host(Some(&host)).context("--database cannot be given another host")?;
    let is_set = parsed.set_port(Some(address.port())).is_ok();
    is_set.then(|| parsed.to_string()).context("--database cannot be given another port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_reached_through_another_address_and_all_else_stays() {
        let url = "postgres://me:word@127.0.0.1:6000/pulse?sslmode=disable";
        assert_eq!(address_of(url).unwrap(), ([127, 0, 0, 1], 6_000).into());
        let other = through(url, ([127, 0, 0, 1], 7_000).into()).unwrap();
        assert_eq!(other, "postgres://me:word@127.0.0.1:7000/pulse?sslmode=disable");
        assert_eq!(address_of("postgres://me@127.0.0.1/pulse").unwrap().port(), 5_432);
    }
}
