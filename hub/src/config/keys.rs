//! Every key there is: the only table of names and defaults.

/// How a value is written in `pulse.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// An array of strings; comma-separated in the environment.
    List,
}

/// What of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All of it.
    Whole,
    /// A URL without its password.
    UrlWithoutPassword,
    /// Only that it is set.
    Redacted,
}

/// One key. In the environment it is `PULSE_` and its name in capitals.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in `pulse.toml`.
    pub(super) name: &'static str,
    /// Its value when it is nowhere set.
    pub(super) default: Option<&'static str>,
    /// How it is written in the file.
    pub(super) form: Form,
    /// What `config` and a fault may show of it.
    pub(super) shown: Shown,
    /// A good value, shown beside a fault.
    pub(super) example: &'static str,
}

impl Key {
    /// Its environment variable.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }
}

/// Every environment variable of the hub begins with it.
pub(super) const PREFIX: &str = "PULSE_";

/// Variables that begin so are for the agent, or for the test suite: both often share a shell with a hub.
pub(super) const FOREIGN_PREFIXES: [&str; 3] = ["PULSE_AGENT_", "PULSE_HUB_", "PULSE_TEST_"];

macro_rules! keys {
    ($($ident:ident = $name:literal $form:ident $shown:ident $default:expr, $example:literal;)*) => {
        $(pub(super) const $ident: &Key = &Key {
            name: $name,
            default: $default,
            form: Form::$form,
            shown: Shown::$shown,
            example: $example,
        };)*

        /// Every key, in the order in which they are printed.
        pub(super) const ALL: &[&Key] = &[$($ident),*];
    };
}

keys! {
    LISTEN = "listen" Text Whole Some("127.0.0.1:8080"), "127.0.0.1:8080";
    OPS_LISTEN = "ops_listen" Text Whole Some("127.0.0.1:9090"), "127.0.0.1:9090";
    PUBLIC_URL = "public_url" Text Whole None, "https://pulse.example.com";
    TLS_CERT = "tls_cert" Text Whole None, "/etc/pulse/cert.pem";
    TLS_KEY = "tls_key" Text Whole None, "/etc/pulse/key.pem";
    TRUSTED_PROXIES = "trusted_proxies" List Whole None, "10.0.0.0/8";
    EGRESS_ALLOW = "egress_allow" List Whole None, "127.0.0.0/8";
    SHUTDOWN_GRACE_MS = "shutdown_grace_ms" Number Whole Some("20000"), "20000";
    SIGNUP = "signup" Text Whole Some("closed"), "closed";

    DATABASE_URL = "database_url" Text UrlWithoutPassword Some("sqlite://pulse.db"), "sqlite://pulse.db";
    SECRET_KEY = "secret_key" List Redacted None, "the output of `openssl rand -base64 32`";
    RETENTION_EVENTS_DAYS = "retention_events_days" Number Whole Some("365"), "365";
    RETENTION_SAMPLES_DAYS = "retention_samples_days" Number Whole Some("365"), "365";
    RETENTION_AUDIT_DAYS = "retention_audit_days" Number Whole Some("365"), "365";
    REDIS_URL = "redis_url" Text UrlWithoutPassword None, "redis://127.0.0.1:6379";
    NODE_ID = "node_id" Text Whole None, "hub-1";

    HEARTBEAT_INTERVAL_MS = "heartbeat_interval_ms" Number Whole Some("5000"), "5000";
    HEARTBEAT_TIMEOUT_MS = "heartbeat_timeout_ms" Number Whole Some("12000"), "12000";
    OFFLINE_GRACE_MS = "offline_grace_ms" Number Whole Some("5000"), "5000";

    LIMIT_HANDSHAKES_PER_ADDRESS = "limit_handshakes_per_address" Number Whole Some("20"), "20";
    LIMIT_HANDSHAKES_PER_NODE = "limit_handshakes_per_node" Number Whole Some("2000"), "2000";
    LIMIT_FRAMES_PER_SECOND = "limit_frames_per_second" Number Whole Some("200"), "200";
    LIMIT_FRAMES_BURST = "limit_frames_burst" Number Whole Some("1000"), "1000";
    LIMIT_UNACKED_FRAMES = "limit_unacked_frames" Number Whole Some("256"), "256";

    LOG = "log" Text Whole Some("info"), "info,pulse_web=debug";
    LOG_FORMAT = "log_format" Text Whole None, "json";
    OTLP_ENDPOINT = "otlp_endpoint" Text UrlWithoutPassword None, "http://127.0.0.1:4317";

    SMTP_URL = "smtp_url" Text UrlWithoutPassword None, "smtps://user:password@mail.example.com";
    MAIL_FROM = "mail_from" Text Whole None, "pulse@example.com";
    RESEND_API_KEY = "resend_api_key" Text Redacted None, "re_…";
    RESEND_API_BASE = "resend_api_base" Text Whole None, "https://api.resend.com";
    STRIPE_SECRET_KEY = "stripe_secret_key" Text Redacted None, "sk_live_…";
    STRIPE_WEBHOOK_SECRET = "stripe_webhook_secret" List Redacted None, "whsec_…";
    STRIPE_API_BASE = "stripe_api_base" Text Whole None, "https://api.stripe.com";
    STRIPE_PRICE_STARTER = "stripe_price_starter" Text Whole None, "price_…";
    STRIPE_PRICE_UNLIMITED = "stripe_price_unlimited" Text Whole None, "price_…";
    OIDC_ISSUER = "oidc_issuer" Text Whole None, "https://login.example.com";
    OIDC_CLIENT_ID = "oidc_client_id" Text Whole None, "pulse";
    OIDC_CLIENT_SECRET = "oidc_client_secret" Text Redacted None, "the secret the issuer gave you";
}
