//! Letters about what an org pays.

use pulse_domain::notification::mail::{
    AccountSuspended, CancellationScheduled, CancellationWithdrawn, CardExpiring, DisputeClosed,
    DisputeOpened, DisputeOutcome, PaymentFailed, PaymentRecovered, PlanChanged, RefundFull,
    RefundPartial, RenewalReceipt, SubscriptionActivated, SubscriptionCancelled, SuspensionReason,
    TrialExpired, TrialExpiring,
};
use pulse_protocol::api::Plan;

use super::draft::{Draft, Pages, day, money, to_admins, when};

fn draft(subject: String, org_name: &str) -> Draft {
    Draft::new(subject, to_admins(org_name)).fact("Organisation", org_name)
}

fn billing(pages: &Pages<'_>) -> String {
    pages.org(&["billing"])
}

pub(super) fn trial_expiring(said: &TrialExpiring, pages: &Pages<'_>) -> Draft {
    let TrialExpiring { org_name, trial_ends_at, days_left } = said;
    let left = match days_left {
        0 => "today".to_owned(),
        1 => "in one day".to_owned(),
        days => format!("in {days} days"),
    };
    draft(format!("The trial of {org_name} ends {left}"), org_name)
        .say("Choose a plan before then, and nothing stops.")
        .fact("Ends", when(*trial_ends_at))
        .button("Choose a plan", billing(pages))
}

pub(super) fn trial_expired(said: &TrialExpired, pages: &Pages<'_>) -> Draft {
    let TrialExpired { org_name, trial_ended_at, grace_ends_at } = said;
    let draft = draft(format!("The trial of {org_name} has ended"), org_name)
        .say("Choose a plan to go on. What you have set up is kept.")
        .fact("Ended", when(*trial_ended_at))
        .button("Choose a plan", billing(pages));
    match grace_ends_at {
        Some(at) => draft.fact("Monitoring stops", when(*at)),
        None => draft,
    }
}

pub(super) fn account_suspended(said: &AccountSuspended, pages: &Pages<'_>) -> Draft {
    let AccountSuspended { org_name, reason, suspended_at } = said;
    let why = match reason {
        SuspensionReason::GracePeriodExceeded => {
            "An invoice was not paid, and the time to do so has passed."
        }
        SuspensionReason::TrialExpired => "The trial has ended, and no plan was chosen.",
        SuspensionReason::Other => "Our staff suspended it; answer this mail to learn more.",
    };
    draft(format!("{org_name} is suspended"), org_name)
        .say(why)
        .say("Agents are not connected and nothing is monitored until it is reactivated. Your data is kept.")
        .fact("Since", when(*suspended_at))
        .button("Look at billing", billing(pages))
}

pub(super) fn subscription_activated(said: &SubscriptionActivated, pages: &Pages<'_>) -> Draft {
    let SubscriptionActivated { org_name, plan, .. } = said;
    draft(format!("{org_name} is on the plan {}", plan_name(*plan)), org_name)
        .say("Thank you. The subscription is active.")
        .fact("Plan", plan_name(*plan))
        .button("Open the dashboard", pages.org(&[]))
}

pub(super) fn subscription_cancelled(said: &SubscriptionCancelled, pages: &Pages<'_>) -> Draft {
    let SubscriptionCancelled { org_name, ended_at, kept_days, .. } = said;
    draft(format!("The subscription of {org_name} has ended"), org_name)
        .say(format!(
            "Monitoring has stopped. Your data is kept for {kept_days} days, and then deleted."
        ))
        .fact("Ended", when(*ended_at))
        .button("Subscribe again", billing(pages))
}

pub(super) fn payment_failed(said: &PaymentFailed, pages: &Pages<'_>) -> Draft {
    let PaymentFailed { org_name, amount, next_attempt_at, .. } = said;
    let draft = draft(format!("A payment for {org_name} failed"), org_name)
        .say("The card was not charged. Check the payment method, so that monitoring goes on.")
        .fact("Amount", money(amount))
        .button("Check the payment method", billing(pages));
    match next_attempt_at {
        Some(at) => draft.fact("Tried again", when(*at)),
        None => draft,
    }
}

pub(super) fn payment_recovered(said: &PaymentRecovered, pages: &Pages<'_>) -> Draft {
    let PaymentRecovered { org_name, amount, .. } = said;
    draft(format!("The payment for {org_name} went through"), org_name)
        .say("The payment that had failed was made. There is nothing to do.")
        .fact("Amount", money(amount))
        .button("Look at billing", billing(pages))
}

pub(super) fn renewal_receipt(said: &RenewalReceipt, pages: &Pages<'_>) -> Draft {
    let RenewalReceipt { org_name, amount, period_start, period_end, invoice_id } = said;
    draft(format!("Receipt for {org_name}"), org_name)
        .say("Thank you: the subscription was renewed.")
        .fact("Amount", money(amount))
        .fact("From", day(*period_start))
        .fact("Until", day(*period_end))
        .fact("Invoice", invoice_id)
        .button("See the invoices", billing(pages))
}

pub(super) fn cancellation_scheduled(said: &CancellationScheduled, pages: &Pages<'_>) -> Draft {
    let CancellationScheduled { org_name, ends_at, .. } = said;
    draft(format!("The subscription of {org_name} will end"), org_name)
        .say("It was cancelled, and is good until the end of the period that is paid.")
        .fact("Ends", when(*ends_at))
        .button("Keep it", billing(pages))
}

pub(super) fn cancellation_withdrawn(said: &CancellationWithdrawn, pages: &Pages<'_>) -> Draft {
    let CancellationWithdrawn { org_name, decided_at, .. } = said;
    draft(format!("The subscription of {org_name} goes on"), org_name)
        .say("The cancellation was withdrawn. There is nothing to do.")
        .fact("Withdrawn", when(*decided_at))
        .button("Look at billing", billing(pages))
}

pub(super) fn plan_changed(said: &PlanChanged, pages: &Pages<'_>) -> Draft {
    let PlanChanged { org_name, previous, current, changed_at } = said;
    draft(format!("{org_name} is on the plan {} now", plan_name(*current)), org_name)
        .say("The plan was changed.")
        .fact("Before", plan_name(*previous))
        .fact("Now", plan_name(*current))
        .fact("Since", when(*changed_at))
        .button("Look at billing", billing(pages))
}

pub(super) fn card_expiring(said: &CardExpiring, pages: &Pages<'_>) -> Draft {
    let CardExpiring { org_name, brand, last4, month, year } = said;
    draft(format!("The card of {org_name} expires soon"), org_name)
        .say("The next payment would fail. Give another card before then.")
        .fact("Card", format!("{brand} that ends with {last4}"))
        .fact("Good until", format!("{month:02}/{year}"))
        .button("Change the card", billing(pages))
}

pub(super) fn refund_full(said: &RefundFull, pages: &Pages<'_>) -> Draft {
    let RefundFull { org_name, amount, .. } = said;
    draft(format!("A refund for {org_name}"), org_name)
        .say("The whole payment was given back, and the subscription is cancelled.")
        .fact("Refunded", money(amount))
        .button("Look at billing", billing(pages))
}

pub(super) fn refund_partial(said: &RefundPartial, pages: &Pages<'_>) -> Draft {
    let RefundPartial { org_name, amount, paid, .. } = said;
    draft(format!("A partial refund for {org_name}"), org_name)
        .say("A part of a payment was given back. The subscription is as it was.")
        .fact("Refunded", money(amount))
        .fact("Paid", money(paid))
        .button("Look at billing", billing(pages))
}

pub(super) fn dispute_opened(said: &DisputeOpened, pages: &Pages<'_>) -> Draft {
    let DisputeOpened { org_name, amount, reason, .. } = said;
    draft(format!("A payment for {org_name} is disputed"), org_name)
        .say("The bank of the card's owner disputes a payment. The account is suspended until that is settled.")
        .say("If this is a mistake, ask the bank to withdraw the dispute, and answer this mail.")
        .fact("Amount", money(amount))
        .fact("Reason", reason)
        .button("Look at billing", billing(pages))
}

/// Who won is seen from the hub, which was paid; the reader is the one who paid.
pub(super) fn dispute_closed(said: &DisputeClosed, pages: &Pages<'_>) -> Draft {
    let DisputeClosed { org_name, amount, outcome, .. } = said;
    let (subject, text) = match outcome {
        DisputeOutcome::Won => (
            format!("The dispute about a payment for {org_name} is settled: the charge was upheld"),
            "The bank decided that the charge was right: the payment stands, and your service is restored.",
        ),
        DisputeOutcome::Lost => (
            format!(
                "The dispute about a payment for {org_name} is settled: the charge was reversed"
            ),
            "The bank decided for the card's owner: the payment was given back, and the subscription is cancelled.",
        ),
        DisputeOutcome::Closed => (
            format!("The dispute about a payment for {org_name} was closed"),
            "The dispute was closed without a decision. The account is as it was.",
        ),
    };
    draft(subject, org_name)
        .say(text)
        .fact("Amount", money(amount))
        .button("Look at billing", billing(pages))
}

const fn plan_name(plan: Plan) -> &'static str {
    match plan {
        Plan::Trial => "Trial",
        Plan::Starter => "Starter",
        Plan::Unlimited => "Unlimited",
    }
}
