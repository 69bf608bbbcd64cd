//! The whole agent, as a hub and as the system see it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod hub;
mod process;
mod support;
