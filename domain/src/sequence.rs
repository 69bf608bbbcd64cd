//! The window on one agent's spool: which number comes next.
//!
//! State frames carry 1, 2, 3, … per agent and spool. What was seen already is acked again and changes nothing;
//! what leaves a gap is refused, because acting on it would lose the frame between.
//!
//! - **S1** The last number taken grows by exactly one at a time, or starts again at 0 with a new spool.
//! - **S2** No permutation or repetition of resends takes a number twice.

use std::sync::Arc;

/// How far an agent's spool was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The spool that the number belongs to; empty before the first `hello`.
    pub spool_id: Arc<str>,
    /// The last number taken; 0 for none.
    pub last: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { spool_id: Arc::from(""), last: 0 }
    }
}

/// What to do with a state frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Take it.
    Next,
    /// It was taken before: ack it again.
    Repeat,
    /// Frames before it are missing: refuse it.
    Gap {
        /// The number that must come next.
        expected: u64,
    },
}

/// What a `hello` means for the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The same spool goes on.
    Resume,
    /// A new spool starts at 1.
    NewSpool,
    /// The agent has forgotten frames that were never taken: refuse it.
    Gap {
        /// The number that must come next.
        expected: u64,
    },
}

impl Window {
    /// What the state frame numbered `seq` is.
    #[must_use]
    pub const fn arrival(&self, seq: u64) -> Arrival {
        if seq <= self.last {
            Arrival::Repeat
        } else if seq == self.last + 1 {
            Arrival::Next
        } else {
            Arrival::Gap { expected: self.last + 1 }
        }
    }

    /// What a `hello` with this spool and lowest unacked number is.
    #[must_use]
    pub fn greeting(&self, spool_id: &str, next_seq: u64) -> Greeting {
        let same = *self.spool_id == *spool_id;
        let expected = if same { self.last + 1 } else { 1 };
        if next_seq > expected {
            Greeting::Gap { expected }
        } else if same {
            Greeting::Resume
        } else {
            Greeting::NewSpool
        }
    }

    /// Takes the next number.
    pub const fn advance(&mut self) {
        self.last += 1;
    }

    /// Starts a new spool.
    pub fn restart(&mut self, spool_id: &str) {
        *self = Self { spool_id: Arc::from(spool_id), last: 0 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(last: u64) -> Window {
        Window { spool_id: Arc::from("one"), last }
    }

    #[test]
    fn numbers_are_next_repeated_or_a_gap() {
        assert_eq!(at(4).arrival(5), Arrival::Next);
        assert_eq!(at(4).arrival(4), Arrival::Repeat);
        assert_eq!(at(4).arrival(6), Arrival::Gap { expected: 5 });
    }

    #[test]
    fn a_greeting_resumes_starts_anew_or_is_refused() {
        assert_eq!(at(4).greeting("one", 5), Greeting::Resume);
        assert_eq!(at(4).greeting("one", 2), Greeting::Resume);
        assert_eq!(at(4).greeting("one", 6), Greeting::Gap { expected: 5 });
        assert_eq!(at(4).greeting("two", 1), Greeting::NewSpool);
        assert_eq!(at(4).greeting("two", 2), Greeting::Gap { expected: 1 });
    }

    proptest! {
        /// S1 and S2: an agent that resends from any acked point, any number of times, is taken once.
        #[test]
        fn resends_in_any_pattern_take_each_number_once(
            resends in prop::collection::vec((1_u64..40, 1_u64..40), 1..30),
        ) {
            let mut window = Window::default();
            window.restart("one");
            let mut taken = vec![];
            for (from, count) in resends {
                for seq in from..from + count {
                    match window.arrival(seq) {
                        Arrival::Next => {
                            window.advance();
                            taken.push(seq);
                        }
                        Arrival::Repeat => prop_assert!(taken.contains(&seq)),
                        Arrival::Gap { expected } => {
                            prop_assert!(!taken.contains(&expected));
                            break;
                        }
                    }
                }
            }
            prop_assert!(taken.iter().copied().eq(1..=window.last));
        }
    }
}
