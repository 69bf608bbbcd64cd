//! One org: its agents, devices, scans, channels and rules, and the one journal they are numbered in.
//!
//! The org is where the small machines meet. It takes an input at once, on what it holds in memory, and answers
//! with a [`Outcome`]: what must become durable, and what may be told once it is. It never waits, so its
//! memory may be ahead of the tables; whoever drives it tells nobody before the commit, and throws the org away
//! and loads it anew if a commit fails.
//!
//! - **O1** Events are numbered `seq + 1`, `seq + 2`, … without gap or repeat.
//! - **O2** Every change of what is shown is an event, and folding the events gives what is shown ([`Org::fold`]).
//! - **O3** Whatever an input changed is in its batch: loading the tables gives this memory.

mod agents;
mod alerts;
mod attempts;
mod channels;
mod deliveries;
mod devices;
mod fold;
mod load;
mod mails;
mod reports;
mod requests;
mod rules;
mod scans;
mod step;
mod subjects;
mod view;
mod windows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentCommand, AgentConfig, AgentError, AgentFrame, Bye, CloseCode, Hello, Welcome,
};
use pulse_protocol::api::{Attempt, Suppression};
use pulse_protocol::ids::{
    AgentId, ChannelId, CheckId, CommandId, DeviceId, OrgId, RuleId, ScanId, SegmentId, WindowId,
};
use pulse_protocol::status::Cause;
use uuid::Uuid;

use crate::device::DeviceState;
use crate::notification::board::Board;
use crate::presence::{ConnectionId, Presence};
use crate::record::{
    AgentRecord, Batch, ChannelRecord, CommandRecord, DeliveryRecord, DeviceRecord, OrgRecord,
    RuleRecord, ScanRecord, SegmentRecord, Standing, WindowRecord,
};
use crate::request::{DeliveryChange, Refusal, Reply, Request};
use crate::sequence::Window;

/// Scans that have ended and are still shown; older ones are in the journal.
pub const ENDED_SCANS_KEPT: usize = 50;

/// Liveness of agents where an org has no settings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Agents send a frame at least this often.
    pub heartbeat_interval: Duration,
    /// Silence of this length ends a connection.
    pub heartbeat_timeout: Duration,
    /// An agent that is back within this is not announced offline.
    pub offline_grace: Duration,
}

/// Draws new ids; an argument, because a machine draws nothing itself.
pub trait Ids {
    /// A new id that sorts after all earlier ones.
    fn next(&mut self) -> Uuid;
}

/// One org in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Org {
    record: OrgRecord,
    defaults: Liveness,
    seq: u64,
    agents: BTreeMap<AgentId, AgentEntry>,
    segments: BTreeMap<SegmentId, SegmentRecord>,
    devices: BTreeMap<DeviceId, DeviceEntry>,
    device_by_check: HashMap<CheckId, DeviceId>,
    scans: BTreeMap<ScanId, ScanRecord>,
    commands: BTreeMap<CommandId, CommandRecord>,
    channels: BTreeMap<ChannelId, ChannelRecord>,
    rules: BTreeMap<RuleId, RuleRecord>,
    /// What the rules remember of what they told.
    board: Board,
    windows: BTreeMap<WindowId, WindowRecord>,
}

#[derive(Clone, Debug, PartialEq)]
struct AgentEntry {
    record: AgentRecord,
    presence: Presence,
    back_by: Option<Timestamp>,
    last_seen_at: Option<Timestamp>,
    window: Window,
    /// The agent's devices by address. One machine may be several devices, each with checks of its own.
    devices: BTreeSet<(Box<str>, DeviceId)>,
}

#[derive(Clone, Debug, PartialEq)]
struct DeviceEntry {
    record: DeviceRecord,
    state: DeviceState,
}

/// What may happen to an org, other than requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// An agent's connection said `hello`.
    Hello {
        /// Who.
        agent_id: AgentId,
        /// On which connection.
        connection: ConnectionId,
        /// What it said.
        hello: Hello,
    },
    /// A state frame.
    Frame {
        /// Who sent it.
        agent_id: AgentId,
        /// On which connection.
        connection: ConnectionId,
        /// The frame.
        frame: AgentFrame,
    },
    /// A state frame with a good number and bad content.
    Unreadable {
        /// Who sent it.
        agent_id: AgentId,
        /// On which connection.
        connection: ConnectionId,
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A planned leave.
    Bye {
        /// Who leaves.
        agent_id: AgentId,
        /// On which connection.
        connection: ConnectionId,
        /// How.
        bye: Bye,
    },
    /// A connection ended.
    HangUp {
        /// Whose.
        agent_id: AgentId,
        /// Which.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// A command was handed to its agent's socket.
    CommandSent(CommandId),
    /// A channel tried a delivery.
    Attempted(Box<Attempted>),
    /// A channel does not try these any more.
    GivenUp(Vec<GivenUp>),
    /// What the hub's operators decide about the org, as it is in the database now. All else of the org is written by
    /// its home alone: a row read outside may be older than what the home has committed since.
    Standing(Standing),
    /// Something may be due: see [`Org::next_wake_at`].
    Wake,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempted {
    /// The delivery as it was before the attempt.
    pub delivery: DeliveryRecord,
    /// What was tried.
    pub attempt: Attempt,
    /// How long the receiver asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether the fault is this hub's and says nothing of the receiver.
    pub is_ours: bool,
    /// 0 to 1, drawn by the caller.
    pub jitter: f64,
}

/// A delivery that its channel does not try any more.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenUp {
    /// The delivery as it is stored.
    pub delivery: DeliveryRecord,
    /// Why.
    pub why: GiveUp,
}

/// Why a channel does not try a delivery any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// It failed, and a newer one about the same resource waits behind it.
    Superseded,
    /// The channel is switched off or was removed.
    ChannelOff,
    /// Its rule is switched off or was removed.
    RuleOff,
    /// Its recipient is not to be sent anything, or there is no way to.
    Held(Suppression),
}

/// What may be told, in order, once the batch and all before it are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The agent may forget everything up to `seq`.
    Ack(ConnectionId, u64),
    /// The answer to `hello`.
    Welcome(ConnectionId, Box<Welcome>),
    /// Something was wrong with what the agent sent; closed with the code, if there is one.
    Error(ConnectionId, AgentError, Option<CloseCode>),
    /// Close the socket.
    Close(ConnectionId, CloseCode),
    /// What the agent is to watch has changed.
    Config(ConnectionId, Box<AgentConfig>),
    /// Hand the agent a command, then answer [`Input::CommandSent`].
    Command(ConnectionId, Box<AgentCommand>),
    /// The channel has something to do, or its settings changed.
    WakeChannel(ChannelId),
    /// There is a mail to send.
    WakeMailer,
    /// How an agent is changed without being announced.
    Lingers(AgentId),
}

/// What an input makes true.
#[derive(Debug)]
pub struct Outcome {
    /// What must become durable; may be empty.
    pub batch: Batch,
    /// What may be told then.
    pub effects: Vec<Effect>,
}

impl Org {
    /// The org's id.
    #[must_use]
    pub const fn id(&self) -> OrgId {
        self.record.id
    }

    /// The number of the last event decided.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The org's settings.
    #[must_use]
    pub const fn record(&self) -> &OrgRecord {
        &self.record
    }

    /// Liveness of this org's agents.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let own =
            |ms: Option<u32>, default| ms.map_or(default, |ms| Duration::from_millis(ms.into()));
        Liveness {
            heartbeat_interval: own(
                self.record.heartbeat_interval_ms,
                self.defaults.heartbeat_interval,
            ),
            heartbeat_timeout: own(
                self.record.heartbeat_timeout_ms,
                self.defaults.heartbeat_timeout,
            ),
            offline_grace: own(self.record.offline_grace_ms, self.defaults.offline_grace),
        }
    }

    /// Whether the home may be stopped without anybody noticing: no agent is announced online, nothing is
    /// waited for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.next_wake_at().is_none()
            && self.agents.values().all(|agent| agent.presence.connection().is_none())
    }

    /// When [`Input::Wake`] is due next.
    #[must_use]
    pub fn next_wake_at(&self) -> Option<Timestamp> {
        let presences = self.agents.values().filter_map(|agent| agent.presence.wake_at());
        let commands = self
            .commands
            .values()
            .filter_map(|command| crate::command::expires_at(command.state, command.deadline));
        let windows = self.windows.values().filter_map(|window| window.next_change_at);
        presences.chain(commands).chain(windows).chain(self.next_alert_at()).min()
    }

    /// When a rule has something to do next.
    #[must_use]
    pub fn next_alert_at(&self) -> Option<Timestamp> {
        self.board.next_due_at()
    }

    /// A rule as it is now: what it called for is sent only while it stands.
    #[must_use]
    pub fn rule(&self, rule_id: RuleId) -> Option<&RuleRecord> {
        self.rules.get(&rule_id)
    }

    /// Takes one input. Total: there is an answer to everything.
    pub fn take(&mut self, input: Input, now: Timestamp, ids: &mut dyn Ids) -> Outcome {
        let mut step = step::Step::new(self, now, ids);
        match input {
            Input::Hello { agent_id, connection, hello } => {
                step.hello(agent_id, connection, &hello);
            }
            Input::Frame { agent_id, connection, frame } => step.frame(agent_id, connection, frame),
            Input::Unreadable { agent_id, connection, seq, reason } => {
                step.unreadable(agent_id, connection, seq, reason);
            }
            Input::Bye { agent_id, connection, bye } => step.bye(agent_id, connection, bye),
            Input::HangUp { agent_id, connection, cause } => {
                step.hang_up(agent_id, connection, cause);
            }
            Input::CommandSent(command_id) => step.command_sent(command_id),
            Input::Attempted(attempted) => step.attempted(*attempted),
            Input::GivenUp(given_up) => step.given_up(given_up),
            Input::Standing(standing) => step.standing(standing),
            Input::Wake => step.wake(),
        }
        step.finish()
    }

    /// Takes one request. A refusal changes nothing.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to tell the asker.
    pub fn request(
        &mut self,
        request: Request,
        now: Timestamp,
        ids: &mut dyn Ids,
    ) -> Result<(Reply, Outcome), Refusal> {
        let mut step = step::Step::new(self, now, ids);
        let reply = step.request(request)?;
        Ok((reply, step.finish()))
    }

    /// Changes a delivery as a person asked. `delivery` is its row, read while nobody tries it. A refusal changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to tell the asker.
    pub fn change_delivery(
        &mut self,
        delivery: DeliveryRecord,
        change: DeliveryChange,
        now: Timestamp,
        ids: &mut dyn Ids,
    ) -> Result<(Reply, Outcome), Refusal> {
        let mut step = step::Step::new(self, now, ids);
        let reply = step.change_delivery(delivery, change)?;
        Ok((reply, step.finish()))
    }

    /// A channel as it is decided, with what of it is not shown.
    #[must_use]
    pub fn channel(&self, channel_id: ChannelId) -> Option<&ChannelRecord> {
        self.channels.get(&channel_id)
    }

    /// All channels as they are decided.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelRecord> {
        self.channels.values()
    }

    /// Whether there is such a rule and it is applied.
    #[must_use]
    pub fn applies(&self, rule_id: RuleId) -> bool {
        self.rules.get(&rule_id).is_some_and(|rule| rule.enabled)
    }

    /// Notes when an agent was last heard; known to the connection long before it matters to anybody.
    pub fn note_seen(&mut self, agent_id: AgentId, at: Timestamp) {
        if let Some(agent) = self.agents.get_mut(&agent_id) {
            agent.last_seen_at = agent.last_seen_at.max(Some(at));
        }
    }
}
