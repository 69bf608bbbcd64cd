//! The scenarios, one file each.

pub(crate) mod chaos;
pub(crate) mod connect;
pub(crate) mod deliveries;
pub(crate) mod detect;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod kill;
pub(crate) mod report;
pub(crate) mod rolling;
pub(crate) mod scale;
pub(crate) mod storm;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::Rng;

use crate::cli::Scenario;
use crate::cluster::Ground;
use crate::fleet::Fleet;
use crate::output::Run;
use crate::rest::Api;
use crate::stage::World;

/// Plays a scenario once.
pub(crate) async fn run(scenario: &Scenario, world: &mut World) -> Result<Run> {
    match scenario {
        Scenario::Connect(args) => Box::pin(connect::run(args, world)).await,
        Scenario::Storm(args) => Box::pin(storm::run(args, world)).await,
        Scenario::Report(args) => Box::pin(report::run(args, world)).await,
        Scenario::Fanout(args) => Box::pin(fanout::run(args, world)).await,
        Scenario::Detect(args) => Box::pin(detect::run(args, world)).await,
        Scenario::Idle(args) => Box::pin(idle::run(args, world)).await,
        Scenario::Kill(args) => Box::pin(kill::run(args, world)).await,
        Scenario::Deliveries(args) => Box::pin(deliveries::run(args, world)).await,
        Scenario::Chaos(_) | Scenario::Rolling(_) | Scenario::Scale(_) => {
            bail!("`{}` starts its own nodes", scenario.name())
        }
    }
}

/// Plays a scenario of several nodes once.
pub(crate) async fn run_cluster(scenario: &Scenario, ground: &Ground) -> Result<Run> {
    match scenario {
        Scenario::Chaos(args) => Box::pin(chaos::run(args, ground)).await,
        Scenario::Rolling(args) => Box::pin(rolling::run(args, ground)).await,
        Scenario::Scale(args) => Box::pin(scale::run(args, ground)).await,
        _ => bail!("`{}` has one hub", scenario.name()),
    }
}

/// How often each of `agents` sends a frame of so many changes for `rate` changes a second in all.
pub(crate) fn pace(rate: f64, agents: usize, reports_per_frame: usize) -> Duration {
    Duration::from_secs_f64(agents as f64 * reports_per_frame as f64 / rate.max(0.001))
}

/// A random part of `whole`.
pub(crate) fn part_of(whole: Duration) -> Duration {
    whole.mul_f64(rand::rng().random_range(0.0..1.0))
}

/// How long agents may stay away before they are announced offline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    pub(crate) timeout: Duration,
    pub(crate) grace: Duration,
}

/// As the first org has it; all of a fleet have the same.
pub(crate) async fn longest_absence(api: &Api, fleet: &Fleet) -> Result<Absence> {
    let org = fleet.orgs.first().context("the fleet has no org")?;
    let org = api.org(org.tenant()).await?;
    Ok(Absence {
        timeout: Duration::from_millis(org.heartbeat_timeout_ms),
        grace: Duration::from_millis(org.offline_grace_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_each_adds_up_to_the_rate_of_all() {
        assert_eq!(pace(1_000.0, 100, 1), Duration::from_millis(100));
        assert_eq!(pace(10_000.0, 100, 10), Duration::from_millis(100));
    }
}
