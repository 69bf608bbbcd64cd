//! The REST interface as a client sees it: the real app on a real socket, over accounts and tables in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod answers;
mod auth;
mod mails;
mod operations;
mod reads;
mod resources;
mod rules;
mod support;
