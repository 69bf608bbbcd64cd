/** The lists of alerts. */

import type { Alert, AlertState, Event } from '../protocol';

/** States in which something is wrong, the worst first. */
export const OPEN: readonly AlertState[] = ['firing', 'flapping', 'pending'];

const TOLD_BY = /^(agent|device|scan|delivery|alert|maintenance|command)\./;

/** Whether these events may have changed an alert. Heartbeats and the like are no events. */
export function concernsAlerts(events: readonly Event[]): boolean {
  return events.some((event) => TOLD_BY.test(event.event));
}

/** Those that began last first. */
export function newestFirst(alerts: readonly Alert[]): Alert[] {
  return [...alerts].sort((a, b) => (a.since < b.since ? 1 : -1));
}

/** Those that nobody acknowledged first, then by state, then the newest first. */
export function sortOpen(alerts: readonly Alert[]): Alert[] {
  const rank = (alert: Alert) =>
    (alert.acknowledged_at === undefined ? 0 : OPEN.length) + OPEN.indexOf(alert.state);
  return newestFirst(alerts).sort((a, b) => rank(a) - rank(b));
}
