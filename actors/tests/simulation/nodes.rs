//! The nodes: real directories, homes, lines and members, each node in a local set of its own.
//!
//! A node that stands still is one whose local set is not polled; a crash drops it, after its ports were cut. The
//! database, the network and everybody outside go on meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::prelude::*;
use prometheus::Registry;
use pulse_actors::cluster::member::{ClusterMember, MemberPorts};
use pulse_actors::cluster::{Bus, Member, Post, Routes};
use pulse_actors::directory::{ClusterPorts, Directory, DirectoryPorts};
use pulse_actors::metrics::Metrics;
use pulse_actors::ports::Clock;
use pulse_domain::org::Liveness;
use pulse_protocol::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep};
use uuid::Uuid;

use crate::agents::AgentEdge;
use crate::check::LIVENESS;
use crate::database::{GROUP, NodeClaims, NodeJournal};
use crate::network::{NodeNetwork, name};
use crate::plan::Mutation;
use crate::reads::NodeReads;
use crate::receivers::NodeSender;
use crate::viewers::ViewerEdge;
use crate::world::{World, jitter};

/// As the hub does it: how often lost nudges are made up for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// As the hub does it: when agents of a node that leaves are to come back.
const RECONNECT_AFTER_MS: u64 = 500;
/// Homes of a node that leaves have this long.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// As good as none: less than an edge takes to find the next home.
const NO_GRACE: Duration = Duration::from_millis(100);

/// Somebody comes to a node's door with a socket.
pub(crate) enum Visit {
    Agent(AgentEdge),
    Viewer(ViewerEdge),
}

/// What the world knows of a node's process.
#[derive(Default)]
pub(crate) struct Process {
    /// Grows with each start.
    life: u64,
    door: Option<mpsc::UnboundedSender<Visit>>,
    leaving: Option<watch::Sender<bool>>,
    metrics: Option<Metrics>,
}

/// Something to be done to a process, between two polls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Start(usize),
    Kill(usize),
    Pause(usize),
    Resume(usize),
}

impl World {
    pub(crate) fn order(&self, order: Order) {
        self.orders.lock().push(order);
    }

    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.processes.lock()[node].door.is_some()
    }

    pub(crate) fn is_alive(&self, node: usize, life: u64) -> bool {
        let process = &self.processes.lock()[node];
        process.door.is_some() && process.life == life
    }

    /// A node of those that listen.
    pub(crate) fn any_door(&self) -> Option<usize> {
        let open: Vec<usize> = (0..self.plan.nodes).filter(|node| self.is_running(*node)).collect();
        let last = open.len().checked_sub(1)? as u64;
        open.get(usize::try_from(self.between(0, last).as_millis()).unwrap_or(0)).copied()
    }

    /// Comes to a node's door; false if nobody is there.
    pub(crate) fn visit(&self, node: usize, visit: Visit) -> bool {
        let door = self.processes.lock()[node].door.clone();
        door.is_some_and(|door| door.send(visit).is_ok())
    }

    /// Tells a node to leave in order.
    pub(crate) fn leave(&self, node: usize) -> bool {
        let processes = self.processes.lock();
        let Some(leaving) = &processes[node].leaving else { return false };
        !leaving.send_replace(true)
    }

    fn liveness(&self) -> Liveness {
        let grace = if self.lacks(Mutation::NoGrace) { NO_GRACE } else { LIVENESS.offline_grace };
        Liveness { offline_grace: grace, ..LIVENESS }
    }

    /// Memory is bounded: a node never holds more undecided batches than its queue, a group and one per home.
    pub(crate) fn look_at_queues(&self) {
        let bound = self.plan.queue + GROUP + self.plan.orgs.len();
        for process in &*self.processes.lock() {
            let Some(metrics) = &process.metrics else { continue };
            let undurable = metrics.undurable.get();
            if usize::try_from(undurable).unwrap_or(0) > bound {
                self.violated(format!("{undurable} batches wait, of at most {bound}"));
            }
        }
    }
}

/// A node's clock: right in its pace, not in what it shows.
struct NodeClock(Arc<World>, i64);

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.now().unix_ms() + self.1)
    }
}

/// What a process does from its start to its end.
async fn process(
    world: Arc<World>,
    node: usize,
    life: u64,
    metrics: Metrics,
    mut door: mpsc::UnboundedReceiver<Visit>,
    leaving: watch::Receiver<bool>,
) {
    let network = Arc::new(NodeNetwork { world: Arc::clone(&world), node, life });
    let (writer, routes) = Routes::new();
    let post = Post::new(name::of(node), Arc::clone(&network) as Arc<dyn Bus>);
    let directory = Directory::local(DirectoryPorts {
        clock: Arc::new(NodeClock(Arc::clone(&world), world.plan.skews_ms[node])),
        journal: NodeJournal::start(&world, node),
        store: Arc::new(NodeReads(Arc::clone(&world))),
        sender: Arc::new(NodeSender(Arc::clone(&world))),
        metrics,
        liveness: world.liveness(),
        jitter,
        cluster: Some(ClusterPorts { post: post.clone(), routes }),
    });
    let inbox = loop {
        match network.listen(&name::of(node)).await {
            Ok(inbox) => break inbox,
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    let lines = directory.clone();
    actix::spawn(async move { lines.serve_lines(inbox).await });
    let me = Member {
        node: name::of(node),
        incarnation: Uuid::from_u128(u128::from(life) << 8 | node as u128),
        draining: false,
        version: "1".to_owned(),
    };
    let claims = Arc::new(NodeClaims(Arc::clone(&world)));
    let ports = MemberPorts {
        coordination: network,
        claims,
        directory: directory.clone(),
        post,
        routes: writer,
    };
    let member = ClusterMember::new(me, ports);
    actix::spawn(sweep(directory.clone()));
    let homes = directory.clone();
    actix::spawn(async move {
        member.run(leaving).await;
        homes.drain(RECONNECT_AFTER_MS, DRAIN_WITHIN).await;
        // What was said last is still on its way to the sockets.
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.order(Order::Kill(node));
    });
    while let Some(visit) = door.recv().await {
        match visit {
            Visit::Agent(edge) => drop(edge.at(&directory).start()),
            Visit::Viewer(edge) => drop(edge.at(&directory).start()),
        }
    }
}

async fn sweep(directory: Directory) {
    drop(directory.wake_all().await);
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        drop(directory.sweep_channels().await);
    }
}

/// All processes, polled in turn with the world around them.
pub(crate) struct Nodes {
    world: Arc<World>,
    sets: Vec<Option<LocalSet>>,
    paused: Vec<bool>,
    timer: Pin<Box<Sleep>>,
}

impl Nodes {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let nodes = world.plan.nodes;
        Self {
            world: Arc::clone(world),
            sets: (0..nodes).map(|_| None).collect(),
            paused: vec![false; nodes],
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    fn carry_out(&mut self, order: Order) {
        self.world.note(format_args!("{order:?}"));
        match order {
            Order::Start(node) => self.start(node),
            Order::Kill(node) => self.kill(node),
            Order::Pause(node) => self.paused[node] = true,
            Order::Resume(node) => self.paused[node] = false,
        }
    }

    fn start(&mut self, node: usize) {
        if self.sets[node].is_some() {
            return;
        }
        let (door, visits) = mpsc::unbounded_channel();
        let (leaving, left) = watch::channel(false);
        let Ok(metrics) = Metrics::register(&Registry::new()) else { return };
        let mut processes = self.world.processes.lock();
        let life = processes[node].life + 1;
        processes[node] = Process {
            life,
            door: Some(door),
            leaving: Some(leaving),
            metrics: Some(metrics.clone()),
        };
        drop(processes);
        self.world.weather.lock().wrong(node);
        let set = LocalSet::new();
        set.spawn_local(process(Arc::clone(&self.world), node, life, metrics, visits, left));
        self.sets[node] = Some(set);
    }

    fn kill(&mut self, node: usize) {
        // First it is cut off: what falls with it tells nobody.
        let life = self.world.processes.lock()[node].life;
        self.world.processes.lock()[node] = Process { life, ..Process::default() };
        self.world.weather.lock().wrong(node);
        self.sets[node] = None;
        self.world.sockets_fell(node);
    }

    /// Polls everybody until nobody has anything to do at this instant, and says when to look again.
    fn turn(&mut self, context: &mut Context<'_>) {
        loop {
            while self.world.happen() {
                self.world.look_at_queues();
                let orders = std::mem::take(&mut *self.world.orders.lock());
                orders.into_iter().for_each(|order| self.carry_out(order));
            }
            for (set, paused) in self.sets.iter_mut().zip(&self.paused) {
                if let (Some(set), false) = (set, paused) {
                    // It is never done: its door is always open.
                    let _ = Pin::new(set).poll(context);
                }
            }
            let orders = std::mem::take(&mut *self.world.orders.lock());
            let ordered = !orders.is_empty();
            orders.into_iter().for_each(|order| self.carry_out(order));
            let due = self.world.next_at().is_some_and(|at| at <= Instant::now());
            if !ordered && !due || self.world.violation().is_some() {
                return;
            }
        }
    }
}

impl Future for Nodes {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.turn(context);
        if self.world.is_over() {
            return Poll::Ready(());
        }
        while let Some(at) = self.world.next_at() {
            self.timer.as_mut().reset(at);
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.turn(context);
        }
        Poll::Ready(())
    }
}
