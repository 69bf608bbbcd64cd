//! What lasts: the journal and the tables, on SQLite and on PostgreSQL through one code path.
//!
//! [`Database`] holds the connections and answers reads; it implements the ports [`OrgStore`], [`Accounts`]
//! and [`Claims`].
//! [`JournalWriter`] implements the port [`Journal`]: everything an org decides becomes durable through it, in
//! groups. [`admin`] is what the command line does to accounts and orgs, [`copy`] moves everything to another
//! database, [`Retention`] deletes what has grown old, [`seal`] encrypts secrets at rest.
//!
//! [`OrgStore`]: pulse_actors::ports::OrgStore
//! [`Accounts`]: pulse_actors::ports::Accounts
//! [`Claims`]: pulse_actors::cluster::Claims
//! [`Journal`]: pulse_actors::ports::Journal

mod accounts;
pub mod admin;
mod claims;
mod copy;
mod database;
mod deliveries;
mod entity;
mod error;
mod journal;
mod mail_store;
mod mails;
mod org;
mod record;
mod retention;
mod rows;
pub mod seal;

pub use copy::{CopyError, copy};
pub use database::{ConnectError, Database, DatabaseKind, Options};
pub use journal::{CommitStats, JournalOptions, JournalWriter, OnCommit, Outcome};
pub use mail_store::MailAlone;
pub use retention::{Pruned, Retention};
