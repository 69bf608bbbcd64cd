//! This process as a member of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use pulse_actors::cluster::member::{ClusterMember, MemberPorts};
use pulse_actors::cluster::routes::RoutesWriter;
use pulse_actors::cluster::{Bus, Member, NodeId, Post, RedisCluster, Routes};
use pulse_actors::directory::{ClusterPorts, Directory};
use pulse_store::Database;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::Cluster;

/// Giving the shards away takes no longer than this.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// How often a node that knows no homes looks whether it may say so.
const READY_EVERY: Duration = Duration::from_secs(1);

/// Connected to Redis, and not yet a member.
pub(crate) struct Joining {
    me: Member,
    redis: RedisCluster,
    ports: ClusterPorts,
    writer: RoutesWriter,
}

impl Joining {
    /// Connects to Redis.
    ///
    /// # Errors
    ///
    /// Returns an error if Redis does not answer.
    pub(crate) async fn connect(cluster: &Cluster) -> anyhow::Result<Self> {
        let redis = RedisCluster::connect(&cluster.redis_url)
            .await
            .context("Redis does not answer: check PULSE_REDIS_URL and that it is running")?;
        let me = Member {
            node: NodeId(cluster.node_id.clone()),
            incarnation: uuid::Uuid::now_v7(),
            draining: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (writer, routes) = Routes::new();
        let post = Post::new(me.node.clone(), Arc::new(redis.clone()));
        Ok(Self { me, redis, ports: ClusterPorts { post, routes }, writer })
    }

    /// What the directory needs.
    pub(crate) fn ports(&self) -> ClusterPorts {
        self.ports.clone()
    }

    /// Listens to the bus, and takes part from now on.
    ///
    /// # Errors
    ///
    /// Returns an error if the bus cannot be listened to.
    pub(crate) async fn join(
        self,
        directory: &Directory,
        database: &Database,
    ) -> anyhow::Result<ClusterTask> {
        let Self { me, redis, ports, writer } = self;
        info!(node = %me.node, "joining the cluster");
        let inbox = redis.listen(&me.node).await.context("Redis does not carry messages")?;
        let lines = directory.clone();
        actix::spawn(async move { lines.serve_lines(inbox).await });
        let member = ClusterMember::new(
            me,
            MemberPorts {
                coordination: Arc::new(redis),
                claims: Arc::new(database.clone()),
                directory: directory.clone(),
                routes: writer,
            },
        );
        let (leaving, left) = watch::channel(false);
        let task = actix::spawn(member.run(left));
        Ok(ClusterTask { routes: ports.routes, leaving, task })
    }
}

/// This process's part in the cluster, at work.
pub(crate) struct ClusterTask {
    routes: Routes,
    leaving: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ClusterTask {
    /// Keeps `ready` true while this node knows of homes, its own or others'.
    pub(crate) fn ready_when_joined(&self, ready: Arc<AtomicBool>) {
        let (routes, mut leaving) = (self.routes.clone(), self.leaving.subscribe());
        actix::spawn(async move {
            while !*leaving.borrow_and_update() {
                let table = routes.table();
                let knows = !table.here.is_empty() || !table.there.is_empty();
                ready.store(knows, Ordering::Release);
                tokio::select! {
                    () = routes.changed(READY_EVERY) => {}
                    changed = leaving.changed() => if changed.is_err() { break },
                }
            }
            ready.store(false, Ordering::Release);
        });
    }

    /// Gives this node's shards to the others and leaves.
    pub(crate) async fn leave(self) {
        self.leaving.send_replace(true);
        match tokio::time::timeout(LEAVE_WITHIN, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the cluster's task did not end in order"),
            Err(_) => warn!("the shards could not all be given away in time"),
        }
    }
}
