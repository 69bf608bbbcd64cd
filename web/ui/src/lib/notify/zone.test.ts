import { describe, expect, it } from 'vitest';

import { isZone, toInstant, toLocal, zones } from './zone';

describe('wall clocks', () => {
  it('become instants with the offset of the day', () => {
    expect(toInstant('2026-01-15T08:00', 'Europe/Berlin')).toBe('2026-01-15T07:00:00.000Z');
    expect(toInstant('2026-07-15T08:00', 'Europe/Berlin')).toBe('2026-07-15T06:00:00.000Z');
    expect(toInstant('2026-07-15T08:00', 'Asia/Kathmandu')).toBe('2026-07-15T02:15:00.000Z');
    expect(toInstant('2026-07-15T00:30', 'Pacific/Kiritimati')).toBe('2026-07-14T10:30:00.000Z');
    expect(toInstant('2026-07-15T08:00', 'UTC')).toBe('2026-07-15T08:00:00.000Z');
  });

  it('that show an hour twice mean its first', () => {
    expect(toInstant('2026-10-25T02:30', 'Europe/Berlin')).toBe('2026-10-25T00:30:00.000Z');
    expect(toInstant('2026-11-01T01:30', 'America/New_York')).toBe('2026-11-01T05:30:00.000Z');
  });

  it('that skip an hour mean what they would have shown', () => {
    expect(toInstant('2026-03-29T02:30', 'Europe/Berlin')).toBe('2026-03-29T01:30:00.000Z');
    expect(toInstant('2026-03-08T02:30', 'America/New_York')).toBe('2026-03-08T07:30:00.000Z');
  });

  it('around a change of the offset are right to the minute', () => {
    for (const local of ['2026-03-29T01:59', '2026-03-29T03:00', '2026-10-25T03:00']) {
      const instant = toInstant(local, 'Europe/Berlin');
      expect(toLocal(instant ?? '', 'Europe/Berlin')).toBe(local);
    }
  });

  it('come back from instants, in every zone', () => {
    for (const zone of zones()) {
      for (const local of ['2026-01-31T23:45', '2026-08-01T00:05']) {
        expect(toLocal(toInstant(local, zone) ?? '', zone), zone).toBe(local);
      }
    }
  });

  it('that are none are null', () => {
    expect(toInstant('', 'UTC')).toBeNull();
    expect(toInstant('2026-02-31T99:00', 'UTC')).toBeNull();
    expect(toInstant('2026-01-01T00:00', 'Mars/Base')).toBeNull();
    expect([isZone('Europe/Berlin'), isZone('')]).toEqual([true, false]);
  });
});
