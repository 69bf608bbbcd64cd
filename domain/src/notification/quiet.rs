//! Quiet hours of a rule.

use chrono::NaiveTime;
use pulse_protocol::Timestamp;
use pulse_protocol::api::QuietHours;

use super::wall::{Spans, zone};

/// A time of day as `HH:MM`.
pub(crate) fn time_of_day(text: &str) -> Option<NaiveTime> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

fn spans(hours: &QuietHours) -> Option<Spans> {
    let (from, to) = (time_of_day(&hours.from)?, time_of_day(&hours.to)?);
    let nights = u64::from(to <= from);
    Some(Spans { zone: zone(&hours.timezone)?, from, to, nights, days: hours.days.clone() })
}

/// When the quiet hours around `now` end; none outside of them.
#[must_use]
pub fn quiet_until(hours: &QuietHours, now: Timestamp) -> Option<Timestamp> {
    spans(hours)?.open_until(now, |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str, days: &[u8]) -> QuietHours {
        let timezone = "America/New_York".to_owned();
        QuietHours { from: from.to_owned(), to: to.to_owned(), timezone, days: days.to_vec() }
    }

    fn until(hours: &QuietHours, now: &str) -> Option<String> {
        quiet_until(hours, now.parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn they_last_over_midnight_by_the_clocks_of_their_zone() {
        let night = hours("22:00", "06:00", &[]);
        assert_eq!(
            until(&night, "2026-01-10T03:00:00Z").as_deref(),
            Some("2026-01-10T11:00:00.000Z")
        );
        assert_eq!(
            until(&night, "2026-07-10T02:00:00Z").as_deref(),
            Some("2026-07-10T10:00:00.000Z")
        );
        assert_eq!(until(&night, "2026-07-10T10:00:00Z"), None);
        assert_eq!(until(&night, "2026-07-10T20:00:00Z"), None);
    }

    #[test]
    fn the_night_in_which_clocks_change_is_an_hour_shorter_or_longer() {
        let night = hours("22:00", "06:00", &[]);
        assert_eq!(
            until(&night, "2026-03-08T05:00:00Z").as_deref(),
            Some("2026-03-08T10:00:00.000Z")
        );
        assert_eq!(
            until(&night, "2026-11-01T05:00:00Z").as_deref(),
            Some("2026-11-01T11:00:00.000Z")
        );
    }

    #[test]
    fn equal_times_are_a_whole_day_that_begins_on_its_day() {
        // 2026-07-11 is a Saturday.
        let saturday = hours("00:00", "00:00", &[6]);
        assert!(until(&saturday, "2026-07-11T04:00:00Z").is_some());
        assert!(until(&saturday, "2026-07-12T03:59:00Z").is_some());
        assert!(until(&saturday, "2026-07-12T04:00:00Z").is_none());
    }

    #[test]
    fn a_time_of_day_has_two_digits_each() {
        for bad in ["", "24:00", "7:00", "07:60", "07:0", "0700", "+7:00", "07:00:00"] {
            assert_eq!(time_of_day(bad), None, "{bad}");
        }
        assert!(time_of_day("23:59").is_some());
    }
}
