//! Follows one change by one id: an event's own, from the frame that caused it to the push that tells it.
//!
//! `decided` stands in the span of the frame, `durable` follows the journal's commit, `pushed` the viewers' turn; the
//! deliveries that an event calls for carry the same `change.id` in their attempts.

use pulse_domain::org::Input;
use pulse_domain::record::{Batch, JournalEvent};
use pulse_protocol::ids::OrgId;
use tracing::{Span, debug, debug_span, field};

/// The span in which an input is taken.
pub(super) fn taking(org_id: OrgId, input: &Input) -> Span {
    let span =
        debug_span!("org.take", org.id = %org_id, connection.id = field::Empty, seq = field::Empty);
    match input {
        Input::Frame { connection, frame, .. } => {
            span.record("connection.id", field::display(connection.0)).record("seq", frame.seq());
        }
        Input::Hello { connection, .. }
        | Input::HangUp { connection, .. }
        | Input::Bye { connection, .. } => {
            span.record("connection.id", field::display(connection.0));
        }
        _ => {}
    }
    span
}

/// Tells what a batch makes true, on its way to the journal.
pub(super) fn decided(batch: &Batch, ticket: u64) {
    for event in &batch.events {
        debug!(org.id = %batch.org_id, change.id = %event.id, seq = event.seq, event = %event.name, ticket, "decided");
    }
}

/// Tells what is true for good.
pub(super) fn durable(events: &[JournalEvent], ticket: u64) {
    for event in events {
        debug!(change.id = %event.id, seq = event.seq, event = %event.name, ticket, "durable");
    }
}
