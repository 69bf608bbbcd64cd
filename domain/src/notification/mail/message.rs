//! What each mail says, to whom, and under which key: the only table.
//!
//! A mail's parameters are written with its cause and read when it is sent; a version that adds one gives it a default.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::api::{ChannelKind, MailTemplate, Plan, Role};
use pulse_protocol::ids::{AgentId, ChannelId, SessionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who gets a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The address that its cause names.
    Address,
    /// The org's owners.
    Owners,
    /// The org's owners and admins.
    OwnersAndAdmins,
    /// The addresses that the hub's operator configured.
    Team,
}

/// What whoever caused a mail is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// Success only once the recipient's mail server accepted it; otherwise its cause is taken back.
    Strict,
    /// It is queued with its cause, and tried until it is accepted, refused or pointless.
    Outbox,
}

/// What holds for all mails of one template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who gets it.
    pub audience: Audience,
    /// What its cause is told.
    pub contract: Contract,
    /// Whether it says how to get no more of its kind (List-Unsubscribe).
    pub unsubscribe: bool,
    /// It is pointless this long after its cause.
    pub lifetime: Duration,
    /// The parameters that end it earlier.
    pub ends_at: &'static [&'static str],
    /// The parameters that tell its cause from others in its key.
    pub key: &'static [&'static str],
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// In the currency's smallest unit: cents, pence, whole yen.
    pub minor: i64,
    /// Three letters of ISO 4217, in either case.
    pub currency: String,
}

/// Why an account was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspensionReason {
    /// Nothing was paid until the grace ended.
    GracePeriodExceeded,
    /// The trial ended and nobody subscribed.
    TrialExpired,
    /// A person decided so.
    Other,
}

/// How a dispute ended, for this hub, which was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeOutcome {
    /// The payment stands: the bank decided for the hub.
    Won,
    /// The payment went back to the card's owner.
    Lost,
    /// It was closed without a decision.
    Closed,
}

/// One answer in a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormField {
    /// What was asked.
    pub label: String,
    /// What was answered.
    pub value: String,
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

macro_rules! mails {
    ($(
        $(#[$doc:meta])*
        $name:ident ($audience:ident, $contract:ident, $unsubscribe:literal, $count:literal $unit:ident $(, ends [$($end:ident),+])?; key [$($key:ident),*]) {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*

        /// What a mail says.
        #[derive(Clone, PartialEq, Eq)]
        pub enum MailMessage {
            $($(#[$doc])* $name($name),)*
        }

        $(impl From<$name> for MailMessage {
            fn from(params: $name) -> Self {
                Self::$name(params)
            }
        })*

        /// What holds for all mails of a template.
        #[must_use]
        pub const fn facts(template: MailTemplate) -> Facts {
            match template {
                $(MailTemplate::$name => Facts {
                    audience: Audience::$audience,
                    contract: Contract::$contract,
                    unsubscribe: $unsubscribe,
                    lifetime: $unit.saturating_mul($count),
                    ends_at: &[$($(stringify!($end)),+)?],
                    key: &[$(stringify!($key)),*],
                },)*
            }
        }

        impl MailMessage {
            /// What it is about.
            #[must_use]
            pub const fn template(&self) -> MailTemplate {
                match self { $(Self::$name(_) => MailTemplate::$name,)* }
            }

            /// Its key: of the mails of one org with one key, each address gets one.
            #[must_use]
            pub fn key(&self) -> String {
                let parts: Vec<String> = match self {
                    $(Self::$name(_params) => vec![$(_params.$key.part()),*],)*
                };
                key(self.template(), &parts)
            }

            /// When it becomes pointless, if its cause is of `now`.
            #[must_use]
            pub fn expires_at(&self, now: Timestamp) -> Timestamp {
                let ends: Vec<Timestamp> = match self {
                    $(Self::$name(_params) => vec![$($(_params.$end),+)?],)*
                };
                let last = now + facts(self.template()).lifetime;
                ends.into_iter().fold(last, Timestamp::min)
            }

            /// Its parameters, as they are stored.
            ///
            /// # Errors
            ///
            /// The serializer's; parameters are plain data, so none is known.
            pub fn params(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$name(params) => serde_json::to_value(params),)* }
            }

            /// The mail of a template with these parameters.
            ///
            /// # Errors
            ///
            /// What is missing in the parameters, or has another form.
            pub fn read(template: MailTemplate, params: Value) -> Result<Self, serde_json::Error> {
                Ok(match template {
                    $(MailTemplate::$name => Self::$name(serde_json::from_value(params)?),)*
                })
            }
        }
    };
}

/// Parameters may hold tokens.
impl std::fmt::Debug for MailMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MailMessage").field(&self.template().as_str()).finish()
    }
}

/// The key of a mail whose cause these parts tell from others.
fn key(template: MailTemplate, parts: &[String]) -> String {
    let parts = parts.iter().map(|part| format!(":{part}"));
    std::iter::once(template.as_str().to_owned()).chain(parts).collect()
}

/// A parameter as a part of a key: without a colon that is not escaped, so that no two causes have one key.
trait Part {
    fn part(&self) -> String;
}

impl Part for String {
    fn part(&self) -> String {
        self.replace('\\', r"\\").replace(':', r"\:")
    }
}

impl Part for Timestamp {
    fn part(&self) -> String {
        self.unix_ms().to_string()
    }
}

macro_rules! plain_parts {
    ($($type:ty),*) => {$(
        impl Part for $type {
            fn part(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

plain_parts!(u8, u16, u32, AgentId, ChannelId, SessionId, UserId);

mails! {
    /// An org was made.
    Welcome (Address, Outbox, true, 7 DAY; key []) {
        /// The creator's name.
        name: String,
        /// The org's name.
        org_name: String,
        /// How long it may try, if it does.
        trial_days: Option<u32>,
    }
    /// The trial ends soon.
    TrialExpiring (OwnersAndAdmins, Outbox, true, 7 DAY, ends [trial_ends_at]; key [trial_ends_at]) {
        /// The org's name.
        org_name: String,
        /// When it ends.
        trial_ends_at: Timestamp,
        /// Whole days until then.
        days_left: u32,
    }
    /// The trial has ended.
    TrialExpired (OwnersAndAdmins, Outbox, true, 7 DAY; key [trial_ended_at]) {
        /// The org's name.
        org_name: String,
        /// When it ended.
        trial_ended_at: Timestamp,
        /// When the account is suspended unless somebody subscribes.
        grace_ends_at: Option<Timestamp>,
    }
    /// Nothing runs until somebody pays, or asks.
    AccountSuspended (OwnersAndAdmins, Outbox, false, 7 DAY; key [suspended_at]) {
        /// The org's name.
        org_name: String,
        /// Why.
        reason: SuspensionReason,
        /// Since when.
        suspended_at: Timestamp,
    }
    /// The first payment was made.
    SubscriptionActivated (OwnersAndAdmins, Outbox, false, 7 DAY; key [subscription_id]) {
        /// The org's name.
        org_name: String,
        /// What it pays for now.
        plan: Plan,
        /// The payment provider's id.
        subscription_id: String,
    }
    /// The subscription has ended.
    SubscriptionCancelled (OwnersAndAdmins, Outbox, false, 7 DAY; key [subscription_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        subscription_id: String,
        /// When it ended.
        ended_at: Timestamp,
        /// Days for which the org's data is kept.
        kept_days: u32,
    }
    /// A payment failed.
    PaymentFailed (OwnersAndAdmins, Outbox, false, 7 DAY; key [invoice_id, attempt]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        invoice_id: String,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// What was to be paid.
        amount: Money,
        /// When it is tried again.
        next_attempt_at: Option<Timestamp>,
    }
    /// A payment that had failed was made.
    PaymentRecovered (OwnersAndAdmins, Outbox, false, 7 DAY; key [invoice_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        invoice_id: String,
        /// What was paid.
        amount: Money,
    }
    /// A further period was paid.
    RenewalReceipt (OwnersAndAdmins, Outbox, false, 7 DAY; key [invoice_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        invoice_id: String,
        /// What was paid.
        amount: Money,
        /// From when.
        period_start: Timestamp,
        /// Until when.
        period_end: Timestamp,
    }
    /// The subscription will end.
    CancellationScheduled (OwnersAndAdmins, Outbox, false, 7 DAY; key [subscription_id, decided_at]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        subscription_id: String,
        /// When it ends.
        ends_at: Timestamp,
        /// When somebody decided so.
        decided_at: Timestamp,
    }
    /// It will not, after all.
    CancellationWithdrawn (OwnersAndAdmins, Outbox, false, 7 DAY; key [subscription_id, decided_at]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        subscription_id: String,
        /// When somebody decided so.
        decided_at: Timestamp,
    }
    /// Another plan.
    PlanChanged (OwnersAndAdmins, Outbox, false, 7 DAY; key [changed_at]) {
        /// The org's name.
        org_name: String,
        /// What it paid for.
        previous: Plan,
        /// What it pays for now.
        current: Plan,
        /// Since when.
        changed_at: Timestamp,
    }
    /// The card ends before the next payment.
    CardExpiring (OwnersAndAdmins, Outbox, true, 14 DAY; key [last4, year, month]) {
        /// The org's name.
        org_name: String,
        /// Whose card it is, such as `Visa`.
        brand: String,
        /// Its last four digits.
        last4: String,
        /// The last month in which it is good, 1 to 12.
        month: u8,
        /// That month's year.
        year: u16,
    }
    /// All of a payment was given back.
    RefundFull (OwnersAndAdmins, Outbox, false, 7 DAY; key [refund_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        refund_id: String,
        /// What was given back.
        amount: Money,
    }
    /// A part of it was.
    RefundPartial (OwnersAndAdmins, Outbox, false, 7 DAY; key [refund_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        refund_id: String,
        /// What was given back.
        amount: Money,
        /// What had been paid.
        paid: Money,
    }
    /// The bank disputes a payment.
    DisputeOpened (OwnersAndAdmins, Outbox, false, 7 DAY; key [dispute_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        dispute_id: String,
        /// What is disputed.
        amount: Money,
        /// Why, in the bank's word.
        reason: String,
    }
    /// The dispute has ended.
    DisputeClosed (OwnersAndAdmins, Outbox, false, 7 DAY; key [dispute_id]) {
        /// The org's name.
        org_name: String,
        /// The payment provider's id.
        dispute_id: String,
        /// What was disputed.
        amount: Money,
        /// How it ended.
        outcome: DisputeOutcome,
    }
    /// Somebody is asked to join.
    Invitation (Address, Strict, false, 7 DAY, ends [expires_at]; key [invitation_id]) {
        /// The org's name.
        org_name: String,
        /// Who asks.
        inviter_name: String,
        /// What they may do then.
        role: Role,
        /// The invitation.
        invitation_id: String,
        /// What accepts it.
        token: String,
        /// Until when it can be accepted.
        expires_at: Timestamp,
    }
    /// Asked again, with a new link.
    InvitationResent (Address, Strict, false, 7 DAY, ends [expires_at]; key [invitation_id, resent_at]) {
        /// The org's name.
        org_name: String,
        /// Who asks.
        inviter_name: String,
        /// What they may do then.
        role: Role,
        /// The invitation.
        invitation_id: String,
        /// What accepts it.
        token: String,
        /// When it was asked again.
        resent_at: Timestamp,
        /// Until when it can be accepted.
        expires_at: Timestamp,
    }
    /// Somebody with an account was made a member.
    MemberAdded (Address, Outbox, false, 7 DAY; key [user_id, added_at]) {
        /// The org's name.
        org_name: String,
        /// Who did it.
        added_by: String,
        /// What they may do.
        role: Role,
        /// The member.
        user_id: UserId,
        /// When.
        added_at: Timestamp,
    }
    /// A member may do other things now.
    RoleChanged (Address, Outbox, false, 7 DAY; key [user_id, changed_at]) {
        /// The org's name.
        org_name: String,
        /// Who did it.
        changed_by: String,
        /// What they were.
        previous: Role,
        /// What they are.
        current: Role,
        /// The member.
        user_id: UserId,
        /// When.
        changed_at: Timestamp,
    }
    /// A member is none any more.
    MemberRemoved (Address, Outbox, false, 7 DAY; key [user_id, removed_at]) {
        /// The org's name.
        org_name: String,
        /// The member.
        user_id: UserId,
        /// When.
        removed_at: Timestamp,
    }
    /// Somebody is asked to join the hub's staff.
    AdminInvitation (Address, Strict, false, 7 DAY, ends [expires_at]; key [invitation_id, sent_at]) {
        /// Who asks.
        inviter_name: String,
        /// What they would be.
        staff_role: String,
        /// The invitation.
        invitation_id: String,
        /// What accepts it.
        token: String,
        /// When it was asked.
        sent_at: Timestamp,
        /// Until when it can be accepted.
        expires_at: Timestamp,
    }
    /// Somebody with an account joined the hub's staff.
    AdminGranted (Address, Outbox, false, 7 DAY; key [user_id, granted_at]) {
        /// Who did it.
        granted_by: String,
        /// What they are.
        staff_role: String,
        /// Who joined.
        user_id: UserId,
        /// When.
        granted_at: Timestamp,
    }
    /// The hub's staff writes to an org.
    StaffMessage (Owners, Strict, false, 1 DAY; key [message_id]) {
        /// The org's name.
        org_name: String,
        /// The message.
        message_id: String,
        /// What it is about.
        subject: String,
        /// What it says.
        text: String,
    }
    /// A limit of the plan is near, or as good as reached.
    QuotaWarning (OwnersAndAdmins, Outbox, true, 3 DAY; key [quota, percent, period]) {
        /// The org's name.
        org_name: String,
        /// What is limited: `agents`, `devices`.
        quota: String,
        /// How much of it is used: 80 or 95.
        percent: u8,
        /// What is used.
        used: u64,
        /// What may be used.
        limit: u64,
        /// The period in which it is told once, such as `2026-03`.
        period: String,
    }
    /// A ticket was opened.
    TicketCreated (Address, Outbox, false, 7 DAY; key [ticket_id]) {
        /// The ticket.
        ticket_id: String,
        /// What it is about.
        subject: String,
    }
    /// A ticket was answered.
    TicketAnswered (Address, Outbox, false, 7 DAY; key [ticket_id, answer_id]) {
        /// The ticket.
        ticket_id: String,
        /// The answer.
        answer_id: String,
        /// What it is about.
        subject: String,
        /// Who answered.
        answered_by: String,
        /// What they wrote.
        text: String,
    }
    /// An agent has a new key.
    KeyRotated (OwnersAndAdmins, Outbox, false, 3 DAY; key [agent_id, rotated_at]) {
        /// The org's name.
        org_name: String,
        /// The agent.
        agent_id: AgentId,
        /// Its name.
        agent_name: String,
        /// Who did it.
        rotated_by: String,
        /// When.
        rotated_at: Timestamp,
    }
    /// Somebody signed in from a new place.
    NewSignIn (Address, Outbox, false, 1 DAY; key [session_id]) {
        /// The session.
        session_id: SessionId,
        /// From which address.
        address: String,
        /// With which program.
        device: String,
        /// When.
        signed_in_at: Timestamp,
    }
    /// An address is to be proven.
    EmailVerification (Address, Outbox, false, 24 HOUR, ends [expires_at]; key [request_id]) {
        /// What asked for it.
        request_id: String,
        /// What proves it.
        token: String,
        /// Until when.
        expires_at: Timestamp,
    }
    /// A password was forgotten.
    PasswordReset (Address, Outbox, false, 1 HOUR, ends [expires_at]; key [request_id]) {
        /// What asked for it.
        request_id: String,
        /// What lets a new one be set.
        token: String,
        /// Until when.
        expires_at: Timestamp,
    }
    /// A channel has not delivered for an hour.
    ChannelFailing (OwnersAndAdmins, Outbox, true, 3 DAY; key [channel_id, failing_since]) {
        /// The org's name.
        org_name: String,
        /// The channel.
        channel_id: ChannelId,
        /// Its name.
        channel_name: String,
        /// What it is.
        kind: ChannelKind,
        /// Since when every attempt failed.
        failing_since: Timestamp,
        /// Why the last one did.
        error: Option<String>,
    }
    /// A channel was switched off, because it never delivers.
    ChannelDisabled (OwnersAndAdmins, Outbox, true, 7 DAY; key [channel_id, disabled_at]) {
        /// The org's name.
        org_name: String,
        /// The channel.
        channel_id: ChannelId,
        /// Its name.
        channel_name: String,
        /// What it is.
        kind: ChannelKind,
        /// When it was switched off.
        disabled_at: Timestamp,
        /// Since when every attempt failed.
        failing_since: Option<Timestamp>,
        /// Why the last one did.
        error: Option<String>,
    }
    /// The contact form was sent.
    ContactForm (Team, Outbox, false, 7 DAY; key [form_id]) {
        /// The form.
        form_id: String,
        /// What it is about.
        subject: String,
        /// Where an answer goes.
        reply_to: String,
        /// What was filled in.
        fields: Vec<FormField>,
    }
    /// The partners' form was sent.
    PartnerForm (Team, Outbox, false, 7 DAY; key [form_id]) {
        /// The form.
        form_id: String,
        /// Who wants to be one.
        company: String,
        /// Where an answer goes.
        reply_to: String,
        /// What was filled in.
        fields: Vec<FormField>,
    }
}
