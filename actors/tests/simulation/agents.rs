//! Agents: a spool, frames numbered 1, 2, 3, …, and a socket to whichever node takes it.
//!
//! The [`Machine`] stands outside the nodes. It keeps every frame until it is acked, sends what is unacked again over
//! each new socket, and goes to another node when a socket ends. The [`AgentEdge`](crate::edges::AgentEdge) is its
//! socket's end inside a node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pulse_actors::testing::NOON;
use pulse_protocol::agent::{
    AgentFrame, CheckResult, Hello, Network, PROTOCOL_VERSION, Report, Segments,
};
use pulse_protocol::status::{DeviceStatus, Platform};

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use crate::edges::AgentEdge;
use crate::nodes::Visit;
use crate::world::World;

/// Frames that may be unacked on a socket.
const WINDOW: usize = 4;
/// An agent that is not welcomed within this tries elsewhere.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// An agent says that it is there this often.
const BEAT_EVERY: Duration = Duration::from_secs(4);
/// How long anything takes from an agent to a node, or back.
const WAY: Duration = Duration::from_millis(1);

/// What an agent says on its socket.
pub(crate) enum Said {
    Hello(Box<Hello>),
    Frame(AgentFrame),
    Beat,
}

/// What its socket brings an agent.
pub(crate) enum Brought {
    Welcome(u64),
    Ack(u64),
    End,
}

struct Socket {
    number: u64,
    node: usize,
    wire: mpsc::UnboundedSender<Said>,
    opened_at: Instant,
    welcomed: bool,
    /// The last number sent on it.
    sent: u64,
}

pub(crate) struct Machine {
    agent: usize,
    spool: VecDeque<(u64, AgentFrame)>,
    made: u64,
    socket: Option<Socket>,
    /// Ends of sockets that the node was not told are gone.
    half_open: Vec<mpsc::UnboundedSender<Said>>,
    connecting: bool,
}

impl Machine {
    pub(crate) const fn new(agent: usize) -> Self {
        Self {
            agent,
            spool: VecDeque::new(),
            made: 0,
            socket: None,
            half_open: vec![],
            connecting: false,
        }
    }

    /// Sends what the window lets through.
    fn send(&mut self, world: &Arc<World>) {
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.welcomed) else { return };
        for (seq, frame) in self.spool.iter().take(WINDOW) {
            if *seq > socket.sent {
                socket.sent = *seq;
                post(world, &socket.wire, Said::Frame(frame.clone()));
            }
        }
    }

    fn forget(&mut self, acked: u64) {
        self.spool.retain(|(seq, _)| *seq > acked);
    }
}

fn post(world: &Arc<World>, wire: &mpsc::UnboundedSender<Said>, said: Said) {
    let wire = wire.clone();
    // Its other end may be gone.
    world.after(WAY, move |_| drop(wire.send(said)));
}

impl World {
    /// Plans what the agents will see, and lets them connect.
    pub(crate) fn plan_agents(self: &Arc<Self>) {
        for (agent, plan) in self.plan.agents.iter().enumerate() {
            for _ in 0..plan.frames {
                let at = self.between(0, self.plan.storm_ms);
                self.after(at, move |world| world.see(agent));
            }
            self.connect_later(agent, self.between(0, 3_000));
            self.after(BEAT_EVERY, move |world| world.beat(agent));
        }
    }

    /// An agent finds a device it never saw, and sees that one of the earlier ones changed.
    fn see(self: &Arc<Self>, agent: usize) {
        let earlier = self.draw(|rng| rand::Rng::random_range(rng, 0..8_u64));
        let mut machines = self.machines.lock();
        let machine = &mut machines[agent];
        machine.made += 1;
        let seq = machine.made;
        machine.spool.push_back((seq, frame(seq, earlier)));
        machine.send(self);
    }

    fn beat(self: &Arc<Self>, agent: usize) {
        let machines = self.machines.lock();
        if let Some(socket) = &machines[agent].socket {
            post(self, &socket.wire, Said::Beat);
        }
        self.after(BEAT_EVERY, move |world| world.beat(agent));
    }

    fn connect_later(self: &Arc<Self>, agent: usize, delay: Duration) {
        let machine = &mut self.machines.lock()[agent];
        if machine.socket.is_none() && !machine.connecting {
            machine.connecting = true;
            self.after(delay, move |world| world.connect(agent));
        }
    }

    fn connect(self: &Arc<Self>, agent: usize) {
        self.machines.lock()[agent].connecting = false;
        let Some(node) = self.any_door() else {
            return self.connect_later(agent, self.between(100, 1_000));
        };
        let number = self.count();
        let (wire, said) = mpsc::unbounded_channel();
        self.visit(node, Visit::Agent(AgentEdge::new(self, agent, number, said)));
        self.note(format_args!("a{agent} socket {number} to n{node}"));
        let opened_at = Instant::now();
        let mut machines = self.machines.lock();
        let machine = &mut machines[agent];
        let next_seq = machine.spool.front().map_or(machine.made + 1, |(seq, _)| *seq);
        post(self, &wire, Said::Hello(Box::new(hello(next_seq))));
        machine.socket = Some(Socket { number, node, wire, opened_at, welcomed: false, sent: 0 });
        self.after(WELCOME_WITHIN, move |world| {
            let late = |socket: &Socket| socket.number == number && !socket.welcomed;
            if world.machines.lock()[agent].socket.as_ref().is_some_and(late) {
                world.hang_up(agent, true);
            }
        });
    }

    /// An agent's socket ends; unless the node `heard`, it goes on waiting for it.
    pub(crate) fn hang_up(self: &Arc<Self>, agent: usize, heard: bool) {
        let mut machines = self.machines.lock();
        let machine = &mut machines[agent];
        let Some(socket) = machine.socket.take() else { return };
        self.note(format_args!("a{agent} socket {} ends, heard: {heard}", socket.number));
        if !heard {
            machine.half_open.push(socket.wire);
        }
        drop(machines);
        self.connect_later(agent, self.between(100, 1_500));
    }

    /// The sockets of a node's process are gone with it.
    pub(crate) fn sockets_fell(self: &Arc<Self>, node: usize) {
        for agent in 0..self.plan.agents.len() {
            let is_there = |socket: &Socket| socket.node == node;
            if self.machines.lock()[agent].socket.as_ref().is_some_and(is_there) {
                self.hang_up(agent, true);
            }
        }
        self.views_fell(node);
    }

    /// A node's end of a socket brings the agent something.
    pub(crate) fn bring(self: &Arc<Self>, agent: usize, socket: u64, brought: Brought) {
        self.after(WAY, move |world| world.brought(agent, socket, brought));
    }

    fn brought(self: &Arc<Self>, agent: usize, number: u64, brought: Brought) {
        let mut machines = self.machines.lock();
        let machine = &mut machines[agent];
        let Some(socket) = machine.socket.as_mut().filter(|it| it.number == number) else { return };
        match brought {
            Brought::Welcome(acked) => {
                socket.welcomed = true;
                socket.sent = socket.sent.max(acked);
                machine.forget(acked);
                machine.send(self);
            }
            Brought::Ack(acked) => {
                machine.forget(acked);
                machine.send(self);
            }
            Brought::End => {
                drop(machines);
                self.hang_up(agent, true);
            }
        }
    }

    /// The node that an agent's socket has been at for this long.
    pub(crate) fn socket_since(&self, agent: usize, time: Duration) -> Option<usize> {
        let machines = self.machines.lock();
        let socket = machines[agent].socket.as_ref()?;
        (socket.opened_at.elapsed() > time).then_some(socket.node)
    }

    /// Why an agent is not at rest yet.
    pub(crate) fn agent_waits_for(&self, agent: usize) -> Option<String> {
        let machines = self.machines.lock();
        let machine = &machines[agent];
        let is_welcomed = machine.socket.as_ref().is_some_and(|socket| socket.welcomed);
        if !is_welcomed {
            return Some(format!("a{} has no socket", machine.agent));
        }
        if machine.made < self.plan.agents[agent].frames || !machine.spool.is_empty() {
            return Some(format!("a{} has {} unacked frames", machine.agent, machine.spool.len()));
        }
        let check = self.check.lock();
        let id = self.plan.agents[agent].id;
        if !check.is_online(id) {
            return Some(format!("a{} is not shown online", machine.agent));
        }
        let position = check.position(id);
        if position != machine.made {
            return Some(format!(
                "a{} made {} frames, {position} were taken",
                machine.agent, machine.made
            ));
        }
        let (found, made) = (check.discovered(id) as u64, machine.made.saturating_sub(1));
        (found != made)
            .then(|| format!("a{} found {made} devices, {found} are known", machine.agent))
    }
}

/// The first frame tells where the agent is; each later one finds a device, and tells how an earlier one is.
fn frame(seq: u64, earlier: u64) -> AgentFrame {
    if seq == 1 {
        let network = Network {
            cidr: "10.0.0.0/16".to_owned(),
            name: "Office".to_owned(),
            interface: "eth0".to_owned(),
        };
        return AgentFrame::Segments(Segments { seq, networks: vec![network] });
    }
    let mut reports = vec![result(seq, DeviceStatus::Online)];
    if (2..seq).contains(&earlier) {
        let is_up = (seq + earlier).is_multiple_of(2);
        reports.push(result(
            earlier,
            if is_up { DeviceStatus::Online } else { DeviceStatus::Offline },
        ));
    }
    AgentFrame::Report(Report { seq, reports })
}

fn result(device: u64, status: DeviceStatus) -> CheckResult {
    CheckResult {
        check_id: None,
        device_id: None,
        address: Some(format!("10.0.0.{device}")),
        check: None,
        status,
        response_time_ms: None,
        checked_at: NOON,
        error: None,
        tls: None,
    }
}

fn hello(next_seq: u64) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        agent_version: "1.0.0".to_owned(),
        hostname: "probe".to_owned(),
        platform: Platform::Linux,
        arch: "x86_64".to_owned(),
        boot_id: "boot".to_owned(),
        spool_id: "spool".to_owned(),
        next_seq,
        sent_at: NOON,
    }
}
