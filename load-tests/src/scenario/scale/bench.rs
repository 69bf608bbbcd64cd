//! A place to measure at: one hub or several nodes, with what they stand on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cluster::{Cluster, Ground, Site, Wiring};
use crate::entrance::Entrance;
use crate::fleet::{self, Fleet, Plan};
use crate::hub::{Database, Hub, Spec};
use crate::machine::{Look, cpu_seconds, family_cpu_seconds};
use crate::output::say;

/// Where the agents connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// One hub on SQLite.
    Sqlite,
    /// One hub on PostgreSQL, without Redis.
    Postgres,
    /// So many nodes on PostgreSQL and Redis.
    Cluster(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str("SQLite"),
            Self::Postgres => f.write_str("PostgreSQL"),
            Self::Cluster(nodes) => write!(f, "cluster of {nodes}"),
        }
    }
}

/// Seconds of a core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) hubs: f64,
    /// None where there is none, or it is not ours.
    pub(crate) postgres: Option<f64>,
    pub(crate) redis: Option<f64>,
    /// Of this process, which is no part of the cost.
    pub(crate) own: f64,
}

impl Use {
    pub(crate) fn all(&self) -> f64 {
        self.hubs + self.postgres.unwrap_or(0.0) + self.redis.unwrap_or(0.0)
    }

    fn since(&self, earlier: &Self) -> Self {
        let less =
            |now: Option<f64>, then: Option<f64>| now.zip(then).map(|(now, then)| now - then);
        Self {
            hubs: self.hubs - earlier.hubs,
            postgres: less(self.postgres, earlier.postgres),
            redis: less(self.redis, earlier.redis),
            own: self.own - earlier.own,
        }
    }
}

#[derive(Debug)]
enum Hubs {
    One(Box<Hub>),
    Many(Box<Cluster>),
}

#[derive(Debug)]
enum Data {
    Sqlite(TempDir),
    Postgres(Box<Site>),
}

/// A place with its fleet, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Bench {
    // Hubs end before what they stand on.
    hubs: Hubs,
    data: Data,
    fleet: Arc<Fleet>,
}

impl Bench {
    pub(crate) async fn set_up(ground: &Ground, place: Place, plan: Plan) -> Result<Self> {
        if place == Place::Sqlite {
            return Self::on_sqlite(ground, plan).await;
        }
        let site = Site::prepare(ground, plan).await?;
        let fleet = Arc::new(site.fleet.clone());
        let hubs = match place {
            Place::Cluster(nodes) => {
                Hubs::Many(Box::new(Cluster::start(&site, nodes, Wiring::Direct).await?))
            }
            Place::Sqlite | Place::Postgres => Hubs::One(Box::new(started(&site.spec).await?)),
        };
        Ok(Self { hubs, data: Data::Postgres(Box::new(site)), fleet })
    }

    async fn on_sqlite(ground: &Ground, plan: Plan) -> Result<Self> {
        let folder = TempDir::with_prefix_in("run-", &ground.out)?;
        let spec = Spec {
            binary: ground.binary.clone(),
            database: Database::Sqlite,
            folder: folder.path().to_path_buf(),
            pinning: ground.pinning,
            membership: None,
        };
        let prepared = fleet::prepare(&spec, plan, &folder.path().join("fleet.json")).await?;
        let hubs = Hubs::One(Box::new(started(&spec).await?));
        Ok(Self { hubs, data: Data::Sqlite(folder), fleet: Arc::new(prepared.fleet) })
    }

    pub(crate) fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.fleet)
    }

    pub(crate) fn rest(&self) -> SocketAddr {
        self.hubs()[0].address()
    }

    pub(crate) fn entrance(&self) -> Result<Arc<Entrance>> {
        match &self.hubs {
            Hubs::One(hub) => Ok(Entrance::single(hub.address())),
            Hubs::Many(cluster) => Entrance::balanced(&cluster.addresses()),
        }
    }

    fn hubs(&self) -> Vec<&Hub> {
        match &self.hubs {
            Hubs::One(hub) => vec![hub],
            Hubs::Many(cluster) => cluster.nodes.iter().map(|node| &node.hub).collect(),
        }
    }

    /// Memory of all hubs; what they share counts once.
    pub(crate) fn pss_kib(&self) -> Result<f64> {
        self.hubs()
            .into_iter()
            .map(|hub| {
                let look = Look::at(hub.pid().context("a hub does not run")?)?;
                look.pss_kib.context("this kernel does not show PSS")
            })
            .sum()
    }

    /// What everybody uses while something goes on.
    pub(crate) async fn spent_while(&self, something: impl Future<Output = ()>) -> Result<Use> {
        let before = self.spent()?;
        something.await;
        Ok(self.spent()?.since(&before))
    }

    fn spent(&self) -> Result<Use> {
        let of_hub = |hub: &Hub| cpu_seconds(hub.pid().context("a hub does not run")?);
        let postgres = match &self.data {
            Data::Postgres(site) => site.postgres.as_ref().and_then(|server| server.pid()),
            Data::Sqlite(_) => None,
        };
        let redis = match &self.hubs {
            Hubs::Many(cluster) => cluster.redis.pid(),
            Hubs::One(_) => None,
        };
        Ok(Use {
            hubs: self.hubs().into_iter().map(of_hub).sum::<Result<f64>>()?,
            postgres: postgres.map(family_cpu_seconds).transpose()?,
            redis: redis.map(cpu_seconds).transpose()?,
            own: cpu_seconds(std::process::id())?,
        })
    }

    /// Ends the hubs.
    pub(crate) async fn dispose(&mut self) -> Result<()> {
        match &mut self.hubs {
            Hubs::One(hub) => hub.dispose().await,
            Hubs::Many(cluster) => cluster.dispose().await,
        }
    }

    /// Keeps the data and the logs beyond the end of this process.
    pub(crate) fn keep(self) {
        match self.data {
            Data::Postgres(site) => site.keep(),
            Data::Sqlite(folder) => {
                say(&format!("the data and the logs are kept in {}", folder.keep().display()));
            }
        }
    }
}

async fn started(spec: &Spec) -> Result<Hub> {
    let mut hub = Hub::new(spec.clone())?;
    hub.start().await?;
    Ok(hub)
}
