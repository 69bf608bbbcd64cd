//! What is decided: pure state machines, the plan table and the records they are kept in.
//!
//! Nothing here waits, reads a clock, draws a number or logs. A machine answers a command with what became
//! true (`decide`) and folds that into its next state (`apply`); `now` and new ids are arguments.

pub mod command;
pub mod decision;
pub mod device;
pub mod notification;
pub mod org;
pub mod permission;
pub mod plan;
pub mod presence;
pub mod record;
pub mod request;
pub mod scan;
pub mod sequence;
