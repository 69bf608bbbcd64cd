/** Waits between attempts, as people write them: `30 s, 5 min, 2 h`. */

const UNITS: ReadonlyMap<string, number> = new Map([
  ['s', 1],
  ['m', 60],
  ['min', 60],
  ['h', 3600],
  ['d', 86_400],
]);

/** A list of waits that cannot be read. */
export class ScheduleError extends Error {}

/** Seconds of each wait; empty for empty text. A number without a unit is seconds. */
export function parseSchedule(text: string): number[] {
  const waits = text.split(/[,;\n]/).map((wait) => wait.trim());
  return waits.filter(Boolean).map((wait) => {
    const [, amount, unit] = /^(\d+)\s*([a-z]*)$/i.exec(wait) ?? [];
    const factor = UNITS.get((unit || 's').toLowerCase());
    if (amount === undefined || factor === undefined) {
      throw new ScheduleError(`“${wait}” is no wait such as 30 s, 5 min or 2 h.`);
    }
    return Number(amount) * factor;
  });
}

export function formatSchedule(seconds: readonly number[]): string {
  return seconds.map(formatSeconds).join(', ');
}

/** In the largest unit that leaves nothing over: `90 s`, `5 min`, `2 h`. */
export function formatSeconds(seconds: number): string {
  const { amount, unit } = inUnit(seconds);
  return `${amount} ${unit}`;
}

export type Unit = 's' | 'min' | 'h';

export function inUnit(seconds: number): { amount: number; unit: Unit } {
  if (seconds > 0 && seconds % 3600 === 0) return { amount: seconds / 3600, unit: 'h' };
  if (seconds > 0 && seconds % 60 === 0) return { amount: seconds / 60, unit: 'min' };
  return { amount: seconds, unit: 's' };
}

export function toSeconds(amount: number, unit: Unit): number {
  return Math.round(amount * (UNITS.get(unit) ?? 1));
}
