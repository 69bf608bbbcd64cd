//! Writes over REST while everything fails: one that was answered is there once, any other at most once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use pulse_protocol::ids::OrgId;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use crate::checker::Fault;
use crate::entrance::Entrance;
use crate::fleet::Fleet;
use crate::journal::{Journal, WRITTEN};
use crate::rest::{Api, Refusal, Tenant};

/// What became of a write.
#[derive(Clone, Debug)]
enum Outcome {
    Made,
    /// The hub went away or said that it could not tell.
    Unknown,
    Refused(String),
}

/// One write, known by the name it gives.
#[derive(Clone, Debug)]
struct Write {
    org: OrgId,
    name: String,
    outcome: Outcome,
}

/// Somebody who writes at an even pace until told to stop.
pub(crate) struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    ledger: Arc<Mutex<Vec<Write>>>,
}

struct Desk {
    entrance: Arc<Entrance>,
    apis: HashMap<SocketAddr, Api>,
    fleet: Arc<Fleet>,
    ledger: Arc<Mutex<Vec<Write>>>,
}

impl Writer {
    pub(crate) fn start(
        entrance: Arc<Entrance>,
        nodes: &[SocketAddr],
        fleet: Arc<Fleet>,
        rate: f64,
    ) -> Result<Self> {
        let apis = nodes.iter().map(|node| Ok((*node, Api::new(*node)?)));
        let apis = apis.collect::<Result<_>>()?;
        let ledger = Arc::<Mutex<Vec<Write>>>::default();
        let desk = Arc::new(Desk { entrance, apis, fleet, ledger: Arc::clone(&ledger) });
        let (stop, stopped) = watch::channel(false);
        let pause = Duration::from_secs_f64(1.0 / rate.max(0.001));
        let task = tokio::spawn(keep_writing(desk, pause, stopped));
        Ok(Self { stop, task, ledger })
    }

    /// Stops, waits for the answers, and compares the journals with them. How many were made, and how many had no
    /// answer, come with the faults.
    pub(crate) async fn finish(self) -> Result<Ledger> {
        self.stop.send_replace(true);
        self.task.await?;
        Ok(Ledger(std::mem::take(&mut *self.ledger.lock())))
    }
}

async fn keep_writing(desk: Arc<Desk>, pause: Duration, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(pause);
    let mut under_way = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => {
                let desk = Arc::clone(&desk);
                under_way.spawn(async move { desk.write(number).await });
                number += 1;
            }
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

impl Desk {
    /// A new name for an agent, or a new device, in one org after the other.
    async fn write(&self, number: usize) {
        let orgs = &self.fleet.orgs;
        let Some(org) = orgs.get(number % orgs.len().max(1)) else { return };
        let Some(agent) = org.agents.get(number / orgs.len() % org.agents.len().max(1)) else {
            return;
        };
        // Without a node that is up the balancer refuses, and nothing was asked of anybody.
        let Some(entry) = self.entrance.enter() else { return };
        let Some(api) = self.apis.get(&entry.address()) else { return };
        let name = format!("{WRITTEN}{number}");
        let tenant = Tenant { org: org.id, token: &org.token };
        let is_rename = (number / orgs.len()).is_multiple_of(2);
        let answer = if is_rename {
            api.rename_agent(tenant, agent.id, &name).await
        } else {
            let (high, middle, low) = (number >> 16 & 15, number >> 8 & 255, number & 255);
            let address = format!("172.{}.{middle}.{low}", 16 + high);
            let device = json!({ "agent_id": agent.id, "name": name, "address": address });
            api.write_device(tenant, &device).await
        };
        let outcome = match answer {
            Ok(()) => Outcome::Made,
            Err(Refusal::Unknown(_)) => Outcome::Unknown,
            Err(Refusal::Refused(why)) => Outcome::Refused(why),
        };
        self.ledger.lock().push(Write { org: org.id, name, outcome });
    }
}

/// All writes with what became of them.
#[derive(Debug)]
pub(crate) struct Ledger(Vec<Write>);

impl Ledger {
    pub(crate) fn made(&self) -> usize {
        self.0.iter().filter(|write| matches!(write.outcome, Outcome::Made)).count()
    }

    pub(crate) fn unknown(&self) -> usize {
        self.0.iter().filter(|write| matches!(write.outcome, Outcome::Unknown)).count()
    }

    /// Compares them with the journals.
    pub(crate) fn faults(&self, journals: &HashMap<OrgId, Journal>) -> Vec<Fault> {
        let mut seen: HashMap<(OrgId, &str), u32> = HashMap::new();
        for (org, journal) in journals {
            for name in &journal.written {
                *seen.entry((*org, name)).or_default() += 1;
            }
        }
        let fault = |write: &Write| {
            let times = seen.get(&(write.org, write.name.as_str())).copied().unwrap_or(0);
            let what = format!("`{}` of {}, written over REST", write.name, write.org);
            match (&write.outcome, times) {
                (Outcome::Refused(why), _) => Some(Fault::Broken(format!("{what}: {why}"))),
                (Outcome::Made, 0) => Some(Fault::Lost { what }),
                (_, 2..) => Some(Fault::Repeated { what }),
                _ => None,
            }
        };
        self.0.iter().filter_map(fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(outcome: Outcome) -> (OrgId, Ledger) {
        let org = OrgId::new();
        (org, Ledger(vec![Write { org, name: "written 1".to_owned(), outcome }]))
    }

    fn journal(org: OrgId, times: usize) -> HashMap<OrgId, Journal> {
        let written = vec!["written 1".to_owned(); times];
        HashMap::from([(org, Journal { written, ..Journal::after(0) })])
    }

    #[test]
    fn a_write_that_was_answered_is_there_once_and_any_other_at_most_once() {
        let (org, made) = ledger(Outcome::Made);
        assert_eq!(made.faults(&journal(org, 1)), []);
        assert!(matches!(made.faults(&journal(org, 0))[..], [Fault::Lost { .. }]));
        assert!(matches!(made.faults(&journal(org, 2))[..], [Fault::Repeated { .. }]));
        let (org, unknown) = ledger(Outcome::Unknown);
        assert_eq!(unknown.faults(&journal(org, 0)), []);
        assert_eq!(unknown.faults(&journal(org, 1)), []);
        assert!(matches!(unknown.faults(&journal(org, 2))[..], [Fault::Repeated { .. }]));
    }

    #[test]
    fn a_refusal_is_a_fault() {
        let (org, refused) = ledger(Outcome::Refused("409".to_owned()));
        assert!(matches!(refused.faults(&journal(org, 0))[..], [Fault::Broken(_)]));
    }
}
