//! Letters about people: joining, leaving, signing in.

use pulse_domain::notification::mail::{
    AdminGranted, AdminInvitation, EmailVerification, Invitation, InvitationResent, MemberAdded,
    MemberRemoved, NewSignIn, PasswordReset, RoleChanged, Welcome,
};
use pulse_protocol::Timestamp;
use pulse_protocol::api::Role;

use super::draft::{Draft, Pages, TO_ACCOUNT, when};

const NOT_YOU: &str =
    "If you did not ask for this, ignore this mail: nothing happens without the link.";

pub(super) fn welcome(said: &Welcome, pages: &Pages<'_>) -> Draft {
    let Welcome { name, org_name, trial_days } = said;
    let why = format!("You get this mail because you made {org_name} at VelocityPulse.");
    let mut draft = Draft::new(format!("Welcome to VelocityPulse, {name}"), why)
        .say(format!("{org_name} is ready. Three steps, and you see your network:"));
    draft.lines = vec![
        "Enrol an agent: it sits in your network and watches it.".to_owned(),
        "Let it scan a segment: what it finds appears on your dashboard.".to_owned(),
        "Add a channel and a rule: then you are told when something goes offline.".to_owned(),
    ];
    if let Some(days) = trial_days {
        draft = draft.note(format!("You can try everything for {days} days, without a card."));
    }
    draft.button("Open the dashboard", pages.org(&[]))
}

pub(super) fn invitation(said: &Invitation, pages: &Pages<'_>) -> Draft {
    let Invitation { org_name, inviter_name, role, token, expires_at, invitation_id: _ } = said;
    let subject = format!("{inviter_name} invites you to {org_name}");
    invited(subject, org_name, *role, *expires_at)
        .button("Accept", pages.hub(&["invitations", token]))
}

pub(super) fn invitation_resent(said: &InvitationResent, pages: &Pages<'_>) -> Draft {
    let subject = format!("Reminder: {} invites you to {}", said.inviter_name, said.org_name);
    invited(subject, &said.org_name, said.role, said.expires_at)
        .say("This link takes the place of the one before.")
        .button("Accept", pages.hub(&["invitations", &said.token]))
}

fn invited(subject: String, org_name: &str, role: Role, expires_at: Timestamp) -> Draft {
    let why = format!("You get this mail because a member of {org_name} named this address.");
    Draft::new(subject, why)
        .say(format!("You would join {org_name} at VelocityPulse as {}.", role_words(role)))
        .note(format!("The invitation is good until {}. {NOT_YOU}", when(expires_at)))
}

pub(super) fn member_added(said: &MemberAdded, pages: &Pages<'_>) -> Draft {
    let MemberAdded { org_name, added_by, role, .. } = said;
    Draft::new(format!("You are a member of {org_name} now"), TO_ACCOUNT)
        .say(format!("{added_by} added you to {org_name} as {}.", role_words(*role)))
        .button("Open the dashboard", pages.org(&[]))
}

pub(super) fn role_changed(said: &RoleChanged, pages: &Pages<'_>) -> Draft {
    let RoleChanged { org_name, changed_by, previous, current, changed_at, .. } = said;
    Draft::new(format!("Your role in {org_name} has changed"), TO_ACCOUNT)
        .say(format!("{changed_by} changed what you may do in {org_name}."))
        .fact("Before", role_words(*previous))
        .fact("Now", role_words(*current))
        .fact("Since", when(*changed_at))
        .button("Open the dashboard", pages.org(&[]))
}

pub(super) fn member_removed(said: &MemberRemoved, _: &Pages<'_>) -> Draft {
    let MemberRemoved { org_name, removed_at, .. } = said;
    Draft::new(format!("You are no longer a member of {org_name}"), TO_ACCOUNT)
        .say(format!("Your membership in {org_name} ended on {}.", when(*removed_at)))
        .say("Your account itself, and your other organisations, are as they were.")
}

pub(super) fn admin_invitation(said: &AdminInvitation, pages: &Pages<'_>) -> Draft {
    let AdminInvitation { inviter_name, staff_role, token, expires_at, .. } = said;
    let why = "You get this mail because somebody of the hub's staff named this address.";
    Draft::new(format!("{inviter_name} invites you to the staff of VelocityPulse"), why)
        .say(format!("You would join the staff as {staff_role}."))
        .note(format!("The invitation is good until {}. {NOT_YOU}", when(*expires_at)))
        .button("Accept", pages.hub(&["staff", "invitations", token]))
}

pub(super) fn admin_granted(said: &AdminGranted, pages: &Pages<'_>) -> Draft {
    let AdminGranted { granted_by, staff_role, granted_at, .. } = said;
    Draft::new("You belong to the staff of VelocityPulse now", TO_ACCOUNT)
        .say(format!("{granted_by} made you {staff_role} on {}.", when(*granted_at)))
        .note("If this surprises you, tell whoever runs this hub.")
        .button("Open the staff pages", pages.hub(&["staff"]))
}

pub(super) fn new_sign_in(said: &NewSignIn, pages: &Pages<'_>) -> Draft {
    let NewSignIn { address, device, signed_in_at, .. } = said;
    Draft::new("A new sign-in to your account", TO_ACCOUNT)
        .say("Somebody signed in to your account from a place that is new.")
        .fact("When", when(*signed_in_at))
        .fact("From", address)
        .fact("With", device)
        .say("If it was you, there is nothing to do. If not, end the session and change your password.")
        .button("Look at your sessions", pages.hub(&["account", "sessions"]))
}

pub(super) fn email_verification(said: &EmailVerification, pages: &Pages<'_>) -> Draft {
    let EmailVerification { token, expires_at, .. } = said;
    let why = "You get this mail because this address was given to VelocityPulse.";
    Draft::new("Confirm your mail address", why)
        .say("Confirm that this address is yours.")
        .note(format!("The link is good until {}. {NOT_YOU}", when(*expires_at)))
        .button("Confirm", pages.hub(&["verify-email", token]))
}

pub(super) fn password_reset(said: &PasswordReset, pages: &Pages<'_>) -> Draft {
    let PasswordReset { token, expires_at, .. } = said;
    Draft::new("Set a new password", TO_ACCOUNT)
        .say("Somebody asked for a new password for your account. This link lets you set one.")
        .note(format!("The link is good until {}, once. {NOT_YOU}", when(*expires_at)))
        .button("Set a new password", pages.hub(&["reset-password", token]))
}

const fn role_words(role: Role) -> &'static str {
    match role {
        Role::Owner => "an owner",
        Role::Admin => "an admin",
        Role::Editor => "an editor",
        Role::Viewer => "a viewer",
    }
}
