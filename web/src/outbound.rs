//! What leaves the hub.

pub mod egress;
pub mod webhook;
