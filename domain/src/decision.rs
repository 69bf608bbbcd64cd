//! What a machine answers to a command.

/// What became true, and what must be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<Event, Effect> {
    /// What became true, in order; the machine's `apply` folds it into the state.
    pub events: Vec<Event>,
    /// What must be done once that is durable, in order.
    pub effects: Vec<Effect>,
}

impl<Event, Effect> Decision<Event, Effect> {
    /// Nothing became true and nothing is to be done.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { events: Vec::new(), effects: Vec::new() }
    }

    /// These events and these effects.
    #[must_use]
    pub const fn new(events: Vec<Event>, effects: Vec<Effect>) -> Self {
        Self { events, effects }
    }
}
