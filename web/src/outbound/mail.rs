//! Mail: what a message looks like, and how it reaches the next mail server.

pub mod account;
pub mod template;
pub mod transport;
