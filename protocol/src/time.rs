//! Instants on the wire: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de};

/// An instant in milliseconds since 1970-01-01T00:00:00Z.
///
/// Travels as `2026-03-01T12:00:00.000Z`; any RFC 3339 offset is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as `2026-03-01T12:00:00.000Z`")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The instant this many milliseconds after the epoch.
    #[must_use]
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// What the wall clock says. Never called by a machine: they are given `now`.
    #[must_use]
    pub fn wall_clock() -> Self {
        Self(Utc::now().timestamp_millis())
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Out of chrono's range only for instants 262,000 years away; the nearest one it has stands in.
        let instant = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        DateTime::parse_from_rfc3339(text)
            .map(|instant| Self(instant.timestamp_millis()))
            .map_err(|_| InvalidTimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl ts_rs::TS for Timestamp {
    type WithoutGenerics = Self;
    type OptionInnerType = Self;

    fn name(_: &ts_rs::Config) -> String {
        "string".to_owned()
    }

    fn inline(config: &ts_rs::Config) -> String {
        Self::name(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_with_milliseconds_and_z() {
        let at = Timestamp::from_unix_ms(1_772_366_400_000);
        assert_eq!(at.to_string(), "2026-03-01T12:00:00.000Z");
        assert_eq!("2026-03-01T13:00:00+01:00".parse(), Ok(at));
    }

    #[test]
    fn a_date_without_a_time_is_refused() {
        assert_eq!("2026-03-01".parse::<Timestamp>(), Err(InvalidTimestamp));
    }

    #[test]
    fn subtraction_never_wraps() {
        let (early, late) = (Timestamp::from_unix_ms(5), Timestamp::from_unix_ms(9));
        assert_eq!(late.duration_since(early), Duration::from_millis(4));
        assert_eq!(early.duration_since(late), Duration::ZERO);
    }
}
