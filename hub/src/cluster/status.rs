//! `pulse-hub cluster status`: who is in the cluster and who holds what, as Redis knows it.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, bail};
use pulse_actors::cluster::member::LEASE_TTL;
use pulse_actors::cluster::{Coordination, NodeId, RedisCluster, SHARDS, Shard, Sighting};
use serde::Serialize;

use crate::config::Config;

/// One node.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Node {
    node: String,
    /// Absent for one that holds shards and does not say that it is alive.
    version: Option<String>,
    state: &'static str,
    shards: usize,
    /// Milliseconds since it last said that it is alive.
    heard_ms_ago: Option<u128>,
}

/// The whole cluster.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status {
    nodes: Vec<Node>,
    shards: usize,
    held: usize,
}

impl Status {
    fn new(members: Vec<Sighting>, holders: &BTreeMap<Shard, NodeId>) -> Self {
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        for node in holders.values() {
            *shares.entry(&node.0).or_default() += 1;
        }
        let mut nodes: Vec<Node> = members
            .into_iter()
            .map(|Sighting { member, time_left }| Node {
                shards: shares.remove(member.node.0.as_str()).unwrap_or(0),
                node: member.node.0,
                version: Some(member.version),
                state: if member.draining { "leaving" } else { "serving" },
                heard_ms_ago: Some(LEASE_TTL.saturating_sub(time_left).as_millis()),
            })
            .collect();
        nodes.extend(shares.into_iter().map(|(node, shards)| Node {
            node: node.to_owned(),
            version: None,
            state: "silent",
            shards,
            heard_ms_ago: None,
        }));
        Self { nodes, shards: SHARDS.into(), held: holders.len() }
    }

    fn table(&self) -> String {
        let width = self.nodes.iter().map(|node| node.node.len()).max().unwrap_or(0).max(4);
        let mut text =
            format!("{:width$}  {:8}  {:8}  {:>6}  HEARD\n", "NODE", "VERSION", "STATE", "SHARDS");
        for node in &self.nodes {
            let version = node.version.as_deref().unwrap_or("-");
            let heard = node.heard_ms_ago.map_or("-".to_owned(), |ms| format!("{ms} ms ago"));
            let Node { node, state, shards, .. } = node;
            text += &format!("{node:width$}  {version:8}  {state:8}  {shards:>6}  {heard}\n");
        }
        text + &format!("{} of {} shards have a home\n", self.held, self.shards)
    }
}

/// Prints the cluster's state.
///
/// # Errors
///
/// Returns an error if this is no cluster, Redis does not answer, or some shards have no home.
pub(crate) async fn run(config: Config, as_json: bool) -> anyhow::Result<()> {
    let Some(cluster) = &config.storage.cluster else {
        bail!("PULSE_REDIS_URL is not set: this hub is one node and no cluster");
    };
    let away = "Redis does not answer: check PULSE_REDIS_URL and that it is running";
    let redis = RedisCluster::connect(&cluster.redis_url).await.context(away)?;
    let (members, holders) = (redis.members().await.context(away)?, redis.holders().await);
    let status = Status::new(members, &holders.context(away)?);
    let shown = if as_json { serde_json::to_string(&status)? + "\n" } else { status.table() };
    write!(std::io::stdout(), "{shown}")?;
    if status.held < status.shards {
        bail!("some shards have no home: they move, or no node is there to take them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pulse_actors::cluster::Member;

    use super::*;

    #[test]
    fn the_table_shows_every_node_and_every_holder() {
        let named = |name: &str| NodeId(name.to_owned());
        let member = |name, draining| Sighting {
            member: Member {
                node: named(name),
                incarnation: uuid::Uuid::nil(),
                draining,
                version: "0.1.0".to_owned(),
            },
            time_left: Duration::from_millis(4_600),
        };
        let homes = ["one", "one", "two", "gone"];
        let holders = Shard::all().zip(homes.map(named)).collect();
        let status = Status::new(vec![member("one", false), member("two", true)], &holders);
        let expected = "\
NODE  VERSION   STATE     SHARDS  HEARD
one   0.1.0     serving        2  400 ms ago
two   0.1.0     leaving        1  400 ms ago
gone  -         silent         1  -
4 of 1024 shards have a home
";
        assert_eq!(status.table(), expected);
    }
}
