//! Spans of wall-clock time that come back, in a time zone.
//!
//! What people write is what their clocks show. When clocks are put forward, a time that does not exist stands for the
//! first one after it; when they are put back, a span begins with the first of two equal times and ends with the second.

use chrono::{
    DateTime, Datelike, Days, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone,
    Utc,
};
use chrono_tz::Tz;
use pulse_protocol::Timestamp;

/// The longest gap a clock was ever put forward by, in minutes: Samoa left out a whole day.
const GAP_MAX_MIN: i64 = 26 * 60;

/// Which of two equal times of the wall clock is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    First,
    Second,
}

/// A span of each day, or of some days of the week.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    pub(crate) zone: Tz,
    /// When it begins.
    pub(crate) from: NaiveTime,
    /// When it ends, `nights` days later.
    pub(crate) to: NaiveTime,
    /// Midnights between its begin and its end.
    pub(crate) nights: u64,
    /// Days on which it begins, 1 for Monday to 7 for Sunday; every day when empty.
    pub(crate) days: Vec<u8>,
}

/// A time zone by its IANA name.
pub(crate) fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// The date and time that the clocks of a zone show; none for instants no calendar has.
pub(crate) fn local(zone: Tz, at: Timestamp) -> Option<NaiveDateTime> {
    let utc = DateTime::<Utc>::from_timestamp_millis(at.unix_ms())?;
    Some(utc.with_timezone(&zone).naive_local())
}

fn instant(zone: Tz, at: NaiveDateTime, of: Of) -> Option<Timestamp> {
    let read = |at: NaiveDateTime| match zone.from_local_datetime(&at) {
        LocalResult::Single(only) => Some(only),
        LocalResult::Ambiguous(first, second) => Some(if of == Of::First { first } else { second }),
        LocalResult::None => None,
    };
    let found = read(at).or_else(|| {
        (1..=GAP_MAX_MIN)
            .find_map(|minutes| read(at.checked_add_signed(Duration::minutes(minutes))?))
    })?;
    Some(Timestamp::from_unix_ms(found.timestamp_millis()))
}

impl Spans {
    fn begins_on(&self, date: NaiveDate) -> bool {
        let day = date.weekday().number_from_monday();
        self.days.is_empty() || self.days.iter().any(|wanted| u32::from(*wanted) == day)
    }

    /// The span that begins on `date`.
    fn on(&self, date: NaiveDate) -> Option<(Timestamp, Timestamp)> {
        let end = date.checked_add_days(Days::new(self.nights))?;
        let from = instant(self.zone, date.and_time(self.from), Of::First)?;
        Some((from, instant(self.zone, end.and_time(self.to), Of::Second)?))
    }

    /// Spans that begin on some days around `at`, in order.
    fn around(
        &self,
        at: Timestamp,
        before: u64,
        after: u64,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let first =
            local(self.zone, at).and_then(|it| it.date().checked_sub_days(Days::new(before)));
        let dates = first.into_iter().flat_map(move |first| {
            (0..=before + after).filter_map(move |day| first.checked_add_days(Days::new(day)))
        });
        dates.filter(|date| self.begins_on(*date)).filter_map(|date| self.on(date))
    }

    /// When the span around `now` ends, if `counts` takes its begin; none outside of any.
    pub(crate) fn open_until(
        &self,
        now: Timestamp,
        counts: impl Fn(Timestamp) -> bool,
    ) -> Option<Timestamp> {
        self.around(now, self.nights + 1, 1)
            .filter(|(from, to)| *from <= now && now < *to && counts(*from))
            .map(|(_, to)| to)
            .max()
    }

    /// When the next span after `now` begins, if `counts` takes its begin.
    pub(crate) fn next_begin(
        &self,
        now: Timestamp,
        counts: impl Fn(Timestamp) -> bool,
    ) -> Option<Timestamp> {
        self.around(now, 1, 8).map(|(from, _)| from).find(|from| *from > now && counts(*from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nightly(days: &[u8]) -> Spans {
        Spans {
            zone: zone("Europe/Berlin").unwrap(),
            from: NaiveTime::from_hms_opt(2, 30, 0).unwrap(),
            to: NaiveTime::from_hms_opt(2, 45, 0).unwrap(),
            nights: 0,
            days: days.to_vec(),
        }
    }

    #[test]
    fn a_time_that_is_left_out_in_spring_is_the_first_after_it() {
        let spans = nightly(&[]);
        let begin = spans.next_begin(at("2026-03-29T00:00:00Z"), |_| true);
        // 02:30 does not exist on this day; clocks go from 02:00 to 03:00 at 01:00 UTC.
        assert_eq!(begin, Some(at("2026-03-29T01:00:00Z")));
    }

    #[test]
    fn a_time_that_comes_twice_in_autumn_is_inside_both_times() {
        let spans = nightly(&[]);
        for inside in ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:44:59Z"] {
            assert_eq!(
                spans.open_until(at(inside), |_| true),
                Some(at("2026-10-25T01:45:00Z")),
                "{inside}"
            );
        }
        assert_eq!(spans.open_until(at("2026-10-25T01:45:00Z"), |_| true), None);
    }

    #[test]
    fn days_are_those_of_its_begin() {
        let mut spans = nightly(&[5]);
        spans.nights = 1;
        // 2026-07-03 is a Friday.
        assert_eq!(
            spans.next_begin(at("2026-07-01T12:00:00Z"), |_| true),
            Some(at("2026-07-03T00:30:00Z"))
        );
        assert!(spans.open_until(at("2026-07-04T00:15:00Z"), |_| true).is_some());
        assert!(spans.open_until(at("2026-07-05T00:15:00Z"), |_| true).is_none());
    }
}
