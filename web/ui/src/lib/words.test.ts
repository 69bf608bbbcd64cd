import { describe, expect, it } from 'vitest';

import { duration, responseTime } from './format';
import type { Event } from './protocol';
import { sentence } from './sentences';
import { offlineSummary } from './store/counts';

function say(event: string, data: Record<string, unknown>): string {
  const made: Event = { seq: 1, id: 'evt_1', event, at: '2026-03-01T12:00:00.000Z', data };
  const { subject, text } = sentence(made);
  return `${subject} ${text}`.trim();
}

describe('sentences', () => {
  it('say what happened and why', () => {
    expect(say('agent.offline', { name: 'office', cause: 'heartbeat_timeout' })).toBe(
      'office is offline: its heartbeats stopped',
    );
    expect(say('agent.online', { name: 'office', previous: 'never_connected' })).toBe(
      'office connected for the first time',
    );
    expect(say('device.offline', { name: 'nas', error: 'no answer' })).toBe(
      'nas is offline: no answer',
    );
    expect(say('device.online', { name: 'nas', response_time_ms: 2.25 })).toBe(
      'nas is online, answering in 2.3 ms',
    );
    expect(say('delivery.dead', { name: 'pager', event_type: 'agent.offline' })).toBe(
      'pager never accepted agent.offline, given up',
    );
  });

  it('fall back to the name of an event they do not know', () => {
    expect(say('lunch.served', {})).toBe('lunch.served');
  });
});

describe('numbers', () => {
  it('are short and in their largest unit', () => {
    expect([0, 59_999, 60_000, 3_900_000, 90_000_000, -5].map(duration)).toEqual([
      '0 s',
      '59 s',
      '1 min',
      '1 h 05 min',
      '1 d 1 h',
      '0 s',
    ]);
    expect([null, 0.42, 12.6, 12_345].map(responseTime)).toEqual([
      '–',
      '0.4 ms',
      '13 ms',
      '12.3 s',
    ]);
  });

  it('of what is offline make the title', () => {
    expect(offlineSummary(0, 0)).toBe('');
    expect(offlineSummary(1, 5)).toBe('1 agent, 5 devices offline');
    expect(offlineSummary(0, 1)).toBe('1 device offline');
  });
});
