//! Maintenance windows as people set them up, and as they open and close.

use std::time::Duration;

use pulse_protocol::api::{MaintenanceWindowPatch, NewMaintenanceWindow, Recurrence};
use pulse_protocol::event::{EventBody, MaintenanceChanged};
use pulse_protocol::ids::{AlertId, WindowId};
use pulse_protocol::problem::FieldError;

use super::Org;
use super::requests::{CHANNELS_MAX, Faults, not_found};
use super::rules::{days_of_week, time_zone};
use super::step::Step;
use crate::notification::rule::Worth;
use crate::record::{WindowRecord, WindowSettings, Write};
use crate::request::{Refusal, Reply};

const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// A daily one must have closed before it opens again.
const LONGEST_DAILY: Duration = Duration::from_secs(86_400);

impl Step<'_> {
    pub(super) fn add_window(
        &mut self,
        window_id: WindowId,
        new: NewMaintenanceWindow,
    ) -> Result<Reply, Refusal> {
        let settings = WindowSettings {
            name: new.name,
            filters: new.filters.unwrap_or_default(),
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            timezone: new.timezone.unwrap_or_else(|| "UTC".to_owned()),
            recurrence: new.recurrence,
            days: new.days,
            until: new.until,
            is_open: false,
        };
        let mut faults = Faults::default();
        let settings = self.org.window(settings, true, &mut faults);
        faults.finish()?;
        let current = self.org.windows.len();
        if current >= CHANNELS_MAX {
            let (limit, current) = (CHANNELS_MAX as u64, current as u64);
            let what = "maintenance windows".into();
            return Err(Refusal::LimitReached { what, limit, current });
        }
        let created_at = self.now;
        let record = WindowRecord { id: window_id, settings, next_change_at: None, created_at };
        Ok(self.window_changed(record, "maintenance_window_created"))
    }

    pub(super) fn patch_window(
        &mut self,
        window_id: WindowId,
        patch: MaintenanceWindowPatch,
    ) -> Result<Reply, Refusal> {
        let record = self.org.windows.get(&window_id).cloned();
        let mut record = record.ok_or_else(not_found("maintenance window"))?;
        let mut settings = record.settings;
        let has_new_filters = patch.filters.is_some();
        settings.name = patch.name.unwrap_or(settings.name);
        settings.filters = patch.filters.unwrap_or(settings.filters);
        settings.starts_at = patch.starts_at.unwrap_or(settings.starts_at);
        settings.ends_at = patch.ends_at.unwrap_or(settings.ends_at);
        settings.timezone = patch.timezone.unwrap_or(settings.timezone);
        settings.recurrence = patch.recurrence.unwrap_or(settings.recurrence);
        settings.days = patch.days.unwrap_or(settings.days);
        settings.until = patch.until.unwrap_or(settings.until);
        let mut faults = Faults::default();
        record.settings = self.org.window(settings, has_new_filters, &mut faults);
        faults.finish()?;
        let reply = self.window_changed(record, "maintenance_window_updated");
        self.revise_all();
        Ok(reply)
    }

    fn window_changed(&mut self, record: WindowRecord, changed: &str) -> Reply {
        let window_id = record.id;
        self.org.windows.insert(window_id, record);
        self.org_changed(changed, Some(window_id.to_string()));
        self.turn_window(window_id);
        let record = self.org.windows.get(&window_id);
        record.map_or(Reply::Removed, |record| Reply::Window(Box::new(record.view(self.now))))
    }

    pub(super) fn remove_window(&mut self, window_id: WindowId) -> Result<Reply, Refusal> {
        let record = self.org.windows.remove(&window_id);
        let record = record.ok_or_else(not_found("maintenance window"))?;
        if record.settings.is_open {
            self.window_turned(&record);
        }
        self.org_changed("maintenance_window_removed", Some(window_id.to_string()));
        self.write(Write::WindowRemoved(window_id));
        self.revise_all();
        Ok(Reply::Removed)
    }

    /// Alerts that wait may wait for a window that is another one now.
    fn revise_all(&mut self) {
        let rows = self.org.board.rows().values();
        let waiting: Vec<AlertId> =
            rows.filter(|row| row.due_at.is_some()).map(|row| row.id).collect();
        self.revise(&waiting);
    }

    /// Opens and closes the windows whose time has come.
    pub(super) fn turn_windows(&mut self) {
        let due = |window: &&WindowRecord| window.next_change_at.is_some_and(|at| at <= self.now);
        let due: Vec<WindowId> = self.org.windows.values().filter(due).map(|it| it.id).collect();
        for window_id in due {
            self.turn_window(window_id);
        }
    }

    fn turn_window(&mut self, window_id: WindowId) {
        let now = self.now;
        let Some(window) = self.org.windows.get_mut(&window_id) else { return };
        let is_open = window.settings.open_until(now).is_some();
        let was_open = std::mem::replace(&mut window.settings.is_open, is_open);
        window.next_change_at = window.settings.next_change_at(now);
        let record = window.clone();
        self.write(Write::Window(record.clone()));
        if was_open != is_open {
            let settings = WindowSettings { is_open: was_open, ..record.settings };
            self.window_turned(&WindowRecord { settings, ..record });
        }
    }

    /// Journals that a window, as it was before, opened or closed.
    fn window_turned(&mut self, before: &WindowRecord) {
        let was_open = before.settings.is_open;
        let ends_at = before.settings.open_until(self.now).filter(|_| !was_open);
        let data = MaintenanceChanged {
            window_id: before.id,
            name: before.settings.name.clone(),
            ends_at,
        };
        let body = match was_open {
            false => EventBody::MaintenanceStarted(data),
            true => EventBody::MaintenanceEnded(data),
        };
        self.journal(&body, Worth::Alert);
    }
}

impl Org {
    /// The window as it is kept, with every fault of what is asked for.
    fn window(
        &self,
        mut settings: WindowSettings,
        has_new_filters: bool,
        faults: &mut Faults,
    ) -> WindowSettings {
        settings.name = faults.name("name", &settings.name);
        if has_new_filters {
            settings.filters = self.filters(settings.filters, faults);
        }
        time_zone("timezone", &settings.timezone, faults);
        let lasts = settings.ends_at.duration_since(settings.starts_at);
        if lasts < SHORTEST || lasts > LONGEST {
            let message = "at least a minute and at most 7 days after starts_at";
            faults.push(FieldError::new("ends_at", "out_of_range", message));
        } else if settings.recurrence == Some(Recurrence::Daily) && lasts > LONGEST_DAILY {
            let message = "at most a day after starts_at, for a window of every day";
            faults.push(FieldError::new("ends_at", "out_of_range", message));
        }
        settings.days = days_of_week("days", &settings.days, faults);
        match settings.recurrence {
            Some(Recurrence::Weekly) if settings.days.is_empty() => {
                let message = "name at least one day of the week for a weekly window";
                faults.push(FieldError::new("days", "required", message));
            }
            Some(Recurrence::Weekly) => {}
            Some(Recurrence::Daily) | None => settings.days.clear(),
        }
        if settings.until.is_some_and(|until| until < settings.starts_at) {
            faults.push(FieldError::new("until", "out_of_range", "not before starts_at"));
        }
        settings
    }
}
