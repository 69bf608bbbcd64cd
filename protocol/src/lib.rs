//! What travels between agents, the hub, dashboards and receivers.
//!
//! Types and their JSON forms only: no I/O, no actors, no database. One JSON file per frame under
//! `tests/golden` pins the wire; changing one of them is changing the protocol. The dashboard's TypeScript
//! types in `web/ui/src/lib/protocol.ts` are generated from these types by `tests/typescript.rs`.

pub mod agent;
pub mod api;
pub mod dashboard;
pub mod event;
pub mod ids;
pub mod key;
pub mod problem;
pub mod status;
pub mod time;

pub use time::Timestamp;
