/** What REST adds to the state: history before the snapshot, and deliveries. */

import type { Delivery, Event } from '../protocol';
import { dropOldest } from './apply';
import { DELIVERIES_MAX, FEED_MAX, type DeliveryRow, type State } from './state';

/** Adds a page of the journal to the feed; what lies behind a hole is left out. */
export function mergeHistory(state: State, events: readonly Event[]): State {
  const bySeq = new Map<number, Event>();
  for (const event of [...events, ...state.feed]) {
    if (state.seq !== null && event.seq <= state.seq) {
      bySeq.set(event.seq, event);
    }
  }
  const newestFirst = [...bySeq.values()].sort((a, b) => b.seq - a.seq);
  const hole = newestFirst.findIndex(
    (event, i) => i > 0 && newestFirst[i - 1]?.seq !== event.seq + 1,
  );
  const whole = hole < 0 ? newestFirst : newestFirst.slice(0, hole);
  return { ...state, feed: whole.slice(0, FEED_MAX) };
}

/**
 * Adds a page of deliveries that was asked for when the state stood at `askedAtSeq`. A row that an event has
 * changed since then is newer than the page.
 */
export function mergeDeliveries(
  state: State,
  page: readonly Delivery[],
  askedAtSeq: number,
): State {
  const deliveries = new Map(state.deliveries);
  for (const delivery of page) {
    const known = deliveries.get(delivery.id);
    if (!known || known.changedBySeq <= askedAtSeq) {
      deliveries.set(delivery.id, deliveryRow(delivery));
    }
  }
  dropOldest(deliveries, DELIVERIES_MAX);
  return { ...state, deliveries };
}

/** A delivery of REST as the panel shows it. */
export function deliveryRow(delivery: Delivery): DeliveryRow {
  const last = delivery.attempts.at(-1);
  return {
    id: delivery.id,
    event: delivery.event,
    channelId: delivery.channel_id,
    state: delivery.state,
    attempts: delivery.attempts.length,
    lastError: last?.error ?? (last?.outcome === 'accepted' ? null : statusText(last?.status)),
    lastAttemptAt: last?.at ?? null,
    nextAttemptAt: delivery.next_attempt_at ?? null,
    changedBySeq: 0,
  };
}

function statusText(status: number | undefined): string | null {
  return status === undefined ? null : `answered ${status}`;
}
