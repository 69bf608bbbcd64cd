//! Receivers of every manner, a hub that may be killed, and what must hold at the end.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use pulse_protocol::ids::OrgId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::verdict::{Case, Listed, judge, tally};
use super::{Hook, Play, called};
use crate::checker::Fault;
use crate::cli::DeliveriesArgs;
use crate::crew::Mode;
use crate::fleet::FleetOrg;
use crate::output::{Run, say};
use crate::receiver::{Manner, Received, Receiver};
use crate::scenario::{longest_absence, pace};
use crate::stage::World;

/// Short, so that what fails ends within the run: up to four attempts.
const RETRY_SCHEDULE_S: [u32; 3] = [1, 2, 4];
/// The hub lives at least so long: it must get somewhere.
const LIFE_MIN: Duration = Duration::from_millis(200);

/// One channel: where it leads to, and what came of it.
struct Fate {
    /// None where nobody is.
    manner: Option<Manner>,
    name: &'static str,
    /// By its place in the fleet.
    org: usize,
    hook: Hook,
    receiver: Option<Receiver>,
}

/// Channels that lead nowhere, beside those that lead to a receiver.
const NOWHERE: [(&str, &str); 2] = [
    ("refusing connections", "http://127.0.0.1:1/"),
    ("without an address", "http://nobody.invalid/"),
];

/// Tenants that the part takes.
pub(crate) const TENANTS_MIN: usize = Manner::ALL.len() + NOWHERE.len();

pub(super) async fn run(
    args: &DeliveriesArgs,
    play: &mut Play,
    world: &mut World,
    run: &mut Run,
) -> Result<()> {
    ensure!(play.fleet.orgs.len() >= TENANTS_MIN, "faults take at least {TENANTS_MIN} tenants");
    let fates = subscribe(play).await?;
    play.rig.set(Mode::Paced(pace(f64::from(args.fault_rate), play.rig.agents(), 1)));
    let length = Duration::from_secs(args.fault_seconds);
    match args.kill_every {
        Some(every) => under_fire(args, play, world, length, every, run).await?,
        None => sleep(length).await,
    }
    play.rig.drain().await?;

    let hooks: HashMap<OrgId, Hook> =
        fates.iter().map(|fate| (play.fleet.orgs[fate.org].id, fate.hook.clone())).collect();
    let open = play.settle(&hooks, Duration::from_secs(args.settle_seconds)).await?;
    run.figure("faults: deliveries still scheduled at the end", "", open as f64, "");
    let journals = play.read_on().await?;
    let listed = play.listed(&hooks).await?;
    let mut made = 0;
    for fate in fates {
        let org = play.fleet.orgs[fate.org].id;
        let mut called = called(&journals[&org]);
        // Once it is disabled a channel gets no deliveries.
        if let Some(disabled) = journals[&org].disabled.get(&fate.hook.channel) {
            let listed_later = |seq: &u64| listed[&org].iter().any(|one| one.seq == *seq);
            called.retain(|seq| seq < disabled || listed_later(seq));
        }
        let rows: Vec<Listed> = listed[&org].iter().map(Listed::from).collect();
        made += rows.len();
        let received = fate.receiver.as_ref().map_or_else(Received::default, Receiver::take);
        let nothing = HashMap::new();
        let accepted = received.by_path.get(&fate.hook.path).unwrap_or(&nothing);
        let case = Case {
            name: fate.name,
            called: &called,
            listed: &rows,
            accepted,
            always_accepts: fate.manner.is_some_and(Manner::always_accepts),
        };
        run.faults.extend(judge(&case));
        run.faults.extend(received.faults);
        if fate.manner == Some(Manner::Gone)
            && !journals[&org].disabled.contains_key(&fate.hook.channel)
        {
            let text = "a channel whose receiver answered 410 was not disabled".to_owned();
            run.faults.push(Fault::Broken(text));
        }
        let states: Vec<String> =
            tally(&rows).iter().map(|(state, count)| format!("{count} {state}")).collect();
        let requests: usize = received.requests.values().sum();
        run.note(format!("{}: {requests} requests, {}", fate.name, states.join(", ")));
    }
    run.figure("faults: deliveries", "", made as f64, "");
    if made == 0 {
        run.faults.push(Fault::Broken("no delivery was called for".to_owned()));
    }
    play.unsubscribe(&hooks).await
}

async fn subscribe(play: &Play) -> Result<Vec<Fate>> {
    let mut fates = Vec::new();
    for (org, manner) in Manner::ALL.into_iter().enumerate() {
        let receiver = Receiver::of(manner, None).await?;
        let hook =
            play.subscribe(&play.fleet.orgs[org], &receiver, Some(&RETRY_SCHEDULE_S)).await?;
        let (manner, name, receiver) = (Some(manner), manner.name(), Some(receiver));
        fates.push(Fate { manner, name, org, hook, receiver });
    }
    for (number, (name, url)) in NOWHERE.into_iter().enumerate() {
        let org = Manner::ALL.len() + number;
        let hook = lead_nowhere(play, &play.fleet.orgs[org], url).await?;
        fates.push(Fate { manner: None, name, org, hook, receiver: None });
    }
    Ok(fates)
}

async fn lead_nowhere(play: &Play, org: &FleetOrg, url: &str) -> Result<Hook> {
    let tenant = org.tenant();
    let channel = play.api.create_webhook(tenant, url, Some(&RETRY_SCHEDULE_S)).await?;
    let rule = play.api.create_rule(tenant, &super::EVENTS, &channel).await?;
    Ok(Hook { channel: channel.channel.id, rule: rule.id, path: String::new() })
}

/// Kills the hub at random moments, `every` apart on average.
async fn under_fire(
    args: &DeliveriesArgs,
    play: &Play,
    world: &mut World,
    length: Duration,
    every: f64,
    run: &mut Run,
) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    run.note(format!("kills drawn with --seed {seed}"));
    let mut dice = StdRng::seed_from_u64(seed);
    let most = Duration::from_secs_f64(every * 2.0).max(LIFE_MIN);
    let end = Instant::now() + length;
    let mut kills = 0;
    while Instant::now() < end {
        sleep(dice.random_range(LIFE_MIN..=most)).await;
        world.hub.kill().await?;
        let ready_after = world.hub.start().await?;
        kills += 1;
        say(&format!("kill {kills}: ready again after {ready_after:?}"));
    }
    let grace = longest_absence(&play.api, &play.fleet).await?.grace;
    play.rig.online_within(grace).await?;
    run.figure("faults: kills of the hub", "", f64::from(kills), "");
    Ok(())
}
