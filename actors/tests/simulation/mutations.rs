//! Takes one guard away at a time, and expects the simulator to miss it.

use crate::plan::Mutation;
use crate::run::run;

/// Seeds in which a missing guard must show.
const SEEDS: u64 = 600;

/// The first seed that a world without `guard` fails in, and how.
fn caught(guard: Mutation) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| Some((seed, run(seed, Some(guard), false).violation?)))
}

/// Expects a violation that says one of `words`.
#[expect(clippy::print_stdout, reason = "which seed caught it is worth knowing")]
fn expect(guard: Mutation, words: &[&str]) {
    let Some((seed, violation)) = caught(guard) else {
        panic!("{guard:?}: nobody noticed in {SEEDS} seeds")
    };
    println!("{guard:?} is missed in seed {seed}: {violation}");
    let is_named = words.iter().any(|word| violation.contains(word));
    assert!(is_named, "{guard:?} was caught by something else: {violation}");
}

/// A test for each guard.
macro_rules! guards {
    ($($name:ident = $guard:ident says $words:expr;)*) => {
        $(#[test] fn $name() { expect(Mutation::$guard, &$words); })*
    };
}

guards!(
    without_waiting_for_the_commit = ConfirmsBeforeCommit says ["durable"];
    without_comparing_epochs = NoFence says ["wrote under epoch"];
    without_holding_the_shard = FenceNotHeld says ["wrote under epoch"];
    without_a_new_epoch = SameEpochTwice says ["wrote under epoch"];
    without_comparing_heads = NoHeadCheck says ["a batch after"];
    without_telling_failures = FailureConfirmed says ["durable"];
    without_writing_everything = DropsSubmissions says ["durable"];
    without_the_rows_of_events = RowsLost says ["tables do not hold", "position", "acked"];
    without_asking_the_receiver = SenderLies says ["no receiver accepted"];
    without_waiting_for_what_is_in_doubt = LoadsPastDoubt says ["rest"];
    without_fresh_loads = StaleLoads says ["tables do not hold"];
    without_a_grace = NoGrace says ["false agent.offline"];
    without_an_end_of_leases = EndlessLeases says ["rest"];
);
