//! A whole fleet on one org, under one clock, without a runtime or a database.
//!
//! [`hub::Hub`] is what stands around the org in production, in its plainest form: it numbers nothing, keeps the
//! rows and events of every batch, and after each step checks that the journal has no gap (O1), that folding the
//! journal gives what is shown (O2), and that the tables load as what is in memory (O3).
//!
//! A property that fails prints its smallest script, and the seed that leads to it; `PROPTEST_CASES` sets how many
//! lives are tried.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod alerts;
mod content;
mod deliveries;
mod fleet;
mod hub;
mod mails;
mod orders;
mod probe;
mod refusals;
mod resends;
mod rules;
mod shown;
mod site;
mod tables;
mod windows;
