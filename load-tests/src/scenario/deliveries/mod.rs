//! `deliveries`: webhooks a second and how soon they arrive; what hanging endpoints of others cost a tenant (T8); and
//! that nothing is lost, made up or left lying among receivers of every kind.

mod fairness;
mod faults;
mod throughput;
pub(crate) mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pulse_protocol::api::{Delivery, DeliveryState};
use pulse_protocol::ids::{ChannelId, OrgId, RuleId};
use tokio::time::{Instant, sleep};

use crate::cli::{DeliveriesArgs, DeliveriesPart};
use crate::crew::Mode;
use crate::fleet::{Fleet, FleetOrg};
use crate::journal::{self, Journal};
use crate::output::{Run, say};
use crate::receiver::Receiver;
use crate::rest::Api;
use crate::rig::{Rig, Shape};
use crate::scenario::pace;
use crate::stage::World;

/// Short waits: an agent must not stay away for longer than the grace by its own back-off, or it would rightly be
/// announced.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Orgs that are asked something at once.
const REQUESTS: usize = 16;
/// How often the hub is asked whether deliveries are still on their way.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What each change of a device calls for.
const EVENTS: [&str; 2] = ["device.offline", "device.online"];

pub(crate) async fn run(args: &DeliveriesArgs, world: &mut World) -> Result<Run> {
    let mut run = Run::default();
    let mut play = Play::begin(world).await?;
    run.note(format!(
        "{} orgs with a channel and a rule each, {} devices each",
        world.fleet.orgs.len(),
        args.devices
    ));
    if args.plays(DeliveriesPart::Throughput) {
        throughput::run(args, &mut play, world, &mut run).await?;
    }
    if args.plays(DeliveriesPart::Fairness) {
        fairness::run(args, &mut play, world, &mut run).await?;
    }
    if args.plays(DeliveriesPart::Faults) {
        faults::run(args, &mut play, world, &mut run).await?;
    }
    let verdict = play.rig.finish(&mut world.hub).await?;
    run.faults.extend(verdict.faults);
    Ok(run)
}

/// Agents at work on a hub, whose journals are read part by part.
struct Play {
    api: Api,
    fleet: Arc<Fleet>,
    rig: Rig,
    /// Up to here each org's journal was read.
    read_to: HashMap<OrgId, u64>,
}

/// A webhook of an org, and the rule that calls for it.
#[derive(Clone, Debug)]
struct Hook {
    channel: ChannelId,
    rule: RuleId,
    path: String,
}

impl Play {
    /// Every device is online afterwards: from here on each report is a change that a rule may call for.
    async fn begin(world: &World) -> Result<Self> {
        let api = Api::new(world.hub.address())?;
        let fleet = Arc::clone(&world.fleet);
        let shape = Shape {
            reports_per_frame: 1,
            in_flight: 256,
            backoff_max: BACKOFF_MAX,
            viewers: 0,
            sample_every: 1,
        };
        let rig = Rig::start(&world.hub, Arc::clone(&fleet), shape).await?;
        rig.all_online().await?;
        let mut play = Self { api, fleet, rig, read_to: HashMap::new() };
        let devices: usize =
            play.fleet.orgs.iter().flat_map(|org| &org.agents).map(|a| a.devices.len()).sum();
        say(&format!("bringing {devices} devices online"));
        play.rig.set(Mode::Paced(pace(2_000.0, play.rig.agents(), 1)));
        while play.rig.changes_acked() < devices as u64 {
            sleep(Duration::from_millis(20)).await;
        }
        play.rig.drain().await?;
        play.read_on().await?;
        Ok(play)
    }

    /// What came into the journals since they were last read.
    async fn read_on(&mut self) -> Result<HashMap<OrgId, Journal>> {
        let reading = self.fleet.orgs.iter().map(|org| {
            let after = self.read_to.get(&org.id).copied().unwrap_or(0);
            let api = &self.api;
            async move { anyhow::Ok((org.id, journal::read(api, org, after).await?)) }
        });
        let journals: HashMap<OrgId, Journal> =
            stream::iter(reading).buffer_unordered(REQUESTS).try_collect().await?;
        self.read_to = journals.iter().map(|(org, journal)| (*org, journal.last)).collect();
        Ok(journals)
    }

    /// Gives an org a signed webhook to a receiver, and a rule that calls for it.
    async fn subscribe(
        &self,
        org: &FleetOrg,
        receiver: &Receiver,
        retry_schedule_s: Option<&[u32]>,
    ) -> Result<Hook> {
        let path = format!("/{}", org.id);
        let url = receiver.url(&path);
        let channel = self.api.create_webhook(org.tenant(), &url, retry_schedule_s).await?;
        let secret = channel.secret.as_deref().context("a new webhook was given no secret")?;
        receiver.expect_signed(&path, secret)?;
        let rule = self.api.create_rule(org.tenant(), &EVENTS, &channel).await?;
        Ok(Hook { channel: channel.channel.id, rule: rule.id, path })
    }

    async fn subscribe_all(&self, receiver: &Receiver) -> Result<HashMap<OrgId, Hook>> {
        let subscribing = self.fleet.orgs.iter().map(|org| async move {
            anyhow::Ok((org.id, self.subscribe(org, receiver, None).await?))
        });
        stream::iter(subscribing).buffer_unordered(REQUESTS).try_collect().await
    }

    /// Takes them away again, with what is still on its way.
    async fn unsubscribe(&self, hooks: &HashMap<OrgId, Hook>) -> Result<()> {
        for org in &self.fleet.orgs {
            if let Some(hook) = hooks.get(&org.id) {
                self.api.remove_webhook(org.tenant(), hook.rule, hook.channel).await?;
            }
        }
        Ok(())
    }

    /// Deliveries of these channels that have not ended.
    async fn open(&self, hooks: &HashMap<OrgId, Hook>) -> Result<usize> {
        let asking = self.hooked(hooks).flat_map(|(org, hook)| {
            [DeliveryState::Queued, DeliveryState::Retrying].map(|state| async move {
                let found = self.api.deliveries_of(org.tenant(), hook.channel, Some(state)).await?;
                anyhow::Ok(found.len())
            })
        });
        let counts: Vec<usize> =
            stream::iter(asking).buffer_unordered(REQUESTS).try_collect().await?;
        Ok(counts.iter().sum())
    }

    /// Waits until no delivery of these channels is on its way, or time runs out; returns how many are.
    async fn settle(&self, hooks: &HashMap<OrgId, Hook>, patience: Duration) -> Result<usize> {
        let deadline = Instant::now() + patience;
        let mut told = Instant::now();
        loop {
            let open = self.open(hooks).await?;
            if open == 0 || Instant::now() > deadline {
                return Ok(open);
            }
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                say(&format!("{open} deliveries are still on their way"));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// All deliveries of these channels.
    async fn listed(&self, hooks: &HashMap<OrgId, Hook>) -> Result<HashMap<OrgId, Vec<Delivery>>> {
        let asking = self.hooked(hooks).map(|(org, hook)| async move {
            let found = self.api.deliveries_of(org.tenant(), hook.channel, None).await?;
            anyhow::Ok((org.id, found))
        });
        stream::iter(asking).buffer_unordered(REQUESTS).try_collect().await
    }

    fn hooked<'a>(
        &'a self,
        hooks: &'a HashMap<OrgId, Hook>,
    ) -> impl Iterator<Item = (&'a FleetOrg, &'a Hook)> {
        self.fleet.orgs.iter().filter_map(|org| Some((org, hooks.get(&org.id)?)))
    }
}

/// The events of a journal that the rule calls for.
fn called(journal: &Journal) -> BTreeSet<u64> {
    journal.devices_gone.union(&journal.devices_back).copied().collect()
}
