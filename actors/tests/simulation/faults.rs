//! What goes wrong, and when.
//!
//! While the storm lasts, things fail by chance ([`Chances`]) and by plan: nodes crash, stand still, are parted, lose
//! the coordination service or are drained; agents lose their sockets. After it everything works, and the world must
//! come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::nodes::Order;
use crate::plan::{Chances, Plan};
use crate::world::World;

/// What is wrong now, and until when something was.
pub(crate) struct Weather {
    chances: Chances,
    parted: BTreeMap<(usize, usize), usize>,
    cut: BTreeMap<usize, usize>,
    /// When something was last wrong with a node, or with the bus between two.
    nodes_wrong: BTreeMap<usize, Instant>,
    bus_wrong: BTreeMap<(usize, usize), Instant>,
    storm_ends: Instant,
    paused: BTreeSet<usize>,
}

impl Weather {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            chances: plan.chances,
            parted: BTreeMap::new(),
            cut: BTreeMap::new(),
            nodes_wrong: BTreeMap::new(),
            bus_wrong: BTreeMap::new(),
            storm_ends: Instant::now() + Duration::from_millis(plan.storm_ms),
            paused: BTreeSet::new(),
        }
    }

    pub(crate) fn is_stormy(&self) -> bool {
        Instant::now() < self.storm_ends
    }

    pub(crate) fn are_parted(&self, one: usize, other: usize) -> bool {
        self.parted.contains_key(&pair(one, other))
    }

    pub(crate) fn is_cut(&self, node: usize) -> bool {
        self.cut.contains_key(&node)
    }

    /// Notes that something is wrong with a node.
    pub(crate) fn wrong(&mut self, node: usize) {
        self.nodes_wrong.insert(node, Instant::now());
    }

    /// Whether nothing was wrong with two nodes and the bus between them for this long.
    pub(crate) fn were_sound(&self, one: usize, other: usize, time: Duration) -> bool {
        let long_ago = |at: Option<&Instant>| at.is_none_or(|at| at.elapsed() > time);
        let lossy =
            self.chances.message_lost + self.chances.message_doubled + self.chances.message_late
                > 0.0;
        let bus_is_sound = one == other
            || !self.are_parted(one, other)
                && long_ago(self.bus_wrong.get(&pair(one, other)))
                && !(lossy && Instant::now() < self.storm_ends + time);
        let node_is_sound = |node| {
            !self.is_cut(node)
                && !self.paused.contains(&node)
                && long_ago(self.nodes_wrong.get(&node))
        };
        bus_is_sound && node_is_sound(one) && node_is_sound(other)
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// Something that goes wrong by plan.
type Fault = fn(&Arc<World>);

impl World {
    /// What may go wrong by itself now.
    pub(crate) fn chances(&self) -> Chances {
        let weather = self.weather.lock();
        if weather.is_stormy() { weather.chances } else { Chances::default() }
    }

    /// Plans the whole storm.
    pub(crate) fn plan_storm(self: &Arc<Self>) {
        let plan = &self.plan;
        let kinds: [(usize, Fault); 7] = [
            (plan.crashes, crash),
            (plan.pauses, pause),
            (plan.partitions, part),
            (plan.cuts, cut),
            (plan.wipes, wipe),
            (plan.drains, drain),
            (plan.resets, reset),
        ];
        for (times, fault) in kinds {
            for _ in 0..times {
                self.after(self.between(100, plan.storm_ms), fault);
            }
        }
    }

    /// A time within the rest of the storm, mostly short.
    fn while_it_lasts(&self) -> Duration {
        let time =
            if self.happens(0.5) { self.between(50, 1_500) } else { self.between(50, 8_000) };
        let rest = self.weather.lock().storm_ends.saturating_duration_since(Instant::now());
        time.min(rest)
    }

    fn any_node(&self) -> usize {
        usize::try_from(self.between(0, self.plan.nodes as u64 - 1).as_millis()).unwrap_or(0)
    }
}

fn crash(world: &Arc<World>) {
    let node = world.any_node();
    if !world.is_running(node) {
        return;
    }
    world.order(Order::Kill(node));
    let back = world.while_it_lasts();
    world.after(back, move |world| world.order(Order::Start(node)));
}

fn pause(world: &Arc<World>) {
    let node = world.any_node();
    if !world.is_running(node) || !world.weather.lock().paused.insert(node) {
        return;
    }
    let time = world.while_it_lasts();
    world.order(Order::Pause(node));
    world.after(time, move |world| {
        let mut weather = world.weather.lock();
        weather.paused.remove(&node);
        weather.wrong(node);
        drop(weather);
        world.order(Order::Resume(node));
    });
}

fn part(world: &Arc<World>) {
    let (one, other) = (world.any_node(), world.any_node());
    if one == other {
        return;
    }
    let (key, time) = (pair(one, other), world.while_it_lasts());
    world.note(format_args!("n{one} and n{other} are parted for {time:?}"));
    *world.weather.lock().parted.entry(key).or_default() += 1;
    world.after(time, move |world| {
        let mut weather = world.weather.lock();
        release(&mut weather.parted, key);
        weather.bus_wrong.insert(key, Instant::now());
    });
}

fn cut(world: &Arc<World>) {
    let (node, time) = (world.any_node(), world.while_it_lasts());
    world.note(format_args!("n{node} is cut off from the coordination for {time:?}"));
    *world.weather.lock().cut.entry(node).or_default() += 1;
    world.after(time, move |world| {
        let mut weather = world.weather.lock();
        release(&mut weather.cut, node);
        weather.wrong(node);
    });
}

fn release<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

fn wipe(world: &Arc<World>) {
    world.note(format_args!("the coordination forgets everything"));
    world.network.lock().wipe();
}

fn drain(world: &Arc<World>) {
    let node = world.any_node();
    if world.leave(node) {
        world.note(format_args!("n{node} leaves"));
        let back = world.while_it_lasts() + Duration::from_secs(6);
        world.after(back, move |world| world.order(Order::Start(node)));
    }
}

fn reset(world: &Arc<World>) {
    let agents = world.plan.agents.len() as u64 - 1;
    let agent = usize::try_from(world.between(0, agents).as_millis()).unwrap_or(0);
    // A node may not hear of it: then the old socket stays, half open, beside the new one.
    let heard = world.happens(0.5);
    world.hang_up(agent, heard);
}
