//! Letters between customers and the hub's staff.

use pulse_domain::notification::mail::{
    ContactForm, FormField, PartnerForm, StaffMessage, TicketAnswered, TicketCreated,
};

use super::draft::{Draft, Pages, TO_ACCOUNT};

pub(super) fn staff_message(said: &StaffMessage, pages: &Pages<'_>) -> Draft {
    let StaffMessage { org_name, subject, text, message_id: _ } = said;
    let why = format!("The staff of VelocityPulse writes to you as an owner of {org_name}.");
    Draft::new(subject, why).quote(text).button("Open the dashboard", pages.org(&[]))
}

pub(super) fn ticket_created(said: &TicketCreated, pages: &Pages<'_>) -> Draft {
    let TicketCreated { ticket_id, subject } = said;
    Draft::new(format!("We have your request: {subject}"), TO_ACCOUNT)
        .say("We have read it in, and answer by mail.")
        .fact("Request", ticket_id)
        .button("See the request", pages.hub(&["support", ticket_id]))
}

pub(super) fn ticket_answered(said: &TicketAnswered, pages: &Pages<'_>) -> Draft {
    let TicketAnswered { ticket_id, subject, answered_by, text, answer_id: _ } = said;
    Draft::new(format!("Re: {subject}"), TO_ACCOUNT)
        .say(format!("{answered_by} answered your request:"))
        .quote(text)
        .fact("Request", ticket_id)
        .button("See the request", pages.hub(&["support", ticket_id]))
}

pub(super) fn contact_form(said: &ContactForm, _: &Pages<'_>) -> Draft {
    let ContactForm { subject, reply_to, fields, form_id } = said;
    form(format!("Contact form: {subject}"), form_id, reply_to, fields)
}

pub(super) fn partner_form(said: &PartnerForm, _: &Pages<'_>) -> Draft {
    let PartnerForm { company, reply_to, fields, form_id } = said;
    form(format!("Partner form: {company}"), form_id, reply_to, fields)
}

fn form(subject: String, form_id: &str, reply_to: &str, fields: &[FormField]) -> Draft {
    let why = "This hub sends its forms to this address.";
    let mut draft = Draft::new(subject, why)
        .say("Somebody filled in a form. Nothing in it was checked but its form.")
        .fact("Form", form_id)
        .fact("Answer to", reply_to);
    for FormField { label, value } in fields {
        // A value of several lines stays readable: its first line follows its label.
        let mut lines = value.lines();
        draft.lines.push(format!("{label}: {}", lines.next().unwrap_or_default()));
        draft.lines.extend(lines.map(str::to_owned));
    }
    draft
}
