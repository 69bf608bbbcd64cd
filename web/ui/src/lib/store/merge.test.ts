import { describe, expect, it } from 'vitest';

import type { Event } from '../protocol';
import { apply } from './apply';
import { AT, event, snapshot } from './fixtures';
import { mergeHistory } from './merge';
import { emptyState } from './state';

const start = () => apply(emptyState(), snapshot(10));
const past = (seq: number): Event => ({ seq, id: `evt_${seq}`, event: 'x', at: AT, data: {} });

describe('history', () => {
  it('comes behind what was seen live, each event once', () => {
    const live = apply(start(), event(11, 'x', {}));
    const state = mergeHistory(live, [8, 9, 10, 11].map(past));
    expect(state.feed.map((each) => each.seq)).toEqual([11, 10, 9, 8]);
  });

  it('leaves out what lies behind a hole, and what the state has not reached', () => {
    const state = mergeHistory(start(), [5, 6, 9, 10, 12].map(past));
    expect(state.feed.map((each) => each.seq)).toEqual([10, 9]);
  });
});
