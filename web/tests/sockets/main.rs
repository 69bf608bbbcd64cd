//! Both kinds of socket as a client sees them: the real app on a real port, over ports in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent;
mod agent_pressure;
mod dashboard;
mod dashboard_slow;
mod support;
