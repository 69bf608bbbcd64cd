//! Reading frames at a glance.
//!
//! A dashboard receives hundreds of thousands of frames a second, so a frame is not parsed: its type and number
//! stand at its start, and are read there. A hub that writes its fields in another order is read as well, slower.

use std::time::{Duration, Instant};

use memchr::{memchr, memmem};
use serde::Deserialize;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Welcome,
    Ack,
    Config,
    Command,
    Error,
    Drain,
    Snapshot,
    Event,
    Ephemeral,
    Resync,
    Ready,
    Pong,
    Unknown,
}

impl Kind {
    fn of(word: &[u8]) -> Self {
        match word {
            b"welcome" => Self::Welcome,
            b"ack" => Self::Ack,
            b"config" => Self::Config,
            b"command" => Self::Command,
            b"error" => Self::Error,
            b"drain" => Self::Drain,
            b"snapshot" => Self::Snapshot,
            b"event" => Self::Event,
            b"ephemeral" => Self::Ephemeral,
            b"resync" => Self::Resync,
            b"ready" => Self::Ready,
            b"pong" => Self::Pong,
            _ => Self::Unknown,
        }
    }

    const fn is_numbered(self) -> bool {
        matches!(self, Self::Ack | Self::Snapshot | Self::Event | Self::Ready)
    }
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) kind: Kind,
    /// Zero for a kind that has no number.
    pub(crate) seq: u64,
}

/// A frame without a readable type, or a numbered one without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub sent a frame without a readable `type` or `seq`")]
pub(crate) struct Unreadable;

/// Reads type and number.
pub(crate) fn glance(frame: &[u8]) -> Result<Glance, Unreadable> {
    glance_at_start(frame).map_or_else(|| glance_by_parsing(frame), Ok)
}

fn glance_at_start(frame: &[u8]) -> Option<Glance> {
    let rest = frame.strip_prefix(b"{\"type\":\"")?;
    let end = memchr(b'"', rest)?;
    let kind = Kind::of(&rest[..end]);
    if !kind.is_numbered() {
        return Some(Glance { kind, seq: 0 });
    }
    let digits = rest[end..].strip_prefix(b"\",\"seq\":")?;
    let mut seq: u64 = 0;
    let mut length = 0;
    for byte in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        seq = seq.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        length += 1;
    }
    (length > 0).then_some(Glance { kind, seq })
}

fn glance_by_parsing(frame: &[u8]) -> Result<Glance, Unreadable> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
        seq: Option<u64>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(frame).map_err(|_| Unreadable)?;
    let kind = Kind::of(envelope.kind.as_bytes());
    let seq = if kind.is_numbered() { envelope.seq.ok_or(Unreadable)? } else { 0 };
    Ok(Glance { kind, seq })
}

/// The response time in a `device.online` event: where a simulated agent puts its [`Mark`]. Other events have
/// none of their own, for a device that does not answer has no response time.
pub(crate) fn mark_in_event(frame: &[u8]) -> Option<Mark> {
    memmem::find(frame, b"\"event\":\"device.online\"")?;
    response_time(frame)
}

/// The same in the body of a webhook.
pub(crate) fn mark_in_webhook(body: &[u8]) -> Option<Mark> {
    memmem::find(body, b"\"type\":\"device.online\"")?;
    response_time(body)
}

fn response_time(text: &[u8]) -> Option<Mark> {
    let key = b"\"response_time_ms\":";
    let rest = &text[memmem::find(text, key)? + key.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'}'))?;
    std::str::from_utf8(&rest[..end]).ok()?.trim().parse().ok().and_then(Mark::from_ms)
}

/// When a change was due to be sent: microseconds of the run, modulo one minute.
///
/// It travels as the `response_time_ms` of a report and comes back in the event, so one number both identifies a
/// change and times it. A minute stays within any sane bound of a response time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(u32);

const MARK_PERIOD_US: u64 = 60_000_000;

impl Mark {
    pub(crate) fn as_ms(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }

    /// Rounds to the microsecond; none for what no mark can be.
    pub(crate) fn from_ms(ms: f64) -> Option<Self> {
        let us = (ms * 1_000.0).round();
        // The range check makes the conversion exact.
        (0.0..60_000_000.0).contains(&us).then_some(Self(us as u32))
    }
}

/// The clock that marks are read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(crate) fn mark(self, at: Instant) -> Mark {
        let us = self.us(at) % MARK_PERIOD_US;
        Mark(u32::try_from(us).unwrap_or(0))
    }

    /// How long before `now` the mark was made; at most a minute.
    pub(crate) fn age(self, mark: Mark, now: Instant) -> Duration {
        let now_us = self.us(now) % MARK_PERIOD_US;
        Duration::from_micros((now_us + MARK_PERIOD_US - u64::from(mark.0)) % MARK_PERIOD_US)
    }

    /// Microseconds of the run.
    pub(crate) fn us(self, at: Instant) -> u64 {
        us(at.saturating_duration_since(self.epoch))
    }
}

/// Whole microseconds.
pub(crate) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"type":"event","seq":42,"id":"evt_1","event":"device.online","at":"2026-03-01T12:00:00.000Z","data":{"device_id":"dev_1","current":"online","response_time_ms":1234.567,"cause":"check"}}"#;

    #[test]
    fn type_and_number_are_read_at_the_start() {
        assert_eq!(glance_at_start(EVENT.as_bytes()), Some(Glance { kind: Kind::Event, seq: 42 }));
        assert_eq!(glance(br#"{"type":"ack","seq":7}"#), Ok(Glance { kind: Kind::Ack, seq: 7 }));
        assert_eq!(
            glance(br#"{"type":"resync","reason":"slow_consumer"}"#),
            Ok(Glance { kind: Kind::Resync, seq: 0 })
        );
    }

    #[test]
    fn another_order_of_fields_is_read_too() {
        let frame = br#"{ "seq": 9, "event":"agent.online", "type":"event", "data":{} }"#;
        assert_eq!(glance_at_start(frame), None);
        assert_eq!(glance(frame), Ok(Glance { kind: Kind::Event, seq: 9 }));
    }

    #[test]
    fn a_numbered_frame_without_a_number_is_unreadable() {
        assert_eq!(glance(br#"{"type":"event","data":{"seq":3}}"#), Err(Unreadable));
        assert_eq!(glance(br#"{"type":"ack","seq":"3"}"#), Err(Unreadable));
        assert_eq!(glance(b"[]"), Err(Unreadable));
        let too_long = br#"{"type":"ack","seq":99999999999999999999999}"#;
        assert_eq!(glance(too_long), Err(Unreadable));
    }

    #[test]
    fn a_mark_survives_the_journey_through_json() {
        let clock = Clock::start();
        let at = clock.epoch + Duration::from_micros(61_234_567);
        let mark = clock.mark(at);
        let text = serde_json::to_string(&mark.as_ms()).unwrap();
        assert_eq!(text, "1234.567");
        assert_eq!(mark_in_event(EVENT.as_bytes()), Some(mark));
        assert_eq!(clock.age(mark, at + Duration::from_millis(5)), Duration::from_millis(5));
    }

    #[test]
    fn age_counts_across_the_turn_of_the_minute() {
        let clock = Clock::start();
        let sent = clock.epoch + Duration::from_micros(59_999_000);
        let age = clock.age(clock.mark(sent), sent + Duration::from_millis(3));
        assert_eq!(age, Duration::from_millis(3));
    }

    #[test]
    fn a_webhook_carries_it_too() {
        let body = br#"{"type":"device.online","timestamp":"2026-03-01T12:00:00.000Z","data":{"response_time_ms":2.5}}"#;
        assert_eq!(mark_in_webhook(body), Mark::from_ms(2.5));
        assert_eq!(mark_in_webhook(EVENT.as_bytes()), None);
    }

    #[test]
    fn only_an_online_event_carries_a_mark() {
        let offline = EVENT.replace("device.online", "device.offline");
        assert_eq!(mark_in_event(offline.as_bytes()), None);
        let none = EVENT.replace("1234.567", "null");
        assert_eq!(mark_in_event(none.as_bytes()), None);
    }
}
