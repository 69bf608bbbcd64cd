/** The list of deliveries: what is asked for, and how events change what is shown. */

import type { Attempt, Delivery, DeliveryChanged, DeliveryState, Event } from '../protocol';
import { DELIVERY_STATES } from './words';

/** What is looked for; empty text is no condition. */
export interface DeliveryQuery {
  readonly state: DeliveryState | '';
  /** Ids. */
  readonly channel: string;
  readonly rule: string;
  readonly resource: string;
  /** Name of an event. */
  readonly event: string;
  /** Instants. */
  readonly from: string;
  readonly to: string;
  /** Free text. */
  readonly q: string;
}

export const ANY: DeliveryQuery = {
  state: '',
  channel: '',
  rule: '',
  resource: '',
  event: '',
  from: '',
  to: '',
  q: '',
};

const KEYS = Object.keys(ANY) as readonly (keyof DeliveryQuery)[];

/** From the query of an address; what is no state there is no condition. */
export function parseQuery(search: string): DeliveryQuery {
  const params = new URLSearchParams(search);
  const query: Record<string, string> = {};
  for (const key of KEYS) query[key] = params.get(key) ?? '';
  const state = DELIVERY_STATES.find((each) => each === query['state']) ?? '';
  return { ...ANY, ...query, state };
}

/** The query of an address, or of a request; begins with `?` unless empty. */
export function queryText(
  query: DeliveryQuery,
  page: Readonly<Record<string, string | null>> = {},
): string {
  const params = new URLSearchParams();
  for (const key of KEYS) if (query[key].trim() !== '') params.set(key, query[key].trim());
  for (const [key, value] of Object.entries(page)) if (value !== null) params.set(key, value);
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

/** What of a query a replay of many understands; null when it asks for more than that. */
export function replayBody(query: DeliveryQuery): Record<string, string> | null {
  if (query.rule !== '' || query.resource !== '' || query.q.trim() !== '') return null;
  const { channel, event, from, to } = query;
  const conditions = Object.entries({ channel, event, from, to }).filter(([, text]) => text !== '');
  return { state: 'dead', ...Object.fromEntries(conditions) };
}

/** A delivery in the list. */
export interface DeliveryRow extends Delivery {
  /** Attempts made; more than `attempts` holds while those of events were not asked for yet. */
  readonly tries: number;
  readonly lastAttemptAt: string | null;
  readonly error: string | null;
  /** Number of the event that last changed it here; 0 if none did. */
  readonly changedBySeq: number;
}

export function deliveryRow(delivery: Delivery): DeliveryRow {
  const last = delivery.attempts.at(-1);
  return {
    ...delivery,
    tries: delivery.attempts.length,
    lastAttemptAt: last?.at ?? null,
    error: last ? attemptError(last) : null,
    changedBySeq: 0,
  };
}

/** Why an attempt was not accepted; null when it was. */
export function attemptError(attempt: Attempt): string | null {
  if (attempt.outcome === 'accepted') return null;
  return attempt.error ?? (attempt.status === undefined ? null : `answered ${attempt.status}`);
}

/** What events make of the rows. */
export interface Patched {
  readonly rows: readonly DeliveryRow[];
  /** Deliveries were told of that are not in the rows; they may belong there. */
  readonly unknown: boolean;
}

/**
 * Takes events, oldest first. A row that no longer is in the state that is looked for leaves, unless it is `open`:
 * nobody loses what they are reading.
 */
export function patchRows(
  rows: readonly DeliveryRow[],
  events: readonly Event[],
  state: DeliveryState | '',
  open: string | null,
): Patched {
  const byId = new Map(rows.map((row) => [row.id, row]));
  let [changed, unknown] = [false, false];
  for (const event of events) {
    if (!event.event.startsWith('delivery.')) continue;
    const change = event.data as unknown as DeliveryChanged;
    const row = byId.get(change.delivery_id);
    if (!row) {
      unknown ||= state === '' || change.state === state;
      continue;
    }
    changed = true;
    const next = patchRow(row, change, event);
    if (state !== '' && next.state !== state && next.id !== open) byId.delete(row.id);
    else byId.set(row.id, next);
  }
  return { rows: changed ? [...byId.values()] : rows, unknown };
}

function patchRow(row: DeliveryRow, change: DeliveryChanged, event: Event): DeliveryRow {
  const tried = change.attempts > row.tries || change.error !== undefined;
  const next: DeliveryRow = {
    ...row,
    state: change.state,
    tries: Math.max(row.tries, change.attempts),
    lastAttemptAt: tried ? event.at : row.lastAttemptAt,
    error: change.error ?? (change.state === 'delivered' ? null : row.error),
    changedBySeq: event.seq,
  };
  // Both are over when the change does not name them.
  delete next.next_attempt_at;
  delete next.suppressed_by;
  if (change.next_attempt_at !== undefined) next.next_attempt_at = change.next_attempt_at;
  if (change.suppressed_by !== undefined) next.suppressed_by = change.suppressed_by;
  return next;
}

/**
 * Puts the newest page before the rows that follow it. A row that an event has changed since the page was asked
 * for, when the state stood at `askedAtSeq`, is newer than the page.
 */
export function mergeNewest(
  rows: readonly DeliveryRow[],
  page: readonly Delivery[],
  askedAtSeq: number,
  isWhole: boolean,
): DeliveryRow[] {
  const known = new Map(rows.map((row) => [row.id, row]));
  const oldest = page.at(-1)?.id;
  const newest = page.map((delivery) => newer(known.get(delivery.id), delivery, askedAtSeq));
  if (isWhole || oldest === undefined) return newest;
  return [...newest, ...rows.filter((row) => row.id < oldest)];
}

/** Adds the page that follows the rows. */
export function mergeOlder(rows: readonly DeliveryRow[], page: readonly Delivery[]): DeliveryRow[] {
  const known = new Set(rows.map((row) => row.id));
  return [...rows, ...page.filter((delivery) => !known.has(delivery.id)).map(deliveryRow)];
}

/** One delivery as it was asked for when the state stood at `askedAtSeq`. */
export function mergeOne(
  rows: readonly DeliveryRow[],
  delivery: Delivery,
  askedAtSeq: number,
): DeliveryRow[] {
  return rows.map((row) => (row.id === delivery.id ? newer(row, delivery, askedAtSeq) : row));
}

function newer(row: DeliveryRow | undefined, told: Delivery, askedAtSeq: number): DeliveryRow {
  // Its attempts are known better now in any case.
  return row && row.changedBySeq > askedAtSeq
    ? { ...row, attempts: told.attempts }
    : deliveryRow(told);
}
