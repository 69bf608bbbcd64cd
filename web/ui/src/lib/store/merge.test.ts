import { describe, expect, it } from 'vitest';

import type { Event } from '../protocol';
import { apply } from './apply';
import { AT, LATER, delivery, event, snapshot } from './fixtures';
import { mergeDeliveries, mergeHistory } from './merge';
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

describe('deliveries by REST', () => {
  it('are shown with what their last attempt says', () => {
    const attempts = [{ at: LATER, duration_ms: 5, outcome: 'retry' as const, status: 503 }];
    const state = mergeDeliveries(start(), [delivery('dlv_1', { attempts })], 10);
    expect(state.deliveries.get('dlv_1')).toMatchObject({
      attempts: 1,
      lastError: 'answered 503',
      lastAttemptAt: LATER,
    });
  });

  it('do not undo an event that came while they were asked for', () => {
    const data = {
      delivery_id: 'dlv_1',
      channel_id: 'chn_1',
      event_type: 'x',
      state: 'delivered',
      attempts: 1,
    };
    const live = apply(start(), event(11, 'delivery.delivered', data));
    expect(mergeDeliveries(live, [delivery('dlv_1')], 10).deliveries.get('dlv_1')?.state).toBe(
      'delivered',
    );
    expect(mergeDeliveries(live, [delivery('dlv_1')], 11).deliveries.get('dlv_1')?.state).toBe(
      'queued',
    );
  });
});
