//! What leaves the hub, against receivers on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod discord;
mod egress;
mod email;
mod markup;
mod ntfy;
mod pagerduty;
mod resend;
mod slack;
mod smtp;
mod smtp_server;
mod support;
mod teams;
mod telegram;
mod webhook;
