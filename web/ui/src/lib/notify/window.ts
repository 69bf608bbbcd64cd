/** From a maintenance window's form to the body of a request and back. */

import type { Filters, MaintenanceWindow, Recurrence } from '../protocol';
import { withoutEmpty } from './rule';
import { daysText, type Mark } from './words';
import { ownZone, toInstant, toLocal } from './zone';

/** Times are those of a clock on a wall in `timezone`. */
export interface WindowForm {
  name: string;
  filters: Filters;
  startsAt: string;
  endsAt: string;
  timezone: string;
  recurrence: Recurrence | 'none';
  days: number[];
  /** Empty for ever. */
  until: string;
}

const HOUR_MS = 3_600_000;

/** From the next whole hour on, for one hour. */
export function emptyWindow(now: number, timezone = ownZone()): WindowForm {
  const start = Math.ceil(now / HOUR_MS) * HOUR_MS;
  return {
    name: '',
    filters: {},
    startsAt: toLocal(new Date(start).toISOString(), timezone),
    endsAt: toLocal(new Date(start + HOUR_MS).toISOString(), timezone),
    timezone,
    recurrence: 'none',
    days: [],
    until: '',
  };
}

export function windowForm(window: MaintenanceWindow): WindowForm {
  const { timezone } = window;
  return {
    name: window.name,
    filters: window.filters,
    startsAt: toLocal(window.starts_at, timezone),
    endsAt: toLocal(window.ends_at, timezone),
    timezone,
    recurrence: window.recurrence ?? 'none',
    days: window.days ?? [],
    until: window.until === undefined ? '' : toLocal(window.until, timezone),
  };
}

/** The whole window; what cannot be read is sent as empty text, so that the hub names the field. */
export function windowBody(form: WindowForm): Record<string, unknown> {
  const instant = (local: string) => toInstant(local, form.timezone) ?? '';
  const recurs = form.recurrence !== 'none';
  return {
    name: form.name.trim(),
    filters: withoutEmpty(form.filters),
    starts_at: instant(form.startsAt),
    ends_at: instant(form.endsAt),
    timezone: form.timezone,
    recurrence: recurs ? form.recurrence : null,
    days: form.recurrence === 'weekly' ? form.days : [],
    until: recurs && form.until !== '' ? instant(form.until) : null,
  };
}

/** What can be told without the hub, by field; empty when nothing is wrong. */
export function windowFaults(form: WindowForm): Record<string, string> {
  const faults: Record<string, string> = {};
  const { timezone } = form;
  const [start, end] = [toInstant(form.startsAt, timezone), toInstant(form.endsAt, timezone)];
  if (toInstant('2000-01-01T00:00', timezone) === null) {
    faults['timezone'] = 'Choose a time zone such as Europe/Berlin.';
    return faults;
  }
  if (start === null) faults['starts_at'] = 'Say when it begins.';
  if (end === null) faults['ends_at'] = 'Say when it ends.';
  if (start !== null && end !== null && end <= start) {
    faults['ends_at'] = 'It must end after it begins.';
  }
  if (form.recurrence === 'weekly' && form.days.length === 0) {
    faults['days'] = 'Choose at least one day.';
  }
  return faults;
}

/** Whether it is open, to come, or over. */
export function windowMark(window: MaintenanceWindow): Mark {
  if (window.open) return { text: 'Open', icon: 'degraded', tone: 'warn' };
  if (window.next_change_at !== undefined) {
    return { text: 'Planned', icon: 'lingering', tone: 'quiet' };
  }
  return { text: 'Over', icon: 'disabled', tone: 'quiet' };
}

/** Open ones first, then what changes soonest, then what is over. */
export function sortWindows(windows: readonly MaintenanceWindow[]): MaintenanceWindow[] {
  const key = ({ open, next_change_at }: MaintenanceWindow) =>
    `${open ? 0 : 1}${next_change_at ?? '~'}`;
  return [...windows].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** When it is, in its own time zone. */
export function recurrenceText(window: MaintenanceWindow): string {
  const { starts_at, ends_at, timezone, recurrence, days = [], until } = window;
  const [start, end] = [toLocal(starts_at, timezone), toLocal(ends_at, timezone)];
  const [startDay, startTime] = parts(start);
  const [endDay, endTime] = parts(end);
  if (recurrence === undefined) {
    const to = startDay === endDay ? endTime : `${endDay} ${endTime}`;
    return `${startDay} ${startTime} to ${to} ${timezone}`;
  }
  const on = recurrence === 'weekly' ? daysText(days) : 'every day';
  const last = until === undefined ? '' : `, until ${parts(toLocal(until, timezone))[0]}`;
  return `${on} ${startTime} to ${endTime} ${timezone}${last}`;
}

function parts(local: string): [day: string, time: string] {
  return [local.slice(0, 10), local.slice(11)];
}
