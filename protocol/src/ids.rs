//! Identifiers: a prefix that names the kind, then 26 base32 characters of a UUIDv7 (the TypeID form).
//!
//! An id is parsed once, at the edge, and trusted afterwards. Two kinds cannot be mixed up: they are
//! different types. Ids sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, de};
use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an id such as `{prefix}_…` with 26 base32 characters")]
pub struct InvalidId {
    /// The prefix that was wanted.
    pub prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $tag:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        #[derive(Clone, Copy, Default)]
        struct $tag;

        impl StaticType for $tag {
            const TYPE: &'static str = $prefix;
        }

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, greater than those made in earlier milliseconds.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with these 16 bytes.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The 16 bytes, as the tables hold them.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TypeSafeId::<$tag>::from_uuid(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse::<TypeSafeId<$tag>>()
                    .map(|id| Self(id.uuid()))
                    .map_err(|_| InvalidId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor(std::marker::PhantomData))
            }
        }

        impl ts_rs::TS for $name {
            type WithoutGenerics = Self;
            type OptionInnerType = Self;

            fn name(_: &ts_rs::Config) -> String {
                "string".to_owned()
            }

            fn inline(config: &ts_rs::Config) -> String {
                Self::name(config)
            }
        }
    )*};
}

ids! {
    /// An organisation: one tenant.
    OrgId = "org", OrgTag;
    /// A person who can sign in.
    UserId = "usr", UserTag;
    /// A monitoring agent.
    AgentId = "agt", AgentTag;
    /// A monitored device.
    DeviceId = "dev", DeviceTag;
    /// A network segment that an agent sits on.
    SegmentId = "seg", SegmentTag;
    /// One scan of a segment.
    ScanId = "scn", ScanTag;
    /// A notification channel.
    ChannelId = "chn", ChannelTag;
    /// A notification rule.
    RuleId = "rul", RuleTag;
    /// One message to one channel.
    DeliveryId = "dlv", DeliveryTag;
    /// Something wrong with a resource, as one rule sees it.
    AlertId = "alr", AlertTag;
    /// A maintenance window.
    WindowId = "mnt", WindowTag;
    /// A command to an agent.
    CommandId = "cmd", CommandTag;
    /// One event of a journal.
    EventId = "evt", EventTag;
    /// An API token.
    TokenId = "tok", TokenTag;
    /// One check of a device.
    CheckId = "chk", CheckTag;
    /// A category of devices.
    CategoryId = "cat", CategoryTag;
    /// A signed-in browser session.
    SessionId = "ses", SessionTag;
}

struct IdVisitor<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> de::Visitor<'_> for IdVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a prefixed id")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips_and_keeps_its_kind() {
        let id = AgentId::new();
        let text = id.to_string();
        assert_eq!(text.len(), "agt_".len() + 26);
        assert_eq!(text.parse::<AgentId>(), Ok(id));
        assert_eq!(text.parse::<DeviceId>(), Err(InvalidId { prefix: "dev" }));
    }

    #[test]
    fn later_ids_sort_after_earlier_ones_as_text_too() {
        let ids: Vec<String> = (0..50).map(|_| EventId::new().to_string()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn the_published_example_of_the_form_is_read() {
        let id: UserId = "usr_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
        assert_eq!(id.uuid(), uuid::uuid!("0188bac7-4afa-78aa-bc3b-bd1eef28d881"));
    }

    #[test]
    fn nonsense_is_refused_with_the_form_that_was_wanted() {
        for text in [
            "",
            "agt",
            "agt_",
            "agt_xyz",
            "01h2xcejqtf2nbrexx3vqjhp41",
            "agt_é1h2xcejqtf2nbrexx3vqjhp41",
        ] {
            assert!(text.parse::<AgentId>().unwrap_err().to_string().contains("agt_"));
        }
    }
}
