/** Wall-clock times of a time zone, and instants. */

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string): Intl.DateTimeFormat {
  let made = formats.get(zone);
  if (!made) {
    made = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
    formats.set(zone, made);
  }
  return made;
}

/** What a clock on the wall shows there, as if it were UTC, in milliseconds. */
function wall(at: number, zone: string): number {
  const parts: Record<string, number> = {};
  for (const { type, value } of format(zone).formatToParts(at)) parts[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

/** Whether the browser knows a time zone of this name. */
export function isZone(zone: string): boolean {
  try {
    format(zone);
    return true;
  } catch {
    return false;
  }
}

/** The instant of `local`, the value of a `datetime-local` input, in `zone`; null when either is none. */
export function toInstant(local: string, zone: string): string | null {
  const wanted = Date.parse(`${local}Z`);
  if (Number.isNaN(wanted) || !isZone(zone)) return null;
  // The zone's offset depends on the instant that is looked for: before and after a change of it both are tried.
  const offsetAt = (at: number) => wall(at, zone) - at;
  const candidates = [wanted - 86_400_000, wanted + 86_400_000].map((at) => wanted - offsetAt(at));
  const fitting = candidates.filter((at) => wall(at, zone) === wanted).sort((a, b) => a - b);
  // A time that is skipped is taken as the clock would have shown it without the change.
  return new Date(fitting[0] ?? candidates[0] ?? wanted).toISOString();
}

/** The value of a `datetime-local` input for an instant, to the minute. */
export function toLocal(instant: string, zone: string): string {
  return new Date(wall(Date.parse(instant), zone)).toISOString().slice(0, 16);
}

/** The browser's own time zone. */
export function ownZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
}

/** All names to choose from. */
export function zones(): readonly string[] {
  const names = Intl.supportedValuesOf('timeZone');
  return names.includes('UTC') ? names : ['UTC', ...names];
}
