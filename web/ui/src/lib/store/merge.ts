/** What REST adds to the state: history before the snapshot. */

import type { Event } from '../protocol';
import { FEED_MAX, type State } from './state';

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
