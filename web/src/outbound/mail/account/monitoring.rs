//! Letters about what an org monitors with: agents, channels, limits.

use pulse_domain::notification::mail::{ChannelDisabled, ChannelFailing, KeyRotated, QuotaWarning};
use pulse_protocol::api::ChannelKind;

use super::draft::{Draft, Pages, to_admins, when};

pub(super) fn quota_warning(said: &QuotaWarning, pages: &Pages<'_>) -> Draft {
    let QuotaWarning { org_name, quota, percent, used, limit, period: _ } = said;
    let subject = format!("{org_name} uses {percent} % of its {quota}");
    Draft::new(subject, to_admins(org_name))
        .say(match percent {
            0..95 => "The limit of your plan is near.",
            _ => "The limit of your plan is all but reached: beyond it nothing more can be added.",
        })
        .fact("Used", format!("{used} of {limit} {quota}"))
        .button("Look at the plans", pages.org(&["billing"]))
}

pub(super) fn key_rotated(said: &KeyRotated, pages: &Pages<'_>) -> Draft {
    let KeyRotated { org_name, agent_name, rotated_by, rotated_at, agent_id } = said;
    let agent_id = agent_id.to_string();
    Draft::new(format!("The agent {agent_name} has a new key"), to_admins(org_name))
        .say("The key it had before is not good any more, or not for long.")
        .fact("Organisation", org_name)
        .fact("Agent", agent_name)
        .fact("By", rotated_by)
        .fact("When", when(*rotated_at))
        .note("If nobody of you did this, look at who has access.")
        .button("Look at the agent", pages.org(&["agents", &agent_id]))
}

pub(super) fn channel_failing(said: &ChannelFailing, pages: &Pages<'_>) -> Draft {
    let ChannelFailing { org_name, channel_name, kind, failing_since, error, channel_id: _ } = said;
    let subject = format!("The channel {channel_name} does not deliver");
    let draft = Draft::new(subject, to_admins(org_name))
        .say("Every attempt has failed for an hour. What it should have told is tried again until it is given up.")
        .fact("Organisation", org_name)
        .fact("Channel", named(channel_name, *kind))
        .fact("Failing since", when(*failing_since))
        .button("Look at the channel", pages.org(&["channels"]));
    with_error(draft, error.as_deref())
}

pub(super) fn channel_disabled(said: &ChannelDisabled, pages: &Pages<'_>) -> Draft {
    let ChannelDisabled { org_name, channel_name, kind, disabled_at, failing_since, error, .. } =
        said;
    let subject = format!("The channel {channel_name} was switched off");
    let mut draft = Draft::new(subject, to_admins(org_name))
        .say("Its receiver is gone, or has taken nothing for days. Nothing is sent there until somebody enables it again.")
        .fact("Organisation", org_name)
        .fact("Channel", named(channel_name, *kind))
        .fact("Switched off", when(*disabled_at))
        .button("Look at the channel", pages.org(&["channels"]));
    if let Some(since) = failing_since {
        draft = draft.fact("Failing since", when(*since));
    }
    with_error(draft, error.as_deref())
}

fn named(name: &str, kind: ChannelKind) -> String {
    format!("{name} ({kind})")
}

fn with_error(draft: Draft, error: Option<&str>) -> Draft {
    match error {
        Some(error) => draft.fact("Last answer", error),
        None => draft,
    }
}
