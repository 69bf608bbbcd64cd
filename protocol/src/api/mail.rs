//! Bodies of the product's own mail: what it tells people beside the notifications they asked for.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Attempt, DeliveryState, Suppression};
use crate::ids::DeliveryId;
use crate::status::words;
use crate::time::Timestamp;

words! {
    /// What a mail is about.
    MailTemplate {
        /// An org was made.
        Welcome = "welcome",
        /// The trial ends soon.
        TrialExpiring = "trial_expiring",
        /// The trial has ended.
        TrialExpired = "trial_expired",
        /// Nothing runs until somebody pays, or asks.
        AccountSuspended = "account_suspended",
        /// The first payment was made.
        SubscriptionActivated = "subscription_activated",
        /// The subscription has ended.
        SubscriptionCancelled = "subscription_cancelled",
        /// A payment failed.
        PaymentFailed = "payment_failed",
        /// A payment that had failed was made.
        PaymentRecovered = "payment_recovered",
        /// A further period was paid.
        RenewalReceipt = "renewal_receipt",
        /// The subscription will end.
        CancellationScheduled = "cancellation_scheduled",
        /// It will not, after all.
        CancellationWithdrawn = "cancellation_withdrawn",
        /// Another plan.
        PlanChanged = "plan_changed",
        /// The card ends before the next payment.
        CardExpiring = "card_expiring",
        /// All of a payment was given back.
        RefundFull = "refund_full",
        /// A part of it was.
        RefundPartial = "refund_partial",
        /// The bank disputes a payment.
        DisputeOpened = "dispute_opened",
        /// The dispute has ended.
        DisputeClosed = "dispute_closed",
        /// Somebody is asked to join.
        Invitation = "invitation",
        /// Asked again, with a new link.
        InvitationResent = "invitation_resent",
        /// Somebody with an account was made a member.
        MemberAdded = "member_added",
        /// A member may do other things now.
        RoleChanged = "role_changed",
        /// A member is none any more.
        MemberRemoved = "member_removed",
        /// Somebody is asked to join the hub's staff.
        AdminInvitation = "admin_invitation",
        /// Somebody with an account joined the hub's staff.
        AdminGranted = "admin_granted",
        /// The hub's staff writes to an org.
        StaffMessage = "staff_message",
        /// A limit of the plan is near, or as good as reached.
        QuotaWarning = "quota_warning",
        /// A ticket was opened.
        TicketCreated = "ticket_created",
        /// A ticket was answered.
        TicketAnswered = "ticket_answered",
        /// An agent has a new key.
        KeyRotated = "key_rotated",
        /// Somebody signed in from a new place.
        NewSignIn = "new_sign_in",
        /// An address is to be proven.
        EmailVerification = "email_verification",
        /// A password was forgotten.
        PasswordReset = "password_reset",
        /// A channel has not delivered for an hour.
        ChannelFailing = "channel_failing",
        /// A channel was switched off, because it never delivers.
        ChannelDisabled = "channel_disabled",
        /// The contact form was sent.
        ContactForm = "contact_form",
        /// The partners' form was sent.
        PartnerForm = "partner_form",
    }

    /// What became of a mail by the time of an answer.
    MailOutcome {
        /// It is on its way, and tried until it is accepted.
        Queued = "queued",
        /// The recipient's mail server accepted it.
        Sent = "sent",
        /// It was refused for good.
        Failed = "failed",
        /// This hub has no way to send mail.
        NotConfigured = "not_configured",
        /// The recipient unsubscribed, or an earlier mail could not be delivered there.
        Suppressed = "suppressed",
    }

    /// Why an address gets no mail.
    SuppressionReason {
        /// Its mail server says that there is no such address.
        Bounce = "bounce",
        /// Its owner wants none.
        Unsubscribed = "unsubscribed",
        /// Its owner called a mail of this hub unwanted.
        Complaint = "complaint",
    }
}

/// The mail that an answer speaks of: `delivery` in every route that sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct MailDelivery {
    /// The mail.
    pub id: DeliveryId,
    /// What became of it so far.
    pub state: MailOutcome,
}

/// One mail to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Mail {
    /// Its id, the same on every attempt.
    pub id: DeliveryId,
    /// What it is about.
    pub template: MailTemplate,
    /// The address it goes to.
    pub recipient: String,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// Why it is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub suppressed_by: Option<Suppression>,
    /// When it was called for.
    pub created_at: Timestamp,
    /// After this it would be pointless, and is not sent any more.
    pub expires_at: Timestamp,
    /// What was tried.
    pub attempts: Vec<Attempt>,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub next_attempt_at: Option<Timestamp>,
    /// Why it ended without being accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
}
