//! Everything that leaves the hub towards receivers: the kinds of channels, mail, and where they may connect to.

mod config;
pub mod discord;
pub mod egress;
pub mod email;
pub mod http;
pub mod kind;
pub mod mail;
pub mod notice;
pub mod ntfy;
pub mod pagerduty;
pub mod secrets;
pub mod slack;
pub mod teams;
pub mod telegram;
pub mod text;
pub mod webhook;
