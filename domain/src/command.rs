//! One command to an agent: issued, delivered, running, ended.
//!
//! - **C1** A command ends once.
//! - **C2** A command whose deadline passed before it began has expired: nothing surprises anybody days later.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::CommandProgress;
use pulse_protocol::api::CommandState;

/// How long after its deadline a running command may still report its end.
const RUNNING_GRACE: Duration = Duration::from_secs(3_600);

/// Whether nothing more happens to a command.
#[must_use]
pub const fn is_ended(state: CommandState) -> bool {
    matches!(
        state,
        CommandState::Succeeded
            | CommandState::Failed
            | CommandState::Expired
            | CommandState::Cancelled
    )
}

/// The state after the agent reported `progress`, if that is a change.
#[must_use]
pub const fn after_progress(
    state: CommandState,
    progress: CommandProgress,
) -> Option<CommandState> {
    match (state, progress) {
        (CommandState::Issued | CommandState::Delivered, CommandProgress::Running) => {
            Some(CommandState::Running)
        }
        (
            CommandState::Issued
            | CommandState::Delivered
            | CommandState::Running
            | CommandState::Expired,
            CommandProgress::Succeeded,
        ) => Some(CommandState::Succeeded),
        (
            CommandState::Issued
            | CommandState::Delivered
            | CommandState::Running
            | CommandState::Expired,
            CommandProgress::Failed,
        ) => Some(CommandState::Failed),
        _ => None,
    }
}

/// When a command that is still in `state` expires.
#[must_use]
pub fn expires_at(state: CommandState, deadline: Timestamp) -> Option<Timestamp> {
    match state {
        CommandState::Issued | CommandState::Delivered => Some(deadline),
        CommandState::Running => Some(deadline + RUNNING_GRACE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_counts_once() {
        use CommandProgress::{Failed, Running, Succeeded};
        assert_eq!(after_progress(CommandState::Delivered, Running), Some(CommandState::Running));
        assert_eq!(after_progress(CommandState::Running, Running), None);
        assert_eq!(after_progress(CommandState::Running, Succeeded), Some(CommandState::Succeeded));
        assert_eq!(after_progress(CommandState::Succeeded, Failed), None);
        assert_eq!(after_progress(CommandState::Cancelled, Succeeded), None);
    }

    #[test]
    fn a_late_result_is_truer_than_the_expiry() {
        let late = after_progress(CommandState::Expired, CommandProgress::Succeeded);
        assert_eq!(late, Some(CommandState::Succeeded));
    }

    #[test]
    fn what_did_not_begin_by_its_deadline_expires() {
        let deadline = Timestamp::from_unix_ms(9);
        assert_eq!(expires_at(CommandState::Issued, deadline), Some(deadline));
        assert_eq!(expires_at(CommandState::Running, deadline), Some(deadline + RUNNING_GRACE));
        assert_eq!(expires_at(CommandState::Failed, deadline), None);
    }
}
