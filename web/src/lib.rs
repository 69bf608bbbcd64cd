//! The edge: REST, pages and outgoing webhooks.
//!
//! Every request passes [`request_id`] first, which names it, renders its failure and hardens its answer. A
//! handler of an org's resource takes a [`tenant::Tenant`] of the right it needs, so a handler that forgot to
//! ask who is there does not exist. Nothing is decided here: changes and questions go to the org's home
//! through the [`Directory`], and what lives in tables alone is read from the [`OrgStore`].

mod acknowledge;
mod address;
mod agents;
mod alerts;
mod attempts;
mod auth;
mod billing;
mod body;
mod channels;
mod commands;
mod deliveries;
mod devices;
pub mod error;
mod events;
mod headers;
mod health;
pub mod links;
pub mod mail;
pub mod metrics;
mod orgs;
pub mod outbound;
mod pages;
mod paging;
mod password;
pub mod principal;
pub mod request_id;
pub mod routes;
mod rules;
mod scans;
pub mod secrets;
mod segments;
pub mod server;
pub mod socket;
pub mod tenant;
mod unsubscribe;
mod windows;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use ipnet::IpNet;
use pulse_actors::directory::Directory;
use pulse_actors::mailer::Courier;
use pulse_actors::ports::{Accounts, Clock, OrgStore, Sender};
use url::Url;

pub use address::client_address;
pub use attempts::Attempts;
pub use password::{PasswordError, Passwords, hash_password};

use links::Links;
use metrics::Metrics;
use outbound::egress::Egress;
use outbound::kind::Kinds;
use socket::limits::Limits;

/// What the edge is told by the configuration.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// Where people reach the hub: decides over secure cookies and a websocket's origin.
    pub public_url: Url,
    /// Networks whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where webhooks may go.
    pub egress: Egress,
}

impl WebSettings {
    /// Whether people reach the hub over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }
}

/// Everything a handler may use; cheap to clone. The hub hands it to the app as `web::Data<WebState>`.
#[derive(Clone)]
pub struct WebState {
    /// The homes of the orgs.
    pub directory: Directory,
    /// What is durable.
    pub store: Arc<dyn OrgStore>,
    /// Who may come in.
    pub accounts: Arc<dyn Accounts>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What channels must be told.
    pub kinds: Kinds,
    /// Carries test messages.
    pub sender: Arc<dyn Sender>,
    /// Tries mails, and knows where their rows are.
    pub courier: Courier,
    /// Links that act without a sign-in.
    pub links: Links,
    /// What the configuration says.
    pub settings: Arc<WebSettings>,
    /// What is counted.
    pub metrics: Metrics,
    /// Failed sign-ins of late.
    pub attempts: Arc<Attempts>,
    /// Verifies passwords, a few at a time.
    pub passwords: Arc<Passwords>,
    /// How much agents may ask of their sockets.
    pub limits: Arc<Limits>,
    /// Whether the hub may take traffic; set once it has started, cleared when it drains.
    pub ready: Arc<AtomicBool>,
}

/// The public listener: REST, pages and health.
pub fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::scope("").wrap(from_fn(request_id::around)).configure(routes::public));
}

/// The operations listener: metrics and health.
pub fn configure_ops(cfg: &mut ServiceConfig) {
    cfg.service(web::scope("").wrap(from_fn(request_id::around)).configure(routes::operations));
}
