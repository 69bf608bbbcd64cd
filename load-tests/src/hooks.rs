//! A webhook for each org, and the proof that every event which calls for it was delivered.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use pulse_protocol::api::{Delivery, DeliveryState};
use pulse_protocol::ids::{ChannelId, OrgId};
use tokio::time::{Instant, sleep};

use crate::checker::{self, Delivered, Fault};
use crate::fleet::{Fleet, FleetOrg};
use crate::journal::Journal;
use crate::output::{Run, say};
use crate::receiver::Receiver;
use crate::rest::Api;

/// A receiver, and the channel of each org that leads to it.
pub(crate) struct Hooks {
    receiver: Receiver,
    channels: HashMap<OrgId, ChannelId>,
}

impl Hooks {
    /// Gives each org a signed webhook to one receiver, and a rule that calls for it.
    pub(crate) async fn subscribe(api: &Api, fleet: &Fleet) -> Result<Self> {
        let receiver = Receiver::start().await?;
        let subscribing = fleet.orgs.iter().map(|org| subscribe(api, org, &receiver));
        let channels = try_join_all(subscribing).await?.into_iter().collect();
        Ok(Self { receiver, channels })
    }

    /// Waits until no delivery is on its way any more, or time runs out; returns them all.
    pub(crate) async fn settle(
        &self,
        api: &Api,
        fleet: &Fleet,
        patience: Duration,
    ) -> Result<HashMap<OrgId, Vec<Delivery>>> {
        let deadline = Instant::now() + patience;
        loop {
            let mut open = 0;
            for org in &fleet.orgs {
                for state in [DeliveryState::Queued, DeliveryState::Retrying] {
                    let found = api.deliveries(org.tenant(), Some(state)).await?;
                    open += found.iter().filter(|one| self.made(org.id, one)).count();
                }
            }
            if open == 0 || Instant::now() > deadline {
                break;
            }
            say(&format!("{open} deliveries are still on their way"));
            sleep(Duration::from_secs(2)).await;
        }
        let mut all = HashMap::new();
        for org in &fleet.orgs {
            let mut found = api.deliveries(org.tenant(), None).await?;
            found.retain(|one| self.made(org.id, one));
            all.insert(org.id, found);
        }
        Ok(all)
    }

    /// Whether it is of this run: a database that is used again has the channels of earlier ones too.
    fn made(&self, org: OrgId, delivery: &Delivery) -> bool {
        self.channels.get(&org) == Some(&delivery.channel_id)
    }

    /// Compares what the rules called for with what was made, and with what came in.
    pub(crate) fn judge(
        self,
        made: &HashMap<OrgId, Vec<Delivery>>,
        journals: &HashMap<OrgId, Journal>,
        run: &mut Run,
    ) {
        let received = self.receiver.take();
        let nothing = HashMap::new();
        for (org, deliveries) in made {
            let listed: Vec<Delivered> = deliveries
                .iter()
                .map(|one| Delivered { id: one.id.to_string(), seq: one.seq, state: one.state })
                .collect();
            let journal = &journals[org];
            let gone = journal.devices_gone.iter().copied();
            let called: BTreeSet<u64> =
                gone.chain(journal.offline.iter().map(|one| one.seq)).collect();
            let received = received.by_path.get(&path(*org)).unwrap_or(&nothing);
            run.faults.extend(checker::deliveries(&org.to_string(), &called, &listed, received));
        }
        let counts = received.by_path.values().flat_map(HashMap::values);
        let repeats = counts.filter(|count| **count > 1).count();
        run.figure("deliveries", "", made.values().map(Vec::len).sum::<usize>() as f64, "");
        run.figure("deliveries received more than once", "", repeats as f64, "");
        run.faults.extend(received.faults);
    }
}

fn path(org: OrgId) -> String {
    format!("/{org}")
}

async fn subscribe(api: &Api, org: &FleetOrg, receiver: &Receiver) -> Result<(OrgId, ChannelId)> {
    let path = path(org.id);
    let channel = api.create_webhook(org.tenant(), &receiver.url(&path), None).await?;
    let secret = channel.secret.as_deref().context("a new webhook was given no secret")?;
    receiver.expect_signed(&path, secret)?;
    api.create_rule(org.tenant(), &["agent.offline", "device.offline"], &channel).await?;
    Ok((org.id, channel.channel.id))
}

/// Announcements of agents that were there: one fault each.
pub(crate) fn false_alarms(org: OrgId, journal: &Journal) -> impl Iterator<Item = Fault> {
    journal.offline.iter().map(move |one| {
        let what = format!("agent {} was falsely announced offline", one.agent);
        Fault::Broken(format!("{what} in event {} of {org}", one.seq))
    })
}
