//! Where it happens: thin actors around the machines of `pulse-domain`.
//!
//! ```text
//! Directory                 finds, starts, idles out and restarts; gives up on what keeps falling
//! ├── OrgActor              one per org: takes inputs, submits batches, tells what is durable
//! ├── ChannelActor          one per notification channel: tries its deliveries, one after another
//! └── Mailer                one per node: tries the product's own mail, which all nodes share
//! ```
//!
//! The sockets' session actors live in `pulse-web`, on the thread that holds the socket; they reach an org through
//! the [`Directory`](directory::Directory) and are reached through the links in [`link`].
//!
//! An actor that panics is gone, and with it only what it had not made durable. Its address closes, the next
//! message starts it anew from the store, and the edges that were attached to it attach again.

pub mod channel;
pub mod cluster;
pub mod directory;
pub mod home;
pub mod ids;
pub mod link;
pub mod mailer;
pub mod metrics;
pub mod org;
pub mod ports;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
