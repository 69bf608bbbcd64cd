//! The machine under the run: cores, open files, and what a process uses of them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::process::Command;

/// Starts a program on a chosen core.
const TASKSET: &str = "taskset";

/// Which core the hub runs on and which one this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Pinning {
    pub(crate) hub_core: usize,
    pub(crate) own_core: usize,
}

impl Pinning {
    /// Moves this process to its own core. None, with the reason, where the machine does not allow it.
    pub(crate) fn apply(self) -> Result<Self, String> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(|errno| errno.to_string())?;
        for core in [self.hub_core, self.own_core] {
            if !allowed.is_set(core).unwrap_or(false) {
                return Err(format!("this process may not run on core {core}"));
            }
        }
        std::process::Command::new(TASKSET)
            .arg("--version")
            .output()
            .map_err(|error| format!("`{TASKSET}` (util-linux) does not run: {error}"))?;
        move_to(self.own_core)?;
        Ok(self)
    }

    /// A command that runs `binary` on the hub's core from its first instruction.
    ///
    /// Not by moving this thread there to start it: it would then wait for the very hub it has started to leave
    /// the core, and everything it simulates with it.
    pub(crate) fn on_hub_core(self, binary: &Path) -> Command {
        let mut command = Command::new(TASKSET);
        command.arg("-c").arg(self.hub_core.to_string()).arg(binary);
        command
    }
}

fn move_to(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("cannot move to core {core}: {errno}"))
}

/// Files that neither a connection nor a database needs: standard streams, logs, timers, REST connections.
const FILES_BESIDE: u64 = 500;

/// Raises the limit of open files to the hard one, here and in the hub that is started later.
///
/// # Errors
///
/// Says how to raise the hard limit where `connections` do not fit.
pub(crate) fn raise_open_files(connections: usize) -> Result<u64> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .context("cannot raise the limit of open files")?;
    let needed = connections as u64 + FILES_BESIDE;
    ensure!(
        hard >= needed,
        "{connections} connections need {needed} open files and the hard limit is {hard}: \
         raise it with `ulimit -Hn {needed}` as root, or ask for fewer connections"
    );
    Ok(hard)
}

/// Whether what is written there is only in memory, so that a sync costs nothing.
pub(crate) fn is_in_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    at: Instant,
    cpu_ticks: u64,
    pub(crate) rss_kib: f64,
    /// Its own memory and its share of what it has in common with others. None where the kernel hides it.
    pub(crate) pss_kib: Option<f64>,
}

impl Look {
    /// Reads `/proc/<pid>/stat` and `smaps_rollup`.
    pub(crate) fn at(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("not a process id")?;
        let process = procfs::process::Process::new(pid)
            .with_context(|| format!("process {pid} is gone; see the hub's log"))?;
        let stat = process.stat()?;
        let pss_kib = process.smaps_rollup().ok().and_then(|rollup| {
            let pss = rollup.memory_map_rollup.0.first()?.extension.map.get("Pss").copied()?;
            Some(pss as f64 / 1_024.0)
        });
        Ok(Self {
            at: Instant::now(),
            cpu_ticks: stat.utime + stat.stime,
            rss_kib: (stat.rss * procfs::page_size()) as f64 / 1_024.0,
            pss_kib,
        })
    }

    /// Reads this process itself.
    pub(crate) fn at_self() -> Result<Self> {
        Self::at(std::process::id())
    }

    /// Share of one core used since `earlier`, in percent.
    pub(crate) fn cpu_pct_since(&self, earlier: &Self) -> f64 {
        let ticks = self.cpu_ticks.saturating_sub(earlier.cpu_ticks) as f64;
        let elapsed_s = (self.at - earlier.at).as_secs_f64();
        100.0 * ticks / procfs::ticks_per_second() as f64 / elapsed_s.max(0.001)
    }
}

/// Seconds of a core that a process used since it began.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    Look::at(pid).map(|look| seconds(look.cpu_ticks))
}

/// The same of a process with its children, those that ended included: of a PostgreSQL.
pub(crate) fn family_cpu_seconds(pid: u32) -> Result<f64> {
    let parent = i32::try_from(pid).context("not a process id")?;
    let stat = procfs::process::Process::new(parent)?.stat()?;
    let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
    let living = children(pid)?.into_iter().filter_map(|child| Look::at(child).ok());
    let ticks = living.fold(stat.utime + stat.stime + ended, |sum, child| sum + child.cpu_ticks);
    Ok(seconds(ticks))
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

/// The processes that a process started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let parent = i32::try_from(pid).context("not a process id")?;
    let all = procfs::process::all_processes().context("cannot list the processes")?;
    // One that ended meanwhile is none.
    let stats = all.filter_map(|process| process.ok()?.stat().ok());
    Ok(stats
        .filter(|stat| stat.ppid == parent)
        .filter_map(|stat| u32::try_from(stat.pid).ok())
        .collect())
}

/// What hub and generator used while something ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    /// What ran.
    pub(crate) phase: String,
    pub(crate) seconds: f64,
    /// Percent of one core. None for a hub whose process is not known.
    pub(crate) hub_cpu_pct: Option<f64>,
    pub(crate) hub_rss_kib: Option<f64>,
    pub(crate) hub_pss_kib: Option<f64>,
    pub(crate) generator_cpu_pct: f64,
    pub(crate) generator_rss_kib: f64,
}

/// Measures [`Usage`] from its start to [`Meter::stop`].
#[derive(Debug)]
pub(crate) struct Meter {
    hub_pid: Option<u32>,
    hub: Option<Look>,
    own: Look,
}

impl Meter {
    pub(crate) fn start(hub_pid: Option<u32>) -> Result<Self> {
        let hub = hub_pid.map(Look::at).transpose()?;
        Ok(Self { hub_pid, hub, own: Look::at_self()? })
    }

    pub(crate) fn stop(&self, phase: &str) -> Result<Usage> {
        let hub = self.hub_pid.map(Look::at).transpose()?;
        let own = Look::at_self()?;
        Ok(Usage {
            phase: phase.to_owned(),
            seconds: (own.at - self.own.at).as_secs_f64(),
            hub_cpu_pct: hub.zip(self.hub).map(|(now, then)| now.cpu_pct_since(&then)),
            hub_rss_kib: hub.map(|look| look.rss_kib),
            hub_pss_kib: hub.and_then(|look| look.pss_kib),
            generator_cpu_pct: own.cpu_pct_since(&self.own),
            generator_rss_kib: own.rss_kib,
        })
    }
}

/// What the figures were measured on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) open_files: u64,
}

impl Machine {
    pub(crate) fn look(open_files: u64) -> Self {
        use procfs::Current as _;
        let info = procfs::CpuInfo::current().ok();
        let model = info.as_ref().and_then(|info| info.model_name(0)).unwrap_or("unknown");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: model.to_owned(),
            cores: info.map_or(0, |info| info.num_cores()),
            kernel: kernel.trim().to_owned(),
            open_files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_its_core() {
        let before = Look::at_self().unwrap();
        assert!(before.rss_kib > 100.0, "{before:?}");
        let mut spins = 0_u64;
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let after = loop {
            spins = std::hint::black_box(spins + 1);
            let look = Look::at_self().unwrap();
            if look.cpu_ticks >= before.cpu_ticks + 5 || Instant::now() > deadline {
                break look;
            }
        };
        assert!(after.cpu_pct_since(&before) > 0.0, "{spins} turns used no processor time");
    }

    #[test]
    fn a_limit_that_is_too_low_is_said_clearly() {
        let error = raise_open_files(usize::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Look::at(u32::MAX / 4).is_err());
    }
}
