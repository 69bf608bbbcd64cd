//! Notifications: which events are told, to whom, and what becomes of each message.

pub mod alert;
pub mod board;
pub mod channel;
pub mod delivery;
pub mod digest;
pub mod filter;
pub mod happening;
pub mod mail;
pub mod once;
pub mod pace;
pub mod preview;
pub mod quiet;
pub mod record;
pub mod rule;
pub mod scene;
pub(crate) mod wall;
pub mod window;
