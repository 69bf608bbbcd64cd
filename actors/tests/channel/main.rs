//! A channel tries its deliveries until each has ended. Time is the test's: nothing waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod breaker;
mod fairness;
mod life;
mod order;
mod people;
mod stage;
