//! Everything that leaves the hub towards receivers: the kinds of channels, mail, and where they may connect to.

pub mod egress;
pub mod kind;
pub mod mail;
pub mod webhook;
