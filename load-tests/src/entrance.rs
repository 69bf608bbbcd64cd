//! Where agents and dashboards come in: one hub, or the nodes of a cluster as a load balancer hands them out.
//!
//! It does what `docs/deploy/haproxy.cfg` says: the node with the fewest connections, of those whose `/readyz`
//! answers 200; asked every second, down after two refusals and up after one answer; and the connections of a node
//! that is marked down are left alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::rest::http_client;

/// `check inter 1s`, which is also the longest a check may take.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// `fall 2`.
const FALL: u32 = 2;

/// One node as the balancer sees it.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    is_up: AtomicBool,
    open: AtomicUsize,
}

/// All doors. Dropping it ends the checks.
#[derive(Debug)]
pub(crate) struct Entrance {
    doors: Arc<[Door]>,
    _checks: JoinSet<()>,
}

/// A connection through one of the doors; counted while this lives.
#[derive(Debug)]
pub(crate) struct Entry {
    doors: Arc<[Door]>,
    at: usize,
}

impl Entry {
    pub(crate) fn address(&self) -> SocketAddr {
        self.doors[self.at].address
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.doors[self.at].open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn doors(addresses: &[SocketAddr]) -> Arc<[Door]> {
    let door = |address: &SocketAddr| Door {
        address: *address,
        is_up: AtomicBool::new(true),
        open: AtomicUsize::new(0),
    };
    addresses.iter().map(door).collect()
}

impl Entrance {
    /// One hub and no balancer.
    pub(crate) fn single(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { doors: doors(&[address]), _checks: JoinSet::new() })
    }

    /// A balancer before these nodes.
    pub(crate) fn balanced(addresses: &[SocketAddr]) -> Result<Arc<Self>> {
        let doors = doors(addresses);
        let client = http_client(CHECK_EVERY)?;
        let mut checks = JoinSet::new();
        for at in 0..doors.len() {
            checks.spawn(check(client.clone(), Arc::clone(&doors), at));
        }
        Ok(Arc::new(Self { doors, _checks: checks }))
    }

    /// The node to connect to. None while no node is up: a balancer answers 503 then.
    pub(crate) fn enter(&self) -> Option<Entry> {
        let up = (0..self.doors.len()).filter(|at| self.doors[*at].is_up.load(Ordering::Relaxed));
        let at = up.min_by_key(|at| self.doors[*at].open.load(Ordering::Relaxed))?;
        self.doors[at].open.fetch_add(1, Ordering::Relaxed);
        Some(Entry { doors: Arc::clone(&self.doors), at })
    }
}

async fn check(client: reqwest::Client, doors: Arc<[Door]>, at: usize) {
    let door = &doors[at];
    let url = format!("http://{}/readyz", door.address);
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refusals = 0;
    loop {
        ticks.tick().await;
        let is_well =
            client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        refusals = if is_well { 0 } else { refusals + 1 };
        if is_well || refusals >= FALL {
            door.is_up.store(is_well, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    #[test]
    fn connections_are_shared_out_evenly_and_one_that_ended_makes_room() {
        let all = addresses();
        let entrance = Entrance { doors: doors(&all), _checks: JoinSet::new() };
        let mut entries: Vec<Entry> = (0..9).filter_map(|_| entrance.enter()).collect();
        for address in &all {
            assert_eq!(entries.iter().filter(|entry| entry.address() == *address).count(), 3);
        }
        let left = entries.swap_remove(4).address();
        assert_eq!(entrance.enter().unwrap().address(), left);
    }

    #[test]
    fn a_node_that_is_down_is_given_to_nobody() {
        let all = addresses();
        let entrance = Entrance { doors: doors(&all), _checks: JoinSet::new() };
        entrance.doors[1].is_up.store(false, Ordering::Relaxed);
        assert!((0..9).filter_map(|_| entrance.enter()).all(|entry| entry.address() != all[1]));
        for door in entrance.doors.iter() {
            door.is_up.store(false, Ordering::Relaxed);
        }
        assert!(entrance.enter().is_none());
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_marked_down() {
        let entrance = Entrance::balanced(&[crate::hub::free_address().unwrap()]).unwrap();
        assert!(entrance.enter().is_some());
        while entrance.enter().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
