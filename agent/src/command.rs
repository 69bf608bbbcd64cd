//! What the hub tells the agent to do, each thing once.
//!
//! - **M1** A command is begun at most once, however often it is delivered and however often the agent restarts:
//!   its first `command_result` and its id are stored together.
//! - **M2** A command whose deadline passed, by the hub's clock, is not begun.

use std::collections::{HashMap, HashSet};

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentCommand, AgentFrame, CommandKind, CommandProgress, CommandResult,
};
use pulse_protocol::ids::{CommandId, ScanId, SegmentId};
use serde_json::{Value, json};

/// Commands remembered in memory; as many as the spool remembers, and those that came since.
const TAKEN_MAX: usize = 1000;

/// What a command leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It is answered at once.
    Answer(Result<Value, String>),
    /// Every enabled segment is to be scanned.
    ScanAll,
    /// One segment is to be scanned.
    Scan(SegmentId),
    /// The agent is to restart.
    Restart,
    /// It was taken before.
    Nothing,
}

#[derive(Debug, Default)]
struct Scanning {
    left: HashSet<ScanId>,
    done: Vec<ScanId>,
    errors: Vec<String>,
}

/// The commands taken, and those that wait for their scans.
#[derive(Debug, Default)]
pub struct Commands {
    taken: HashSet<CommandId>,
    scanning: HashMap<CommandId, Scanning>,
}

impl Commands {
    /// Starts with those the spool remembers.
    #[must_use]
    pub fn new(taken: impl IntoIterator<Item = CommandId>) -> Self {
        Self { taken: taken.into_iter().collect(), scanning: HashMap::new() }
    }

    /// Decides on a command at `now` of the hub's clock.
    pub fn take(&mut self, command: &AgentCommand, now: Timestamp) -> Action {
        if self.taken.len() >= TAKEN_MAX {
            // Those that the hub might still repeat are in the spool, and what is repeated then is answered anew.
            self.taken.clear();
        }
        if !self.taken.insert(command.command_id) {
            return Action::Nothing;
        }
        if now > command.deadline {
            return Action::Answer(Err("its deadline had passed when it arrived".to_owned()));
        }
        match command.kind {
            CommandKind::Ping => Action::Answer(Ok(json!({
                "pong": true,
                "version": env!("CARGO_PKG_VERSION"),
                "at": Timestamp::wall_clock(),
            }))),
            CommandKind::ScanNow => Action::ScanAll,
            CommandKind::ScanSegment => segment_of(&command.payload).map_or_else(
                || Action::Answer(Err("its payload has no `segment_id`".to_owned())),
                Action::Scan,
            ),
            CommandKind::Restart => Action::Restart,
            CommandKind::UpdateConfig | CommandKind::Upgrade => Action::Answer(Err(format!(
                "`{}` is not supported by this version of the agent",
                command.kind
            ))),
        }
    }

    /// The command waits for these scans.
    pub fn wait_for(&mut self, command_id: CommandId, scans: HashSet<ScanId>) {
        self.scanning.insert(command_id, Scanning { left: scans, ..Scanning::default() });
    }

    /// A scan ended; gives the command's answer if it was the last that it waited for.
    pub fn scan_ended(
        &mut self,
        command_id: CommandId,
        scan_id: ScanId,
        error: Option<&str>,
    ) -> Option<Result<Value, String>> {
        let scanning = self.scanning.get_mut(&command_id)?;
        if scanning.left.remove(&scan_id) {
            scanning.done.push(scan_id);
            scanning.errors.extend(error.map(str::to_owned));
        }
        if !scanning.left.is_empty() {
            return None;
        }
        let scanning = self.scanning.remove(&command_id)?;
        Some(if scanning.errors.is_empty() {
            Ok(json!({ "scan_ids": scanning.done }))
        } else {
            Err(scanning.errors.join("; "))
        })
    }
}

fn segment_of(payload: &Value) -> Option<SegmentId> {
    payload.get("segment_id")?.as_str()?.parse().ok()
}

/// The frame that tells what became of a command.
#[must_use]
pub fn answer(command_id: CommandId, outcome: Result<Value, String>) -> AgentFrame {
    let (state, result, error) = match outcome {
        Ok(result) => (CommandProgress::Succeeded, Some(result), None),
        Err(error) => (CommandProgress::Failed, None, Some(error)),
    };
    AgentFrame::CommandResult(CommandResult {
        seq: 0,
        command_id,
        state,
        result,
        error,
        at: Timestamp::wall_clock(),
    })
}

/// The frame that tells that a command was begun.
#[must_use]
pub fn begun(command_id: CommandId) -> AgentFrame {
    let (state, at) = (CommandProgress::Running, Timestamp::wall_clock());
    AgentFrame::CommandResult(CommandResult {
        seq: 0,
        command_id,
        state,
        result: None,
        error: None,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_000_000);

    fn command(kind: CommandKind, payload: Value) -> AgentCommand {
        let deadline = Timestamp::from_unix_ms(NOW.unix_ms() + 60_000);
        AgentCommand { command_id: CommandId::new(), kind, payload, deadline }
    }

    #[test]
    fn each_kind_leads_to_its_action() {
        let segment_id = SegmentId::new();
        let take = |kind, payload| Commands::default().take(&command(kind, payload), NOW);
        let Action::Answer(Ok(pong)) = take(CommandKind::Ping, Value::Null) else {
            panic!("no pong")
        };
        assert_eq!(pong["pong"], true);
        assert_eq!(take(CommandKind::ScanNow, Value::Null), Action::ScanAll);
        assert_eq!(
            take(CommandKind::ScanSegment, json!({"segment_id": segment_id})),
            Action::Scan(segment_id)
        );
        assert!(matches!(take(CommandKind::ScanSegment, json!({})), Action::Answer(Err(_))));
        assert_eq!(take(CommandKind::Restart, Value::Null), Action::Restart);
        for kind in [CommandKind::Upgrade, CommandKind::UpdateConfig] {
            let Action::Answer(Err(error)) = take(kind, Value::Null) else {
                panic!("{kind} was done")
            };
            assert!(error.contains("not supported"));
        }
    }

    #[test]
    fn a_command_is_taken_once_and_one_remembered_not_at_all() {
        let restart = command(CommandKind::Restart, Value::Null);
        let mut commands = Commands::default();
        assert_eq!(commands.take(&restart, NOW), Action::Restart);
        assert_eq!(commands.take(&restart, NOW), Action::Nothing);
        assert_eq!(Commands::new([restart.command_id]).take(&restart, NOW), Action::Nothing);
    }

    #[test]
    fn past_its_deadline_it_is_not_begun() {
        let mut late = command(CommandKind::Restart, Value::Null);
        late.deadline = Timestamp::from_unix_ms(NOW.unix_ms() - 1);
        assert!(matches!(Commands::default().take(&late, NOW), Action::Answer(Err(_))));
    }

    #[test]
    fn a_command_ends_with_the_last_of_its_scans() {
        let (command_id, first, second) = (CommandId::new(), ScanId::new(), ScanId::new());
        let mut commands = Commands::default();
        commands.wait_for(command_id, HashSet::from([first, second]));
        assert_eq!(commands.scan_ended(command_id, first, None), None);
        assert_eq!(commands.scan_ended(command_id, first, None), None, "told twice");
        let answer = commands.scan_ended(command_id, second, None).unwrap();
        assert_eq!(answer, Ok(json!({"scan_ids": [first, second]})));
        commands.wait_for(command_id, HashSet::from([first]));
        assert_eq!(
            commands.scan_ended(command_id, first, Some("too large")),
            Some(Err("too large".to_owned()))
        );
    }
}
