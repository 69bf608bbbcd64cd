//! What surrounds every scenario: limits, cores, the prepared fleet, a fresh copy of it for each run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::cli::{Common, Nodes, Scenario};
use crate::cluster::Ground;
use crate::fleet::{self, Fleet, Prepared};
use crate::hub::{Database, Hub, Spec};
use crate::machine::{self, Machine, Pinning};
use crate::output::{self, Run, Setting, say};
use crate::scenario;

/// What a scenario works on: a hub that is ready, and its fleet.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) spec: Option<Spec>,
    pub(crate) fleet: Arc<Fleet>,
    /// From `exec` to the first 200 of `/readyz`; none for a hub that ran already.
    pub(crate) ready_after: Option<std::time::Duration>,
}

/// The end of it all.
pub(crate) struct Outcome {
    pub(crate) table: String,
    pub(crate) is_clean: bool,
}

/// Plays a scenario as often as it is asked for.
pub(crate) async fn play(scenario: &Scenario) -> Result<Outcome> {
    let common = scenario.common();
    let open_files = machine::raise_open_files(scenario.connections()?)?;
    std::fs::create_dir_all(&common.out)
        .with_context(|| format!("cannot make the folder {}", common.out.display()))?;
    // The hub runs in its own folder, so every path must hold from there too.
    let out = common.out.canonicalize()?;
    if machine::is_in_memory(&out) {
        say(
            "the folder of --out is in memory: a sync costs nothing there, and figures of durability mean nothing",
        );
    }
    let pinning = pin(common);
    let setting = Setting {
        scenario: scenario.name(),
        database: kind_of_database(scenario),
        options: options(scenario),
        machine: Machine::look(open_files),
        pinning,
    };
    let runs = if let Some(nodes) = scenario.cluster() {
        on_clusters(scenario, nodes, &out, pinning).await?
    } else {
        on_one_hub(scenario, &out, pinning).await?
    };
    let is_clean = runs.iter().all(|run| run.faults.is_empty());
    Ok(Outcome { table: output::write(&out, &setting, &runs)?, is_clean })
}

async fn on_one_hub(scenario: &Scenario, out: &Path, pinning: Option<Pinning>) -> Result<Vec<Run>> {
    match scenario.common().foreign_address()? {
        Some(address) => on_foreign_hub(scenario, address).await,
        None => on_own_hubs(scenario, out, pinning).await,
    }
}

async fn on_clusters(
    scenario: &Scenario,
    nodes: &Nodes,
    out: &Path,
    pinning: Option<Pinning>,
) -> Result<Vec<Run>> {
    let common = scenario.common();
    let ground = Ground {
        binary: binary(common)?,
        out: out.to_path_buf(),
        pinning,
        database: common.postgres().map(str::to_owned),
        postgres_programs: nodes.postgres_bin.clone(),
    };
    let mut runs = Vec::new();
    for number in 1..=scenario.runs() {
        say(&format!("run {number} of {}", scenario.runs()));
        runs.push(scenario::run_cluster(scenario, &ground).await?);
    }
    Ok(runs)
}

fn kind_of_database(scenario: &Scenario) -> &'static str {
    match scenario {
        // It compares them.
        Scenario::Scale(_) => "both",
        _ if scenario.cluster().is_some() || scenario.common().postgres().is_some() => "postgres",
        _ => "sqlite",
    }
}

/// The scenario's options without the database's password.
fn options(scenario: &Scenario) -> String {
    let text = format!("{scenario:?}");
    scenario.common().postgres().map_or(text.clone(), |url| text.replace(url, "…"))
}

fn binary(common: &Common) -> Result<PathBuf> {
    let binary = common.hub.as_deref().context("say which hub: --hub")?;
    binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))
}

fn pin(common: &Common) -> Option<Pinning> {
    if common.no_pin {
        return None;
    }
    let wanted = Pinning { hub_core: common.hub_core, own_core: common.own_core };
    wanted.apply().inspect_err(|why| say(&format!("not pinned: {why}"))).ok()
}

async fn on_foreign_hub(scenario: &Scenario, address: std::net::SocketAddr) -> Result<Vec<Run>> {
    let common = scenario.common();
    let plan = scenario.plan()?;
    let file = common.fleet.as_deref().context("--url needs --fleet")?;
    let fleet =
        Fleet::load(file, plan)?.with_context(|| format!("there is no {}", file.display()))?;
    let fleet = Arc::new(fleet.cut(plan));
    let mut runs = Vec::new();
    for number in 1..=scenario.runs() {
        say(&format!("run {number} of {}", scenario.runs()));
        let hub = Hub::foreign(address, common.hub_pid);
        let mut world = World { hub, spec: None, fleet: Arc::clone(&fleet), ready_after: None };
        runs.push(scenario::run(scenario, &mut world).await?);
    }
    Ok(runs)
}

async fn on_own_hubs(
    scenario: &Scenario,
    out: &Path,
    pinning: Option<Pinning>,
) -> Result<Vec<Run>> {
    let common = scenario.common();
    let plan = scenario.plan()?;
    let scratch = TempDir::with_prefix_in("fleet-", out)?;
    let file = match &common.fleet {
        Some(file) => {
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            let folder = parent.unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let is_new = !file.exists();
            // The whole folder is copied for each run.
            ensure!(
                !is_new || std::fs::read_dir(folder)?.next().is_none(),
                "the folder of --fleet is to hold the fleet and its database alone: name one that is new or empty"
            );
            folder.canonicalize()?.join(file.file_name().context("--fleet must name a file")?)
        }
        None => scratch.path().join("fleet.json"),
    };
    let folder = file.parent().unwrap_or(scratch.path()).to_path_buf();
    let database = database(common, &file)?;
    let base = Spec { binary: binary(common)?, database, folder, pinning, membership: None };
    let prepared = fleet::prepare(&base, plan, &file).await?;

    let mut runs = Vec::new();
    for number in 1..=scenario.runs() {
        say(&format!("run {number} of {}", scenario.runs()));
        runs.push(one_run(scenario, out, &base, &prepared).await?);
    }
    Ok(runs)
}

async fn one_run(scenario: &Scenario, out: &Path, base: &Spec, prepared: &Prepared) -> Result<Run> {
    let folder = TempDir::with_prefix_in("run-", out)?;
    fleet::copy_folder(&prepared.folder, folder.path())?;
    // The copy's own pages must not be written in the middle of a measurement.
    nix::unistd::sync();
    let spec = Spec { folder: folder.path().to_path_buf(), ..base.clone() };
    let mut hub = Hub::new(spec.clone())?;
    let ready_after = hub.start().await?;
    let fleet = Arc::new(prepared.fleet.clone());
    let mut world = World { hub, spec: Some(spec), fleet, ready_after: Some(ready_after) };
    let run = scenario::run(scenario, &mut world).await;
    world.hub.dispose().await?;
    if run.as_ref().map_or(true, |run| !run.faults.is_empty()) {
        say(&format!("the hub's data and logs are kept in {}", folder.keep().display()));
    }
    run
}

/// The database to use. A fleet on PostgreSQL brings the key its hub was given.
fn database(common: &Common, file: &Path) -> Result<Database> {
    let Some(url) = common.postgres() else { return Ok(Database::Sqlite) };
    let earlier = Fleet::load(file, fleet::Plan::default())?.map(|fleet| fleet.secret_key);
    let secret_key = match earlier {
        Some(key) => key.context("the fleet was made on SQLite: name another file"),
        None => Ok(fleet::new_secret_key()),
    }?;
    Ok(Database::Postgres { url: url.to_owned(), secret_key })
}
