/** Numbers and times as people read them. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A length of time in its largest unit, or its two largest where that matters: `42 s`, `3 h 05 min`. */
export function duration(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < MINUTE) return `${s} s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)} min`;
  if (s < DAY) {
    const minutes = Math.floor((s % HOUR) / MINUTE);
    return `${Math.floor(s / HOUR)} h ${String(minutes).padStart(2, '0')} min`;
  }
  return `${Math.floor(s / DAY)} d ${Math.floor((s % DAY) / HOUR)} h`;
}

/** How long it is since `at`. */
export function since(at: string, now: number): string {
  return duration(now - Date.parse(at));
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long' });
const day = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

/** Time of day. */
export function timeOfDay(at: string): string {
  return clock.format(new Date(at));
}

/** The day, for times that are not of today; empty for those that are. */
export function otherDay(at: string, now: number): string {
  const [then, today] = [new Date(at), new Date(now)];
  return then.toDateString() === today.toDateString() ? '' : day.format(then);
}

/** The whole instant, for a tooltip. */
export function instant(at: string): string {
  return full.format(new Date(at));
}

/** A response time with a steady number of digits. */
export function responseTime(ms: number | null): string {
  if (ms === null) return '–';
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 10_000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

const whole = new Intl.NumberFormat('en');

/** A count with its thousands apart. */
export function count(n: number): string {
  return whole.format(n);
}
