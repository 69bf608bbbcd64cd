//! Orgs, agents and devices to load the hub with, made once over the public interface and used again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use pulse_protocol::ids::{AgentId, CheckId, DeviceId, OrgId};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::hub::{Database, Hub, Spec};
use crate::output::say;
use crate::rest::{Api, Tenant};

/// Agents that the largest plan allows in one org.
pub(crate) const AGENTS_PER_ORG_MAX: usize = 100;
/// Requests under way at once: enough for the hub to commit many together.
const REQUESTS: usize = 64;
/// Bootstraps under way at once: each hashes a password, which is slow on purpose.
const BOOTSTRAPS: usize = 2;

/// What a scenario needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) orgs: usize,
    pub(crate) agents_per_org: usize,
    pub(crate) devices_per_agent: usize,
    /// Only so many agents of each org have devices; all, if none.
    #[serde(default)]
    pub(crate) reporting_per_org: Option<usize>,
}

impl Plan {
    /// `agents` over `orgs`, or over as few orgs as may hold them.
    pub(crate) fn spread(
        agents: usize,
        orgs: Option<usize>,
        devices_per_agent: usize,
    ) -> Result<Self> {
        let orgs = orgs.unwrap_or_else(|| agents.div_ceil(AGENTS_PER_ORG_MAX)).max(1);
        let agents_per_org = agents.div_ceil(orgs);
        ensure!(
            agents_per_org <= AGENTS_PER_ORG_MAX,
            "{agents} agents in {orgs} orgs are {agents_per_org} each, and a plan allows {AGENTS_PER_ORG_MAX}"
        );
        Ok(Self { orgs, agents_per_org, devices_per_agent, reporting_per_org: None })
    }

    pub(crate) const fn agents(&self) -> usize {
        self.orgs * self.agents_per_org
    }

    fn reporting_of_each(&self) -> usize {
        self.reporting_per_org.unwrap_or(self.agents_per_org).min(self.agents_per_org)
    }

    const fn is_within(&self, other: &Self) -> bool {
        self.orgs <= other.orgs
            && self.agents_per_org <= other.agents_per_org
            && self.devices_per_agent <= other.devices_per_agent
    }
}

/// Everything that was made, with its secrets: the file belongs beside the database and nowhere else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fleet {
    pub(crate) plan: Plan,
    pub(crate) orgs: Vec<FleetOrg>,
    /// The key of a hub on PostgreSQL.
    #[serde(default)]
    pub(crate) secret_key: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FleetOrg {
    pub(crate) id: OrgId,
    pub(crate) token: String,
    pub(crate) agents: Vec<FleetAgent>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FleetAgent {
    pub(crate) id: AgentId,
    pub(crate) key: String,
    pub(crate) devices: Vec<FleetDevice>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct FleetDevice {
    pub(crate) id: DeviceId,
    pub(crate) check_id: CheckId,
}

impl FleetOrg {
    pub(crate) fn tenant(&self) -> Tenant<'_> {
        Tenant { org: self.id, token: &self.token }
    }
}

impl Fleet {
    /// The part of it that `plan` asks for.
    pub(crate) fn cut(mut self, plan: Plan) -> Self {
        self.orgs.truncate(plan.orgs);
        for org in &mut self.orgs {
            org.agents.truncate(plan.agents_per_org);
            for agent in &mut org.agents {
                agent.devices.truncate(plan.devices_per_agent);
            }
        }
        self.plan = plan;
        self
    }

    /// Reads a fleet made earlier. None if there is no such file.
    ///
    /// # Errors
    ///
    /// Returns an error for a file of another form, or a fleet too small for `plan`.
    pub(crate) fn load(file: &Path, plan: Plan) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let fleet: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} is no fleet; remove it or name another", file.display())
        })?;
        ensure!(
            plan.is_within(&fleet.plan),
            "the fleet in {} has {:?} and {plan:?} is needed: remove its folder, or name another file",
            file.display(),
            fleet.plan
        );
        Ok(Some(fleet))
    }

    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Makes orgs with `admin bootstrap`; the first alone, because it also makes the tables.
pub(crate) async fn bootstrap(spec: &Spec, count: usize) -> Result<Vec<FleetOrg>> {
    let run: u32 = rand::rng().random();
    let made = AtomicUsize::new(0);
    let one = async |number: usize| -> Result<FleetOrg> {
        let email = format!("load-{run:08x}-{number}@example.com");
        let printed = spec.bootstrap(&email, &format!("Load {run:08x} {number}")).await?;
        progress("orgs", &made, count);
        let token =
            printed.api_token.context("`admin bootstrap` printed no token for a new org")?;
        Ok(FleetOrg { id: printed.org_id, token, agents: Vec::new() })
    };
    let mut orgs = Vec::with_capacity(count);
    if count > 0 {
        orgs.push(one(0).await?);
    }
    let others: Vec<FleetOrg> =
        stream::iter((1..count).map(&one)).buffered(BOOTSTRAPS).try_collect().await?;
    orgs.extend(others);
    Ok(orgs)
}

/// Gives each org its agents, and each agent its devices.
pub(crate) async fn enrol(api: &Api, orgs: &mut [FleetOrg], plan: Plan) -> Result<()> {
    let made = AtomicUsize::new(0);
    let reporting = plan.reporting_of_each();
    let (all_agents, all_devices) = (plan.agents(), plan.orgs * reporting * plan.devices_per_agent);
    let wanted: Vec<(usize, usize)> = (0..plan.agents_per_org)
        .flat_map(|agent| (0..orgs.len()).map(move |org| (org, agent)))
        .collect();
    let tenants: Vec<(OrgId, String)> =
        orgs.iter().map(|org| (org.id, org.token.clone())).collect();
    let new_agent = async |(at, number): (usize, usize)| -> Result<(usize, FleetAgent)> {
        let tenant = Tenant { org: tenants[at].0, token: &tenants[at].1 };
        let created = api.create_agent(tenant, format!("agent {number}")).await?;
        progress("agents", &made, all_agents);
        Ok((at, FleetAgent { id: created.agent.id, key: created.api_key, devices: Vec::new() }))
    };
    let mut agents = stream::iter(wanted.into_iter().map(new_agent)).buffered(REQUESTS);
    while let Some((at, agent)) = agents.try_next().await? {
        orgs[at].agents.push(agent);
    }
    drop(agents);

    made.store(0, Ordering::Relaxed);
    let wanted: Vec<(usize, usize, usize)> = (0..plan.devices_per_agent)
        .flat_map(|device| (0..reporting).map(move |agent| (agent, device)))
        .flat_map(|(agent, device)| (0..orgs.len()).map(move |org| (org, agent, device)))
        .collect();
    let ids: Vec<Vec<AgentId>> =
        orgs.iter().map(|org| org.agents.iter().map(|agent| agent.id).collect()).collect();
    let new_device = async |(at, agent, number): (usize, usize, usize)| {
        let tenant = Tenant { org: tenants[at].0, token: &tenants[at].1 };
        let body = json!({
            "agent_id": ids[at][agent],
            "name": format!("device {agent}.{number}"),
            "address": format!("10.{agent}.{}.{}", number / 256, number % 256),
            "checks": [{ "check": "ping", "failure_threshold": 1 }],
        });
        let device = api.create_device(tenant, &body).await?;
        progress("devices", &made, all_devices);
        let check = device.checks.first().context("a new device has no check")?;
        anyhow::Ok((at, agent, FleetDevice { id: device.id, check_id: check.id }))
    };
    let mut devices = stream::iter(wanted.into_iter().map(new_device)).buffered(REQUESTS);
    while let Some((at, agent, device)) = devices.try_next().await? {
        orgs[at].agents[agent].devices.push(device);
    }
    Ok(())
}

fn progress(what: &str, made: &AtomicUsize, all: usize) {
    let made = made.fetch_add(1, Ordering::Relaxed) + 1;
    let step = (all / 10).max(1);
    if made.is_multiple_of(step) || made == all {
        say(&format!("made {made} of {all} {what}"));
    }
}

/// A prepared fleet and the folder it lives in: each run works on a copy.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) fleet: Fleet,
    pub(crate) folder: PathBuf,
}

/// Makes the fleet in `spec.folder` and writes it to `file` there, or takes what was made there before.
pub(crate) async fn prepare(spec: &Spec, plan: Plan, file: &Path) -> Result<Prepared> {
    if let Some(fleet) = Fleet::load(file, plan)? {
        return Ok(Prepared { fleet: fleet.cut(plan), folder: spec.folder.clone() });
    }
    let mut fleet = Fleet { plan, ..Fleet::default() };
    if let Database::Postgres { secret_key, .. } = &spec.database {
        fleet.secret_key = Some(secret_key.clone());
    }
    if plan.orgs > 0 {
        say(&format!("preparing {} orgs, {} agents", plan.orgs, plan.agents()));
        fleet.orgs = bootstrap(spec, plan.orgs).await?;
        let mut hub = Hub::new(spec.clone())?;
        hub.start().await?;
        enrol(&Api::new(hub.address())?, &mut fleet.orgs, plan).await?;
        // A proper end leaves a database that can be copied.
        hub.terminate().await?;
    }
    fleet.save(file)?;
    Ok(Prepared { fleet, folder: spec.folder.clone() })
}

/// A key for a hub on PostgreSQL, which makes none itself.
pub(crate) fn new_secret_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(rand::rng().random::<[u8; 32]>())
}

/// Copies the files of a folder into another that exists.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?
    {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy to {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(plan: Plan) -> Fleet {
        let device = || FleetDevice { id: DeviceId::new(), check_id: CheckId::new() };
        let agent = || FleetAgent {
            id: AgentId::new(),
            key: "vp_x".to_owned(),
            devices: (0..plan.devices_per_agent).map(|_| device()).collect(),
        };
        let org = || FleetOrg {
            id: OrgId::new(),
            token: "vpt_x".to_owned(),
            agents: (0..plan.agents_per_org).map(|_| agent()).collect(),
        };
        Fleet { plan, orgs: (0..plan.orgs).map(|_| org()).collect(), secret_key: None }
    }

    #[test]
    fn agents_are_spread_over_as_few_orgs_as_hold_them() {
        let plan = Plan::spread(10_000, None, 0).unwrap();
        assert_eq!((plan.orgs, plan.agents_per_org), (100, 100));
        assert_eq!(Plan::spread(100, Some(20), 20).unwrap().agents_per_org, 5);
        assert!(Plan::spread(500, Some(2), 0).is_err());
    }

    #[test]
    fn a_saved_fleet_is_taken_where_it_is_large_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.json");
        let plan = Plan { orgs: 3, agents_per_org: 4, devices_per_agent: 2, ..Plan::default() };
        assert!(Fleet::load(&file, plan).unwrap().is_none());
        let made = fleet(plan);
        made.save(&file).unwrap();
        let smaller = Plan { orgs: 2, agents_per_org: 1, ..Plan::default() };
        let cut = Fleet::load(&file, smaller).unwrap().unwrap().cut(smaller);
        assert_eq!(cut.orgs.len(), 2);
        assert_eq!(cut.orgs[1].agents[0].id, made.orgs[1].agents[0].id);
        assert!(cut.orgs[1].agents[0].devices.is_empty());
        let larger = Plan { orgs: 4, ..plan };
        assert!(Fleet::load(&file, larger).unwrap_err().to_string().contains("name another file"));
    }

    #[test]
    fn a_folder_is_copied_whole() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("keys")).unwrap();
        std::fs::write(from.path().join("keys/one"), "secret").unwrap();
        copy_folder(from.path(), to.path()).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("keys/one")).unwrap(), "secret");
    }
}
