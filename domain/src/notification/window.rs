//! Maintenance windows: what happens in one is not told, and told after it if it is still so.

use chrono::NaiveDate;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Filters, MaintenanceWindow, Recurrence};
use pulse_protocol::ids::WindowId;
use serde::{Deserialize, Serialize};

use super::wall::{Spans, local, zone};

/// A maintenance window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRecord {
    /// The window.
    pub id: WindowId,
    /// What it is about, and when.
    pub settings: WindowSettings,
    /// When it opens or closes next, as far as was journalled; none when it is over.
    pub next_change_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a maintenance window is about, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSettings {
    /// Its name.
    pub name: String,
    /// What it is about; the whole org when empty.
    pub filters: Filters,
    /// When it opens, the first time.
    pub starts_at: Timestamp,
    /// When it closes, the first time.
    pub ends_at: Timestamp,
    /// In which time zone it comes back.
    pub timezone: String,
    /// How often it comes back.
    pub recurrence: Option<Recurrence>,
    /// Days of the week on which a weekly one opens.
    pub days: Vec<u8>,
    /// When it comes back for the last time.
    pub until: Option<Timestamp>,
    /// Whether its opening was journalled, and its closing not yet.
    #[serde(default)]
    pub is_open: bool,
}

impl WindowSettings {
    fn spans(&self) -> Option<Spans> {
        let zone = zone(&self.timezone)?;
        let (from, mut to) = (local(zone, self.starts_at)?, local(zone, self.ends_at)?);
        if to <= from {
            // The first time clocks are put back in it, which they are not every day.
            let lasts = self.ends_at.duration_since(self.starts_at);
            to = from.checked_add_signed(chrono::Duration::from_std(lasts).ok()?)?;
        }
        let nights = nights_between(from.date(), to.date());
        let days = match self.recurrence? {
            Recurrence::Daily => Vec::new(),
            Recurrence::Weekly => self.days.clone(),
        };
        Some(Spans { zone, from: from.time(), to: to.time(), nights, days })
    }

    fn counts(&self, begin: Timestamp) -> bool {
        begin >= self.starts_at && self.until.is_none_or(|until| begin <= until)
    }

    /// When it closes, if it is open at `now`.
    #[must_use]
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let first = (self.starts_at <= now && now < self.ends_at).then_some(self.ends_at);
        let again = self.spans().and_then(|it| it.open_until(now, |begin| self.counts(begin)));
        first.max(again)
    }

    /// When it opens or closes next; none when it is over.
    #[must_use]
    pub fn next_change_at(&self, now: Timestamp) -> Option<Timestamp> {
        if let Some(until) = self.open_until(now) {
            return Some(until);
        }
        if now < self.starts_at {
            return Some(self.starts_at);
        }
        self.spans()?.next_begin(now, |begin| self.counts(begin))
    }
}

fn nights_between(from: NaiveDate, to: NaiveDate) -> u64 {
    u64::try_from(to.signed_duration_since(from).num_days()).unwrap_or(0)
}

impl WindowRecord {
    /// The window as it is shown at `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> MaintenanceWindow {
        let settings = &self.settings;
        MaintenanceWindow {
            id: self.id,
            name: settings.name.clone(),
            filters: settings.filters.clone(),
            starts_at: settings.starts_at,
            ends_at: settings.ends_at,
            timezone: settings.timezone.clone(),
            recurrence: settings.recurrence,
            days: settings.days.clone(),
            until: settings.until,
            open: settings.open_until(now).is_some(),
            next_change_at: settings.next_change_at(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(recurrence: Option<Recurrence>, days: &[u8], until: Option<&str>) -> WindowSettings {
        WindowSettings {
            name: "patches".to_owned(),
            filters: Filters::default(),
            starts_at: at("2026-03-24T22:00:00Z"),
            ends_at: at("2026-03-25T01:00:00Z"),
            timezone: "Europe/Berlin".to_owned(),
            recurrence,
            days: days.to_vec(),
            until: until.map(at),
            is_open: false,
        }
    }

    /// Opening and closing times from `now` on.
    fn changes(window: &WindowSettings, now: &str, count: usize) -> Vec<String> {
        let next = |now: &Timestamp| window.next_change_at(*now);
        let first = next(&at(now));
        std::iter::successors(first, next).take(count).map(|at| at.to_string()).collect()
    }

    #[test]
    fn once_is_once() {
        let window = window(None, &[], None);
        let expected = ["2026-03-24T22:00:00.000Z", "2026-03-25T01:00:00.000Z"];
        assert_eq!(changes(&window, "2026-01-01T00:00:00Z", 5), expected);
        assert!(window.open_until(at("2026-03-24T22:00:00Z")).is_some());
        assert!(window.open_until(at("2026-03-25T01:00:00Z")).is_none());
    }

    #[test]
    fn a_daily_one_keeps_to_the_wall_clock_when_clocks_change() {
        // 23:00 to 02:00 in Berlin; summer time begins on the night of the 28th.
        let window = window(Some(Recurrence::Daily), &[], None);
        let expected = [
            "2026-03-28T22:00:00.000Z",
            "2026-03-29T01:00:00.000Z",
            "2026-03-29T21:00:00.000Z",
            "2026-03-30T00:00:00.000Z",
        ];
        assert_eq!(changes(&window, "2026-03-28T12:00:00Z", 4), expected);
    }

    #[test]
    fn a_weekly_one_opens_on_its_days_until_it_is_over() {
        // Tuesday and Thursday; the 31st is a Tuesday.
        let window = window(Some(Recurrence::Weekly), &[2, 4], Some("2026-03-31T21:00:00Z"));
        let expected = [
            "2026-03-24T22:00:00.000Z",
            "2026-03-25T01:00:00.000Z",
            "2026-03-26T22:00:00.000Z",
            "2026-03-27T01:00:00.000Z",
            "2026-03-31T21:00:00.000Z",
            "2026-04-01T00:00:00.000Z",
        ];
        assert_eq!(changes(&window, "2026-03-01T00:00:00Z", 9), expected);
    }

    proptest! {
        /// Whatever the zone and whenever one looks: the next change lies ahead, and what is open closes.
        #[test]
        fn changes_lie_ahead(
            starts in 1_500_000_000_i64..2_000_000_000,
            lasts_min in 1_i64..1_440,
            how in 0..3_usize,
            days in prop::collection::vec(1..=7_u8, 1..4),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu",
                "Pacific/Apia", "Africa/Casablanca", "America/Santiago",
            ]),
            ahead in 0_i64..400 * 86_400,
        ) {
            let window = WindowSettings {
                starts_at: Timestamp::from_unix_ms(starts * 1_000),
                ends_at: Timestamp::from_unix_ms((starts + lasts_min * 60) * 1_000),
                timezone: zone.to_owned(),
                ..window([None, Some(Recurrence::Daily), Some(Recurrence::Weekly)][how], &days, None)
            };
            let mut now = Timestamp::from_unix_ms((starts + ahead) * 1_000);
            for _ in 0..20 {
                let open = window.open_until(now);
                prop_assert!(open.is_none_or(|until| until > now));
                let Some(next) = window.next_change_at(now) else {
                    prop_assert!(how == 0 && open.is_none());
                    break;
                };
                prop_assert!(next > now, "{next} is not after {now}");
                prop_assert!(open.is_some() || window.open_until(next).is_some(), "it opens");
                now = next;
            }
        }
    }
}
