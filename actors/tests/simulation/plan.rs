//! What one seed is about: how large the world is, which faults it knows and how often they come.
//!
//! Each kind of fault is on in some seeds only: many bugs need one kind of fault in plenty and the others absent.

use pulse_protocol::ids::{AgentId, ChannelId, OrgId};
use rand::Rng;
use rand::rngs::StdRng;
use uuid::Uuid;

/// A guard that is taken away, to see that the simulator misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The journal confirms a submission when it takes it.
    ConfirmsBeforeCommit,
    /// The database does not compare epochs.
    NoFence,
    /// The database compares epochs when a transaction begins, and lets the shard be claimed before it ends.
    FenceNotHeld,
    /// Claims answer without beginning a new epoch.
    SameEpochTwice,
    /// The database does not compare where a batch begins with where the journal is.
    NoHeadCheck,
    /// A failed commit is confirmed.
    FailureConfirmed,
    /// The journal drops a submission now and then, and confirms it.
    DropsSubmissions,
    /// A transaction writes events without their rows now and then.
    RowsLost,
    /// The sender reports success for what the receiver never accepted.
    SenderLies,
    /// Loads do not wait for transactions that may still be committed.
    LoadsPastDoubt,
    /// Loads are answered from a copy that lags behind.
    StaleLoads,
    /// An agent without a connection is announced at once.
    NoGrace,
    /// Leases never run out.
    EndlessLeases,
}

pub(crate) struct AgentPlan {
    pub(crate) id: AgentId,
    pub(crate) org: usize,
    pub(crate) frames: u64,
}

pub(crate) struct OrgPlan {
    pub(crate) id: OrgId,
    pub(crate) channel: ChannelId,
}

/// Chances of what goes wrong by itself while the storm lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    pub(crate) message_lost: f64,
    pub(crate) message_doubled: f64,
    pub(crate) message_late: f64,
    pub(crate) commit_fails: f64,
    pub(crate) answer_lost: f64,
    pub(crate) commit_stalls: f64,
    pub(crate) read_fails: f64,
    pub(crate) receiver_refuses: f64,
    pub(crate) receiver_unheard: f64,
}

pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) orgs: Vec<OrgPlan>,
    pub(crate) agents: Vec<AgentPlan>,
    /// The org of each.
    pub(crate) viewers: Vec<usize>,
    pub(crate) chances: Chances,
    /// What each node's clock shows beyond the true time, in milliseconds.
    pub(crate) skews_ms: Vec<i64>,
    /// Submissions that may wait at a node.
    pub(crate) queue: usize,
    pub(crate) storm_ms: u64,
    pub(crate) crashes: usize,
    pub(crate) pauses: usize,
    pub(crate) partitions: usize,
    pub(crate) cuts: usize,
    pub(crate) wipes: usize,
    pub(crate) drains: usize,
    pub(crate) resets: usize,
    /// Stays on after it converged, to see that it stays so.
    pub(crate) lingers: bool,
}

impl Plan {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let nodes = [2, 3, 3, 3, 3, 4, 5][rng.random_range(0..7)];
        let orgs = rng.random_range(1..=3);
        let agents = rng.random_range(2..=4);
        let viewers = rng.random_range(1..=3);
        let skewed = rng.random_bool(0.3);
        let skew = |rng: &mut StdRng| if skewed { rng.random_range(-2_000..=2_000) } else { 0 };
        Self {
            nodes,
            // Ids below those of now: what is drawn later sorts after them, as it would in life.
            orgs: (0..orgs).map(|_| org(rng)).collect(),
            agents: (0..agents)
                .map(|at| AgentPlan {
                    id: AgentId::from_uuid(Uuid::from_u128(0xA000 + at as u128)),
                    org: at % orgs,
                    frames: rng.random_range(3..=9),
                })
                .collect(),
            viewers: (0..viewers).map(|at| at % orgs).collect(),
            chances: Chances::draw(rng),
            skews_ms: (0..nodes).map(|_| skew(rng)).collect(),
            queue: [1, 2, 24, 24][rng.random_range(0..4)],
            storm_ms: rng.random_range(6_000..=14_000),
            crashes: often(rng, 3),
            pauses: often(rng, 3),
            partitions: often(rng, 3),
            cuts: often(rng, 2),
            wipes: often(rng, 2),
            drains: often(rng, 2),
            resets: often(rng, 6),
            lingers: rng.random_bool(0.25),
        }
    }
}

impl Plan {
    /// Lets happen more often what a guard is for, so that its absence shows within few seeds.
    pub(crate) fn provoke(&mut self, missing: Option<Mutation>) {
        match missing {
            Some(Mutation::LoadsPastDoubt) => {
                (self.chances.answer_lost, self.chances.commit_stalls) = (0.4, 0.4);
            }
            Some(Mutation::NoFence | Mutation::FenceNotHeld | Mutation::SameEpochTwice) => {
                self.chances.commit_stalls = 0.4;
                (self.pauses, self.wipes, self.drains) = (3, 2, 2);
            }
            _ => {}
        }
    }
}

fn org(rng: &mut StdRng) -> OrgPlan {
    let number = u128::from(rng.random::<u32>());
    OrgPlan {
        id: OrgId::from_uuid(Uuid::from_u128((1 << 32) + number)),
        channel: ChannelId::from_uuid(Uuid::from_u128((2 << 32) + number)),
    }
}

/// None in half of the seeds.
fn often(rng: &mut StdRng, most: usize) -> usize {
    if rng.random_bool(0.5) { rng.random_range(1..=most) } else { 0 }
}

impl Chances {
    fn draw(rng: &mut StdRng) -> Self {
        let mut chance = |most: f64| {
            if rng.random_bool(0.35) { rng.random_range(0.0..most) } else { 0.0 }
        };
        Self {
            message_lost: chance(0.08),
            message_doubled: chance(0.2),
            message_late: chance(0.1),
            commit_fails: chance(0.15),
            answer_lost: chance(0.15),
            commit_stalls: chance(0.1),
            read_fails: chance(0.1),
            receiver_refuses: chance(0.5),
            receiver_unheard: chance(0.4),
        }
    }
}
