//! Thousands of small worlds, each from one seed: real nodes over a simulated database, network and outside.
//!
//! `docs/simulation.md` says what is simulated and what is not. `PULSE_SIM_SEED=n` replays one seed and tells what
//! happens in it; `PULSE_SIM_SEEDS=n` sets how many seeds are run in all.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot begin is to say so"
)]

mod agents;
mod check;
mod database;
mod edges;
mod faults;
mod mutations;
mod network;
mod nodes;
mod panics;
mod plan;
mod reads;
mod receivers;
mod run;
mod shown;
mod viewers;
mod world;

use std::time::Instant;

use run::run;

/// Seeds run by all parts together.
const SEEDS: u64 = 10_000;
/// Parts, which the test runner spreads over the cores.
const PARTS: u64 = 16;

/// Shows a part of a trace.
#[expect(clippy::print_stderr, reason = "whoever replays a seed wants to read it")]
fn tell(text: &str) {
    eprint!("{text}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "the count is the point")]
fn run_part(part: u64) {
    if number("PULSE_SIM_SEED").is_some() {
        return;
    }
    let (began, mut steps, mut seeds) = (Instant::now(), 0, 0);
    let all = number("PULSE_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in (part..all).step_by(usize::try_from(PARTS).unwrap()) {
        let outcome = run(seed, None, false);
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}\nreplay it with PULSE_SIM_SEED={seed}");
        }
        steps += outcome.steps;
        seeds += 1;
    }
    println!("simulator: {seeds} seeds, {steps} steps checked in {:?}", began.elapsed());
}

#[test]
fn the_seed_that_was_asked_for() {
    if let Some(seed) = number("PULSE_SIM_SEED") {
        let outcome = run(seed, None, true);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_happens_the_same_way_twice() {
    for seed in 0..20 {
        let [first, second] = [run(seed, None, false), run(seed, None, false)];
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
    }
}

/// Seeds that found something, in the worlds of their time: see `docs/simulation.md`.
#[test]
fn seeds_that_found_something() {
    for seed in [9, 1490, 3647, 3733, 4644, 8003, 8190, 9173, 9711] {
        assert_eq!(run(seed, None, false).violation, None, "seed {seed}");
    }
}

/// A test for each part.
macro_rules! parts {
    ($($name:ident = $part:literal),*) => { $(#[test] fn $name() { run_part($part); })* };
}

parts!(
    seeds_part_00 = 0,
    seeds_part_01 = 1,
    seeds_part_02 = 2,
    seeds_part_03 = 3,
    seeds_part_04 = 4,
    seeds_part_05 = 5,
    seeds_part_06 = 6,
    seeds_part_07 = 7,
    seeds_part_08 = 8,
    seeds_part_09 = 9,
    seeds_part_10 = 10,
    seeds_part_11 = 11,
    seeds_part_12 = 12,
    seeds_part_13 = 13,
    seeds_part_14 = 14,
    seeds_part_15 = 15
);
