//! Agents coming and going, and what they may be told.

use std::time::Duration;

use pulse_protocol::agent::{
    AgentCommand, AgentError, AgentErrorCode, AgentFrame, Bye, CloseCode, CommandResult, Hello,
    Welcome,
};
use pulse_protocol::api::{CommandState, OrgStatus};
use pulse_protocol::event::{
    AgentChanged, AgentStatus, CommandChanged, DeviceStatusChanged, EventBody, OrgChanged,
};
use pulse_protocol::ids::{AgentId, CommandId};
use pulse_protocol::status::{AgentState, Cause};

use super::step::{ERROR_CHARS, Step, text};
use super::{AgentEntry, Effect};
use crate::command;
use crate::device;
use crate::notification::rule::Worth;
use crate::presence::{self, Command, ConnectionId, Event};
use crate::record::{AgentFacts, CommandRecord, Standing, Write};
use crate::scan;
use crate::sequence::{Arrival, Greeting};

/// A planned leave cannot hold back the alert for longer than this.
const EXPECT_BACK_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Characters kept of a spool's id, and of each thing an agent says of itself.
const SPOOL_ID_CHARS: usize = 200;
const FACT_CHARS: usize = 255;

impl Step<'_> {
    pub(super) fn hello(&mut self, agent_id: AgentId, connection: ConnectionId, hello: &Hello) {
        if !self.org.is_open() {
            return self.tell(Effect::Close(connection, CloseCode::OrgSuspended));
        }
        let Some(agent) = self.org.agents.get_mut(&agent_id).filter(|agent| agent.record.enabled)
        else {
            return self.tell(Effect::Close(connection, CloseCode::KeyRevoked));
        };
        let spool_id = text(&hello.spool_id, SPOOL_ID_CHARS);
        match agent.window.greeting(&spool_id, hello.next_seq) {
            Greeting::Gap { expected } => {
                return self.refuse_gap(connection, hello.next_seq, expected);
            }
            Greeting::NewSpool => {
                agent.window.restart(&spool_id);
                self.write_position(agent_id);
            }
            Greeting::Resume => {}
        }
        self.presence(agent_id, Command::Connect(connection));
        self.learn_facts(agent_id, hello);
        self.welcome(agent_id, connection);
        self.send_commands(agent_id, connection);
    }

    fn refuse_gap(&mut self, connection: ConnectionId, seq: u64, expected: u64) {
        let error = AgentError {
            code: AgentErrorCode::SeqGap,
            message: format!(
                "got {seq} where {expected} must come next; reconnect and resend from {expected}"
            ),
            fatal: true,
            seq: None,
        };
        self.tell(Effect::Error(connection, error, Some(CloseCode::SequenceGap)));
    }

    fn learn_facts(&mut self, agent_id: AgentId, hello: &Hello) {
        let Some(agent) = self.org.agents.get(&agent_id) else { return };
        let facts = AgentFacts {
            version: text(&hello.agent_version, FACT_CHARS),
            hostname: text(&hello.hostname, FACT_CHARS),
            platform: hello.platform,
            arch: text(&hello.arch, FACT_CHARS),
        };
        if agent.record.facts.as_ref() == Some(&facts) {
            return;
        }
        let mut view = agent.view();
        view.version = Some(facts.version.clone());
        view.hostname = Some(facts.hostname.clone());
        view.platform = Some(facts.platform);
        let name = view.name.clone();
        let changed = AgentChanged { agent_id, name, agent: view, segments: None };
        self.journal(&EventBody::AgentUpdated(changed), Worth::Quiet);
        if let Some(agent) = self.org.agents.get_mut(&agent_id) {
            agent.record.facts = Some(facts);
        }
        self.write_agent(agent_id);
    }

    fn welcome(&mut self, agent_id: AgentId, connection: ConnectionId) {
        let Some(agent) = self.org.agents.get(&agent_id) else { return };
        let org = self.org.view();
        let welcome = Welcome {
            agent_id,
            name: agent.record.name.clone(),
            org_id: org.id,
            server_time: self.now,
            heartbeat_interval_ms: org.heartbeat_interval_ms,
            heartbeat_timeout_ms: org.heartbeat_timeout_ms,
            acked_seq: agent.window.last,
            config: self.org.agent_config(agent_id),
            latest_agent_version: None,
        };
        self.tell(Effect::Welcome(connection, Box::new(welcome)));
    }

    /// Tells an agent that is connected what it is to watch now.
    pub(super) fn send_config(&mut self, agent_id: AgentId) {
        let held = self.org.agents.get(&agent_id).and_then(|agent| agent.presence.connection());
        if let Some(connection) = held {
            let config = self.org.agent_config(agent_id);
            self.tell(Effect::Config(connection, Box::new(config)));
        }
    }

    /// Takes a state frame, if it is the next one of the connection that counts.
    pub(super) fn frame(&mut self, agent_id: AgentId, connection: ConnectionId, frame: AgentFrame) {
        let Some(seq) = frame.seq() else { return };
        if !self.admit(agent_id, connection, seq) {
            return;
        }
        let rejected = match frame {
            AgentFrame::Report(report) => self.report(agent_id, report),
            AgentFrame::ScanStarted(frame) => self.scan_started(agent_id, &frame),
            AgentFrame::ScanCompleted(frame) => self.scan_completed(agent_id, &frame),
            AgentFrame::Segments(frame) => self.segments(agent_id, frame),
            AgentFrame::CommandResult(frame) => self.command_result(agent_id, frame),
            AgentFrame::Hello(_)
            | AgentFrame::Heartbeat(_)
            | AgentFrame::ScanProgress(_)
            | AgentFrame::Bye(_) => Ok(()),
        };
        self.tell(Effect::Ack(connection, seq));
        if let Err(reason) = rejected {
            self.reject(connection, seq, reason);
        }
    }

    /// Acks and rejects a state frame whose content cannot be read.
    pub(super) fn unreadable(
        &mut self,
        agent_id: AgentId,
        connection: ConnectionId,
        seq: u64,
        reason: String,
    ) {
        if self.admit(agent_id, connection, seq) {
            self.tell(Effect::Ack(connection, seq));
            self.reject(connection, seq, reason);
        }
    }

    fn reject(&mut self, connection: ConnectionId, seq: u64, message: String) {
        let code = AgentErrorCode::Rejected;
        let error = AgentError { code, message, fatal: false, seq: Some(seq) };
        self.tell(Effect::Error(connection, error, None));
    }

    /// Whether the frame numbered `seq` is to be taken; answers it if not.
    fn admit(&mut self, agent_id: AgentId, connection: ConnectionId, seq: u64) -> bool {
        let Some(agent) = self.org.agents.get_mut(&agent_id) else { return false };
        if agent.presence.connection() != Some(connection) {
            return false;
        }
        match agent.window.arrival(seq) {
            Arrival::Next => {
                agent.window.advance();
                self.write_position(agent_id);
                true
            }
            Arrival::Repeat => {
                let acked = agent.window.last;
                self.tell(Effect::Ack(connection, acked));
                false
            }
            Arrival::Gap { expected } => {
                self.refuse_gap(connection, seq, expected);
                false
            }
        }
    }

    pub(super) fn bye(&mut self, agent_id: AgentId, connection: ConnectionId, bye: Bye) {
        let away = bye.expect_back_ms.map(|ms| Duration::from_millis(ms).min(EXPECT_BACK_MAX));
        self.presence(agent_id, Command::Bye(connection, bye.reason, away));
    }

    pub(super) fn hang_up(&mut self, agent_id: AgentId, connection: ConnectionId, cause: Cause) {
        self.presence(agent_id, Command::HangUp(connection, cause));
    }

    /// Closes an agent's connection, if it has one, and announces it as switched off.
    pub(super) fn switch_off(&mut self, agent_id: AgentId, code: CloseCode) {
        self.presence(agent_id, Command::SwitchOff(code));
    }

    /// Everything whose time has come.
    pub(super) fn wake(&mut self) {
        let due = |agent: &AgentEntry| agent.presence.wake_at().is_some_and(|at| at <= self.now);
        let agents: Vec<AgentId> =
            self.org.agents.iter().filter(|(_, agent)| due(agent)).map(|(id, _)| *id).collect();
        for agent_id in agents {
            self.presence(agent_id, Command::Wake);
        }
        self.expire_commands();
        self.turn_windows();
        self.wake_alerts();
    }

    /// Puts a command to the presence machine and carries out what it decides.
    fn presence(&mut self, agent_id: AgentId, command: Command) {
        let grace = self.org.liveness().offline_grace;
        let Some(agent) = self.org.agents.get_mut(&agent_id) else { return };
        let decision = agent.presence.decide(command, self.now, grace);
        let back_by = match (command, decision.events.first()) {
            (Command::Bye(..), Some(Event::Detached { until, cause: Cause::ByeOverdue })) => {
                Some(*until)
            }
            (_, Some(_)) => None,
            (_, None) => agent.back_by,
        };
        let back_by_changed = std::mem::replace(&mut agent.back_by, back_by) != back_by;
        for event in decision.events {
            match event {
                Event::Attached(_) | Event::Detached { .. } => {
                    self.change_unannounced(agent_id, event);
                }
                Event::CameOnline { previous, .. } => self.came_online(agent_id, event, previous),
                Event::WentOffline { cause } => self.went_offline(agent_id, event, cause),
            }
        }
        if back_by_changed {
            self.write_presence(agent_id);
        }
        for effect in decision.effects {
            if let presence::Effect::Close(connection, code) = effect {
                self.tell(Effect::Close(connection, code));
            }
        }
    }

    fn change_unannounced(&mut self, agent_id: AgentId, event: Event) {
        let now = self.now;
        if let Some(agent) = self.org.agents.get_mut(&agent_id) {
            agent.presence = agent.presence.apply(event, now);
        }
        self.tell(Effect::Lingers(agent_id));
    }

    fn came_online(&mut self, agent_id: AgentId, event: Event, previous: AgentState) {
        let Some(agent) = self.org.agents.get(&agent_id) else { return };
        let body = EventBody::AgentOnline(AgentStatus {
            agent_id,
            name: agent.record.name.clone(),
            previous,
            current: AgentState::Online,
            since: self.now,
            cause: Cause::Connected,
            devices_unknown: None,
        });
        let first = previous == AgentState::NeverConnected;
        self.journal(&body, if first { Worth::Quiet } else { Worth::Alert });
        self.settle_presence(agent_id, event);
    }

    fn went_offline(&mut self, agent_id: AgentId, event: Event, cause: Cause) {
        let Some(agent) = self.org.agents.get(&agent_id) else { return };
        let body = EventBody::AgentOffline(AgentStatus {
            agent_id,
            name: agent.record.name.clone(),
            previous: AgentState::Online,
            current: if agent.record.enabled { AgentState::Offline } else { AgentState::Disabled },
            since: self.now,
            cause,
            devices_unknown: u32::try_from(agent.devices.len()).ok().filter(|count| *count > 0),
        });
        // Whoever switched it off knows; so does whoever suspended its org while the hub was away.
        let known = cause == Cause::Disabled || !self.org.is_open();
        let worth = if known { Worth::Quiet } else { Worth::Alert };
        self.journal(&body, worth);
        self.settle_presence(agent_id, event);
        self.lose_devices(agent_id, worth);
        self.abandon_scans(agent_id);
    }

    fn settle_presence(&mut self, agent_id: AgentId, event: Event) {
        let now = self.now;
        if let Some(agent) = self.org.agents.get_mut(&agent_id) {
            agent.presence = agent.presence.apply(event, now);
            agent.last_seen_at = match event {
                Event::CameOnline { .. } => Some(now),
                _ => agent.last_seen_at,
            };
        }
        self.write_presence(agent_id);
    }

    /// Nobody can tell any more how the agent's devices are: rules tell so with the agent, unless they want each.
    fn lose_devices(&mut self, agent_id: AgentId, worth: Worth) {
        let Some(agent) = self.org.agents.get(&agent_id) else { return };
        let mut devices: Vec<_> = agent.devices.iter().map(|(_, device_id)| *device_id).collect();
        devices.sort_unstable();
        for device_id in devices {
            let Some(entry) = self.org.devices.get(&device_id) else { continue };
            if let Some(device::Event::Changed(change)) = entry.state.decide_agent_lost(self.now) {
                let body = EventBody::DeviceUnknown(DeviceStatusChanged {
                    device_id,
                    name: entry.record.name.clone(),
                    address: entry.record.address.clone(),
                    agent_id,
                    segment_id: entry.record.segment_id,
                    previous: change.previous,
                    current: change.current,
                    since: change.since,
                    cause: change.cause,
                    response_time_ms: None,
                    check_id: None,
                    check: None,
                    check_status: None,
                    error: None,
                });
                self.journal(&body, worth);
                self.write_device_state(device_id);
            }
        }
    }

    fn abandon_scans(&mut self, agent_id: AgentId) {
        let running: Vec<_> = self
            .org
            .scans
            .values()
            .filter(|scan| scan.agent_id == agent_id)
            .filter_map(|scan| {
                scan::decide(Some(scan.state), scan::Command::Abandon)
                    .map(|state| (scan.clone(), state))
            })
            .collect();
        for (mut record, state) in running {
            record.state = state;
            record.finished_at = Some(self.now);
            record.error = Some("its agent went offline".to_owned());
            self.scan_changed(record);
        }
    }

    /// Hands an agent the commands it may not have got.
    pub(super) fn send_commands(&mut self, agent_id: AgentId, connection: ConnectionId) {
        let waiting = |command: &&CommandRecord| {
            command.agent_id == agent_id
                && matches!(command.state, CommandState::Issued | CommandState::Delivered)
                && command.deadline > self.now
        };
        let commands: Vec<AgentCommand> =
            self.org.commands.values().filter(waiting).map(agent_command).collect();
        for command in commands {
            self.tell(Effect::Command(connection, Box::new(command)));
        }
    }

    pub(super) fn command_sent(&mut self, command_id: CommandId) {
        if let Some(record) = self.org.commands.get(&command_id).cloned()
            && record.state == CommandState::Issued
        {
            self.command_changed(CommandRecord { state: CommandState::Delivered, ..record });
        }
    }

    fn command_result(&mut self, agent_id: AgentId, frame: CommandResult) -> Result<(), String> {
        let known =
            self.org.commands.get(&frame.command_id).filter(|command| command.agent_id == agent_id);
        let Some(record) = known.cloned() else {
            return Err(format!("there is no open command {} for this agent", frame.command_id));
        };
        if let Some(state) = command::after_progress(record.state, frame.state) {
            let (result, error) =
                (frame.result, frame.error.map(|error| text(&error, ERROR_CHARS)));
            self.command_changed(CommandRecord { state, result, error, ..record });
        }
        Ok(())
    }

    fn expire_commands(&mut self) {
        let now = self.now;
        let due = |command: &&CommandRecord| {
            command::expires_at(command.state, command.deadline).is_some_and(|at| at <= now)
        };
        let expired: Vec<CommandRecord> = self.org.commands.values().filter(due).cloned().collect();
        for record in expired {
            self.command_changed(CommandRecord { state: CommandState::Expired, ..record });
        }
    }

    pub(super) fn command_changed(&mut self, record: CommandRecord) {
        let data = CommandChanged {
            command_id: record.id,
            name: record.kind.to_string(),
            agent_id: record.agent_id,
            kind: record.kind,
            state: record.state,
            result: record.result.clone(),
            error: record.error.clone(),
        };
        let body = match record.state {
            CommandState::Issued => Some(EventBody::CommandIssued(data)),
            CommandState::Delivered => Some(EventBody::CommandDelivered(data)),
            CommandState::Succeeded => Some(EventBody::CommandSucceeded(data)),
            CommandState::Failed | CommandState::Cancelled => Some(EventBody::CommandFailed(data)),
            CommandState::Expired => Some(EventBody::CommandExpired(data)),
            // The protocol has no event for it; the command itself shows it.
            CommandState::Running => None,
        };
        if !command::is_ended(record.state) {
            self.org.commands.insert(record.id, record.clone());
        }
        if let Some(body) = body {
            self.journal(&body, Worth::Alert);
        }
        self.write(Write::Command(record));
    }

    /// Takes over what the hub's operators decided about the org.
    pub(super) fn standing(&mut self, standing: Standing) {
        let before = self.org.record.standing();
        if before == standing {
            return;
        }
        let was_open = self.org.is_open();
        let status_changed = before.status != standing.status;
        let data = OrgChanged {
            org_id: self.org.record.id,
            name: self.org.record.name.clone(),
            status: standing.status,
            changed: if status_changed { "status" } else { "settings" }.to_owned(),
            id: None,
            reason: standing.status_reason.clone(),
        };
        let body = match (status_changed, standing.status) {
            (false, _) => EventBody::OrgUpdated(data),
            (true, OrgStatus::Suspended) => EventBody::OrgSuspended(data),
            (true, OrgStatus::Cancelled) => EventBody::OrgCancelled(data),
            (true, _) if !was_open => EventBody::OrgReactivated(data),
            (true, _) => EventBody::OrgUpdated(data),
        };
        self.org.record.stand(standing);
        self.journal(&body, Worth::Alert);
        if !self.org.is_open() {
            self.forget_alerts(|_| true);
            let agents: Vec<AgentId> = self.org.agents.keys().copied().collect();
            for agent_id in agents {
                self.switch_off(agent_id, CloseCode::OrgSuspended);
            }
        }
    }
}

/// A command as its agent is told it.
pub(super) fn agent_command(record: &CommandRecord) -> AgentCommand {
    AgentCommand {
        command_id: record.id,
        kind: record.kind,
        payload: record.payload.clone(),
        deadline: record.deadline,
    }
}
