//! Mail: what a message looks like, and how it reaches the next mail server.

pub mod account;
mod message;
pub mod none;
pub mod resend;
pub mod smtp;
pub mod template;
pub mod transport;
