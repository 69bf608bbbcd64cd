import { describe, expect, it } from 'vitest';

import type { Event } from '../protocol';
import { AT, LATER, delivery } from '../store/fixtures';
import {
  ANY,
  deliveryRow,
  mergeNewest,
  mergeOlder,
  mergeOne,
  parseQuery,
  patchRows,
  queryText,
  replayBody,
} from './deliveries';

function told(seq: number, id: string, state: string, more: Record<string, unknown> = {}): Event {
  const data = {
    delivery_id: id,
    name: 'pager',
    channel_id: 'chn_1',
    rule_id: 'rul_1',
    event_id: 'evt_1',
    event_type: 'agent.offline',
    resource_name: 'office',
    reason: 'alert',
    state,
    attempts: 1,
    ...more,
  };
  return { seq, id: `evt_${seq}`, event: `delivery.${state}`, at: LATER, data };
}

const rows = (...ids: string[]) => ids.map((id) => deliveryRow(delivery(id)));
const ids = (list: readonly { id: string }[]) => list.map((each) => each.id);

describe('what is looked for', () => {
  it('is kept in the address and asked of the hub', () => {
    const query = { ...ANY, state: 'dead', channel: 'chn_1', q: ' nas 1 ' } as const;
    expect(queryText(query)).toBe('?state=dead&channel=chn_1&q=nas+1');
    expect(parseQuery(queryText(query))).toEqual({ ...query, q: 'nas 1' });
    expect(queryText(ANY)).toBe('');
    expect(queryText(ANY, { limit: '50', cursor: null })).toBe('?limit=50');
    const from = '2026-03-01T12:00:00.000Z';
    expect(parseQuery(queryText({ ...ANY, from }))).toEqual({ ...ANY, from });
  });

  it('leaves out a state that is none', () => {
    expect(parseQuery('?state=lost&event=x')).toEqual({ ...ANY, event: 'x' });
  });

  it('is replayed as a whole only when the hub can tell what that is', () => {
    expect(replayBody({ ...ANY, state: 'dead', channel: 'chn_1', from: AT })).toEqual({
      state: 'dead',
      channel: 'chn_1',
      from: AT,
    });
    expect(replayBody({ ...ANY, q: 'nas' })).toBeNull();
    expect(replayBody({ ...ANY, rule: 'rul_1' })).toBeNull();
    expect(replayBody({ ...ANY, resource: 'dev_1' })).toBeNull();
  });
});

describe('a delivery', () => {
  it('is shown with what its last attempt says', () => {
    const attempts = [{ at: LATER, duration_ms: 5, outcome: 'retry' as const, status: 503 }];
    expect(deliveryRow(delivery('dlv_1', { attempts }))).toMatchObject({
      tries: 1,
      error: 'answered 503',
      lastAttemptAt: LATER,
    });
    const accepted = [{ at: LATER, duration_ms: 5, outcome: 'accepted' as const, status: 200 }];
    expect(deliveryRow(delivery('dlv_1', { attempts: accepted })).error).toBeNull();
  });
});

describe('events', () => {
  it('change the rows they name', () => {
    const failed = told(5, 'dlv_1', 'retrying', { error: 'no answer', next_attempt_at: LATER });
    const first = patchRows(rows('dlv_2', 'dlv_1'), [failed], '', null);
    expect(ids(first.rows)).toEqual(['dlv_2', 'dlv_1']);
    expect(first.rows[1]).toMatchObject({
      state: 'retrying',
      tries: 1,
      error: 'no answer',
      lastAttemptAt: LATER,
      next_attempt_at: LATER,
      changedBySeq: 5,
    });
    const second = patchRows(
      first.rows,
      [told(6, 'dlv_1', 'delivered', { attempts: 2 })],
      '',
      null,
    );
    expect(second.rows[1]).toMatchObject({ state: 'delivered', tries: 2, error: null });
    expect(second.rows[1]).not.toHaveProperty('next_attempt_at');
    expect([first.unknown, second.unknown]).toEqual([false, false]);
  });

  it('of other things change nothing', () => {
    const before = rows('dlv_1');
    const other = { ...told(5, 'dlv_1', 'dead'), event: 'agent.offline' };
    expect(patchRows(before, [other], '', null)).toEqual({ rows: before, unknown: false });
    expect(patchRows(before, [other], '', null).rows).toBe(before);
  });

  it('take a row out of a list it no longer belongs to, unless it is open', () => {
    const dead = [deliveryRow(delivery('dlv_1', { state: 'dead' }))];
    const replayed = [told(5, 'dlv_1', 'queued')];
    expect(patchRows(dead, replayed, 'dead', null).rows).toEqual([]);
    expect(ids(patchRows(dead, replayed, 'dead', 'dlv_1').rows)).toEqual(['dlv_1']);
  });

  it('tell of deliveries that are not in the list and may belong there', () => {
    const news = [told(5, 'dlv_9', 'dead')];
    expect(patchRows([], news, '', null).unknown).toBe(true);
    expect(patchRows([], news, 'dead', null).unknown).toBe(true);
    expect(patchRows([], news, 'delivered', null).unknown).toBe(false);
  });
});

describe('pages', () => {
  it('of newer ones come before what follows them, and take out what is gone', () => {
    const before = rows('dlv_5', 'dlv_4', 'dlv_3', 'dlv_2');
    const page = [delivery('dlv_6'), delivery('dlv_4'), delivery('dlv_3')];
    expect(ids(mergeNewest(before, page, 9, false))).toEqual(['dlv_6', 'dlv_4', 'dlv_3', 'dlv_2']);
    expect(ids(mergeNewest(before, page, 9, true))).toEqual(['dlv_6', 'dlv_4', 'dlv_3']);
    expect(mergeNewest(before, [], 9, true)).toEqual([]);
  });

  it('do not undo an event that came while they were asked for', () => {
    const live = patchRows(rows('dlv_1'), [told(11, 'dlv_1', 'delivered')], '', null).rows;
    expect(mergeNewest(live, [delivery('dlv_1')], 10, true)[0]?.state).toBe('delivered');
    expect(mergeNewest(live, [delivery('dlv_1')], 11, true)[0]?.state).toBe('queued');
    expect(mergeOne(live, delivery('dlv_1'), 10)[0]?.state).toBe('delivered');
    expect(mergeOne(live, delivery('dlv_1'), 11)[0]?.state).toBe('queued');
  });

  it('of older ones follow, each delivery once', () => {
    const page = [delivery('dlv_2'), delivery('dlv_1')];
    expect(ids(mergeOlder(rows('dlv_3', 'dlv_2'), page))).toEqual(['dlv_3', 'dlv_2', 'dlv_1']);
  });
});
