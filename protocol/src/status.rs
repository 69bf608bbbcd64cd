//! The words for how agents and devices are.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word on the wire and in the tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value that `word` names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
pub(crate) use words;

words! {
    /// How an agent is.
    AgentState {
        /// Enrolled; no connection was ever welcomed.
        NeverConnected = "never_connected",
        /// It holds a connection.
        Online = "online",
        /// Its connection ended a moment ago; the grace runs.
        Lingering = "lingering",
        /// It stayed away for the whole grace.
        Offline = "offline",
        /// Switched off by a person; it cannot connect.
        Disabled = "disabled",
    }

    /// How a device, or one of its checks, is.
    DeviceStatus {
        /// It answers as it should.
        Online = "online",
        /// It answers, but not as it should.
        Degraded = "degraded",
        /// It does not answer.
        Offline = "offline",
        /// Nobody can tell: no result yet, or its agent is away.
        Unknown = "unknown",
    }

    /// What a check does.
    CheckKind {
        /// An ICMP echo.
        Ping = "ping",
        /// An HTTP request.
        Http = "http",
        /// A TCP connection.
        Tcp = "tcp",
        /// A TLS handshake and the certificate's dates.
        Tls = "tls",
        /// A DNS look-up.
        Dns = "dns",
    }

    /// Why a status changed.
    Cause {
        /// A connection was welcomed.
        Connected = "connected",
        /// The socket closed and the grace passed.
        ConnectionClosed = "connection_closed",
        /// The heartbeats stopped and the grace passed.
        HeartbeatTimeout = "heartbeat_timeout",
        /// An agent reported it.
        Reported = "reported",
        /// The device's agent went away.
        AgentOffline = "agent_offline",
        /// The agent said when it would be back, and was not.
        ByeOverdue = "bye_overdue",
        /// The agent said it was shutting down.
        Bye = "bye",
        /// A check reached its failure threshold, or recovered.
        Check = "check",
        /// A person switched it off.
        Disabled = "disabled",
    }

    /// The operating system of an agent.
    Platform {
        /// Linux.
        Linux = "linux",
        /// macOS.
        Macos = "macos",
        /// Windows.
        Windows = "windows",
    }
}
