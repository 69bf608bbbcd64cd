//! The faults: what each does, for how long, and in which order they come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::cluster::postgres::Postgres;
use crate::cluster::proxy::Condition;
use crate::cluster::{Cluster, Node};

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL of a node; it starts again some seconds later.
    NodeKill,
    /// SIGTERM of a node; it starts again as soon as it has ended.
    NodeTerm,
    /// SIGSTOP of a node for longer than its leases last, then SIGCONT.
    NodePause,
    /// SIGKILL of Redis; it starts again, empty.
    RedisKill,
    /// A node's connections to Redis end, and new ones too.
    RedisCut,
    /// A node's connections to Redis carry nothing.
    RedisBlock,
    /// Every node's Redis takes 300 ms longer to answer.
    RedisSlow,
    /// A node's connections to Redis are forgotten on the way: silent, and never closed. New ones are whole.
    RedisForget,
    /// SIGKILL of all processes of PostgreSQL; it starts again and recovers.
    PostgresKill,
    /// A node's connections to PostgreSQL end, and new ones too.
    PostgresCut,
    /// A node's connections to PostgreSQL carry nothing.
    PostgresBlock,
    /// A node's connections to PostgreSQL are forgotten on the way: silent, and never closed. New ones are whole.
    PostgresForget,
}

/// Added to each direction.
const SLOW: Duration = Duration::from_millis(150);

impl Kind {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it hits one node, or what all of them share.
    const fn is_of_one_node(self) -> bool {
        !matches!(self, Self::RedisKill | Self::RedisSlow | Self::PostgresKill)
    }

    /// How long it lasts, in milliseconds. Leases last 5 s: some are over before, some are not.
    const fn lasts_ms(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Self::NodeKill => 500..=4_000,
            Self::NodeTerm | Self::RedisForget | Self::PostgresForget => 0..=0,
            Self::NodePause => 6_000..=8_000,
            Self::RedisKill => 100..=7_000,
            Self::PostgresKill => 0..=3_000,
            Self::RedisCut | Self::RedisBlock | Self::PostgresCut | Self::PostgresBlock => {
                2_000..=8_000
            }
            Self::RedisSlow => 8_000..=8_000,
        }
    }
}

/// One fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The node that it hits, from 0.
    pub(crate) node: usize,
    pub(crate) lasts: Duration,
}

/// Draws faults: each kind once, in any order, then each once more.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: StdRng,
    kinds: Vec<Kind>,
    nodes: usize,
    rounds: u32,
    bag: Vec<Kind>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>, nodes: usize, rounds: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), kinds, nodes, rounds, bag: Vec::new() }
    }

    /// None after the last round, or where there is no kind at all.
    pub(crate) fn draw(&mut self) -> Option<Fault> {
        if self.bag.is_empty() {
            self.rounds = self.rounds.checked_sub(1)?;
            self.bag.clone_from(&self.kinds);
            self.bag.shuffle(&mut self.random);
        }
        let kind = self.bag.pop()?;
        let node = self.random.random_range(0..self.nodes);
        let lasts = Duration::from_millis(self.random.random_range(kind.lasts_ms()));
        Some(Fault { kind, node, lasts })
    }
}

/// What a fault takes away from agents, and from when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurt {
    /// The node, or all.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// What faults are inflicted on.
pub(crate) struct Victims<'a> {
    pub(crate) cluster: &'a mut Cluster,
    /// None where it is somebody else's.
    pub(crate) postgres: Option<&'a mut Postgres>,
}

impl Victims<'_> {
    fn postgres(&mut self) -> Result<&mut Postgres> {
        self.postgres.as_deref_mut().context("this PostgreSQL is not ours to kill")
    }

    fn node(&mut self, fault: &Fault) -> Result<&mut Node> {
        self.cluster.nodes.get_mut(fault.node).context("there is no such node")
    }

    /// Who is hurt by it.
    pub(crate) fn address(&self, fault: &Fault) -> Option<SocketAddr> {
        let node = self.cluster.nodes.get(fault.node)?;
        fault.kind.is_of_one_node().then(|| node.hub.address())
    }

    /// Begins it.
    pub(crate) async fn inflict(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::NodeKill => self.node(fault)?.hub.kill().await,
            Kind::NodeTerm => {
                let status = self.node(fault)?.hub.terminate().await?;
                if !status.success() {
                    bail!("after SIGTERM node {} ended with {status}", fault.node + 1);
                }
                Ok(())
            }
            Kind::NodePause => self.node(fault)?.hub.pause(),
            Kind::RedisKill => self.cluster.redis.kill().await,
            Kind::PostgresKill => self.postgres()?.kill().await,
            Kind::RedisCut => self.wire_to_redis(fault, Condition::Cut),
            Kind::RedisBlock => self.wire_to_redis(fault, Condition::Blocked),
            Kind::RedisSlow => self.all_wires_to_redis(Condition::Slow(SLOW)),
            Kind::RedisForget => self.node(fault).map(|node| node.redis.forget()),
            Kind::PostgresForget => self.node(fault).map(|node| node.postgres.forget()),
            Kind::PostgresCut => self.wire_to_postgres(fault, Condition::Cut),
            Kind::PostgresBlock => self.wire_to_postgres(fault, Condition::Blocked),
        }
    }

    /// Ends it.
    pub(crate) async fn heal(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::NodeKill | Kind::NodeTerm => self.node(fault)?.hub.start().await.map(|_| ()),
            Kind::NodePause => self.node(fault)?.hub.resume(),
            Kind::RedisKill => self.cluster.redis.restart().await,
            Kind::PostgresKill => self.postgres()?.restart().await,
            // It lasts for as long as the node believes in those connections.
            Kind::RedisForget | Kind::PostgresForget => Ok(()),
            Kind::RedisCut | Kind::RedisBlock => self.wire_to_redis(fault, Condition::Whole),
            Kind::RedisSlow => self.all_wires_to_redis(Condition::Whole),
            Kind::PostgresCut | Kind::PostgresBlock => {
                self.wire_to_postgres(fault, Condition::Whole)
            }
        }
    }

    fn wire_to_redis(&mut self, fault: &Fault, condition: Condition) -> Result<()> {
        self.node(fault).map(|node| node.redis.set(condition))
    }

    fn wire_to_postgres(&mut self, fault: &Fault, condition: Condition) -> Result<()> {
        self.node(fault).map(|node| node.postgres.set(condition))
    }

    fn all_wires_to_redis(&self, condition: Condition) -> Result<()> {
        self.cluster.nodes.iter().for_each(|node| node.redis.set(condition));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, count: usize) -> Vec<Fault> {
        let mut schedule = Schedule::new(seed, Kind::value_variants().to_vec(), 3, u32::MAX);
        std::iter::from_fn(|| schedule.draw()).take(count).collect()
    }

    #[test]
    fn a_seed_draws_the_same_faults_and_another_one_others() {
        assert_eq!(draws(7, 40), draws(7, 40));
        assert_ne!(draws(7, 40), draws(8, 40));
    }

    #[test]
    fn each_kind_comes_once_before_any_comes_again() {
        let all = Kind::value_variants();
        for round in draws(1, all.len() * 3).chunks(all.len()) {
            let mut kinds: Vec<Kind> = round.iter().map(|fault| fault.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, all);
        }
    }

    #[test]
    fn no_kinds_are_no_faults() {
        assert_eq!(Schedule::new(1, Vec::new(), 3, 9).draw(), None);
    }

    #[test]
    fn after_the_last_round_there_are_no_more() {
        let mut schedule = Schedule::new(1, vec![Kind::NodeKill, Kind::NodePause], 3, 2);
        assert_eq!(std::iter::from_fn(|| schedule.draw()).count(), 4);
    }
}
