//! What the actors need from the outside: ports that `store` and `web` implement and `hub` wires.

pub mod accounts;
pub mod journal;
pub mod mail;
pub mod sender;
pub mod store;

use pulse_protocol::Timestamp;

pub use accounts::{Accounts, AgentLogin, SessionLogin, TokenLogin};
pub use journal::{Confirm, Home, Journal, Submission};
pub use mail::{
    CauseEnd, ClaimedMail, MAIL_ATTEMPT_WITHIN, MailClaim, MailFilter, MailSender, MailStore,
    MailVerdict, SettledMail, StrictCause, SuppressedAddress, Suppressions,
};
pub use sender::{Message, Sender, Verdict};
pub use store::{DeliveryFilter, DueDelivery, DuePage, OrgStore, StoreError};

/// The wall clock, as a port so that tests own time.
pub trait Clock: Send + Sync {
    /// The instant now.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::wall_clock()
    }
}
