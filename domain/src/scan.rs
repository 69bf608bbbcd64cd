//! One scan of a segment: started, then completed, failed or abandoned.
//!
//! - **N1** A scan ends once for each way it can end: a repeated end changes nothing.
//! - **N2** No scan runs whose agent is offline.

use pulse_protocol::agent::ScanOutcome;
use pulse_protocol::api::ScanState;

/// What may happen to a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Its agent says it began.
    Start,
    /// Its agent says it ended.
    End(ScanOutcome),
    /// Its agent was announced offline.
    Abandon,
}

/// The state that `command` leads to from `state` (none before the scan is known), if that is a change.
///
/// An end without a start counts: the agent may have begun while its journal here was another. An end after an
/// abandonment counts too: the agent finished while nobody could hear it.
#[must_use]
pub const fn decide(state: Option<ScanState>, command: Command) -> Option<ScanState> {
    match (state, command) {
        (None, Command::Start) => Some(ScanState::Running),
        (None | Some(ScanState::Running), Command::End(ScanOutcome::Completed)) => {
            Some(ScanState::Completed)
        }
        (Some(ScanState::Failed), Command::End(ScanOutcome::Completed)) => {
            Some(ScanState::Completed)
        }
        (None | Some(ScanState::Running), Command::End(ScanOutcome::Failed)) => {
            Some(ScanState::Failed)
        }
        (Some(ScanState::Running), Command::Abandon) => Some(ScanState::Failed),
        (Some(_), Command::Start | Command::End(_) | Command::Abandon)
        | (None, Command::Abandon) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table() {
        use Command::{Abandon, End, Start};
        use ScanOutcome::{Completed, Failed};
        for (state, command, expected) in [
            (None, Start, Some(ScanState::Running)),
            (Some(ScanState::Running), Start, None),
            (Some(ScanState::Running), End(Completed), Some(ScanState::Completed)),
            (Some(ScanState::Running), End(Failed), Some(ScanState::Failed)),
            (Some(ScanState::Running), Abandon, Some(ScanState::Failed)),
            (Some(ScanState::Failed), End(Completed), Some(ScanState::Completed)),
            (Some(ScanState::Failed), End(Failed), None),
            (Some(ScanState::Completed), End(Failed), None),
            (Some(ScanState::Completed), Abandon, None),
            (None, Abandon, None),
            (None, End(Completed), Some(ScanState::Completed)),
        ] {
            assert_eq!(decide(state, command), expected, "{state:?} {command:?}");
        }
    }

    fn command() -> impl Strategy<Value = Command> {
        prop_oneof![
            Just(Command::Start),
            Just(Command::End(ScanOutcome::Completed)),
            Just(Command::End(ScanOutcome::Failed)),
            Just(Command::Abandon),
        ]
    }

    proptest! {
        /// N1 and N2: doing anything twice is doing it once, and nothing runs after an abandonment.
        #[test]
        fn repetition_changes_nothing(script in prop::collection::vec(command(), 0..12)) {
            let mut state = None;
            for command in script {
                state = decide(state, command).or(state);
                prop_assert_eq!(decide(state, command), None);
                if command == Command::Abandon {
                    prop_assert_ne!(state, Some(ScanState::Running));
                }
            }
        }
    }
}
