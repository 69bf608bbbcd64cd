//! Notifications: which events are told, to whom, and what becomes of each message.

pub mod channel;
pub mod delivery;
pub mod mail;
pub mod pace;
pub mod record;
pub mod rule;
