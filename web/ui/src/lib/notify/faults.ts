/** What is wrong with a form, by field. */

import { ApiError } from '../api';

export type Faults = Readonly<Record<string, string>>;

/** Where a fault that belongs to no field of the form is told. */
export const WHOLE = '';

/**
 * The faults of a refused request at the fields of a form: `config.headers.X-A` is shown at `config.headers`, and
 * `event_types[2]` at `event_types`, when these are what the form has.
 */
export function faultsOf(error: unknown, fields: readonly string[]): Faults {
  if (!(error instanceof ApiError)) throw error;
  if (error.errors.length === 0) return { [WHOLE]: error.message };
  const faults: Record<string, string> = {};
  for (const { field, message } of error.errors) {
    const home = homeOf(field, fields);
    const text = home === field ? message : `${rest(field, home)} ${message}`.trim();
    faults[home] = faults[home] ? `${faults[home]}; ${text}` : text;
  }
  return faults;
}

function homeOf(field: string, fields: readonly string[]): string {
  const fitting = fields.filter(
    (name) => field === name || field.startsWith(`${name}.`) || field.startsWith(`${name}[`),
  );
  return fitting.sort((a, b) => b.length - a.length)[0] ?? WHOLE;
}

/** What is left of the field's path: a header's name, or the place in a list counted from 1. */
function rest(field: string, home: string): string {
  const left = field.slice(home.length).replace(/^\./, '');
  const [, index] = /^\[(\d+)\]$/.exec(left) ?? [];
  return index === undefined ? `${left}:` : `number ${Number(index) + 1}:`;
}
