import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { mayAcknowledge, mayManageChannels } from '../access';
import type { Alert, AlertState, Event, Role } from '../protocol';
import { agent, AT, device, LATER, segment } from '../store/fixtures';
import { concernsAlerts, sortOpen } from './alerts';
import { Refresher } from './refresh';
import { filtersText, FOUND_MAX, resourceName, searchResources } from './resources';
import { daysText, eventGroups, mailName } from './words';

function alert(id: string, state: AlertState, patch: Partial<Alert> = {}): Alert {
  return {
    id,
    rule_id: 'rul_1',
    rule_name: 'all',
    resource_id: 'dev_1',
    resource_name: 'nas',
    state,
    event: 'device.offline',
    seq: 1,
    since: AT,
    ...patch,
  };
}

describe('open alerts', () => {
  it('are listed by what needs somebody most', () => {
    const alerts = [
      alert('pending', 'pending'),
      alert('taken', 'firing', { acknowledged_at: LATER }),
      alert('flapping', 'flapping'),
      alert('old', 'firing'),
      alert('new', 'firing', { since: LATER }),
    ];
    expect(sortOpen(alerts).map((each) => each.id)).toEqual([
      'new',
      'old',
      'flapping',
      'pending',
      'taken',
    ]);
  });

  it('are asked for anew after what may have changed them', () => {
    const event = (name: string): Event => ({ seq: 1, id: 'e', event: name, at: AT, data: {} });
    expect(concernsAlerts([event('org.updated'), event('device.online')])).toBe(true);
    expect(concernsAlerts([event('delivery.delivered')])).toBe(true);
    expect(concernsAlerts([event('alert.acknowledged')])).toBe(true);
    expect(concernsAlerts([event('org.updated'), event('channel.updated')])).toBe(false);
  });
});

describe('resources', () => {
  const state = {
    agents: new Map([['agt_1', agent('agt_1', { name: 'office probe' })]]),
    segments: new Map([['seg_1', segment]]),
    devices: new Map(
      Array.from({ length: 50 }, (_, i) => [
        `dev_${i}`,
        device(`dev_${i}`, { name: `printer ${i}`, address: `10.0.0.${i}` }),
      ]),
    ),
  };

  it('are found by name, host and address, without those that are chosen', () => {
    const names = (text: string, chosen = {}) =>
      searchResources(state, text, chosen).map((each) => each.name);
    expect(names('OFFICE')).toEqual(['office probe', 'office']);
    expect(names('office', { agent_ids: ['agt_1'] })).toEqual(['office']);
    expect(names('10.0.0.0/24')).toEqual(['office']);
    expect(names('10.0.0.49')).toEqual(['printer 49']);
    expect(names(' ')).toEqual([]);
    expect(names('printer')).toHaveLength(FOUND_MAX);
  });

  it('have a name even when they are gone', () => {
    expect(resourceName(state, 'agt_1')).toBe('office probe');
    expect(resourceName(state, 'dev_gone')).toBe('dev_gone');
  });

  it('are counted in words', () => {
    expect(filtersText({})).toBe('everything');
    expect(filtersText({ agent_ids: ['a'], segment_ids: ['b', 'c'] })).toBe('1 agent, 2 networks');
  });
});

describe('words', () => {
  it('of days are short', () => {
    expect(daysText([])).toBe('every day');
    expect(daysText([7, 1])).toBe('Mon, Sun');
  });

  it('of events are grouped, with names of a later version', () => {
    const groups = eventGroups(['lunch.served', 'agent.offline']);
    expect(groups[0]?.subject).toBe('An agent');
    expect(groups.at(-1)).toEqual({
      subject: 'lunch',
      events: [{ name: 'lunch.served', label: 'lunch.served' }],
    });
    const names = groups.flatMap((group) => group.events.map((event) => event.name));
    expect(new Set(names).size).toBe(names.length);
  });

  it('of mails are those of their templates', () => {
    expect(mailName('trial_expiring')).toBe('Trial expiring');
  });
});

describe('roles', () => {
  it('are offered what the hub would let them do', () => {
    const roles: Role[] = ['owner', 'admin', 'editor', 'viewer'];
    expect(roles.map(mayManageChannels)).toEqual([true, true, false, false]);
    expect(roles.map(mayAcknowledge)).toEqual([true, true, true, false]);
    expect([mayManageChannels(undefined), mayAcknowledge(undefined)]).toEqual([false, false]);
  });
});

describe('asking again', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('happens once for many news', async () => {
    const work = vi.fn(async () => undefined);
    const refresher = new Refresher(work, 500);
    for (let i = 0; i < 10; i += 1) refresher.soon();
    await vi.advanceTimersByTimeAsync(499);
    expect(work).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(work).toHaveBeenCalledTimes(1);
  });

  it('never happens twice at a time, and once more for what came meanwhile', async () => {
    let finish = (): void => undefined;
    const work = vi.fn(() => new Promise<void>((done) => (finish = done)));
    const refresher = new Refresher(work, 500);
    void refresher.now();
    void refresher.now();
    expect(work).toHaveBeenCalledTimes(1);
    finish();
    await vi.advanceTimersByTimeAsync(500);
    expect(work).toHaveBeenCalledTimes(2);
  });

  it('ends when it is stopped', async () => {
    const work = vi.fn(async () => undefined);
    const refresher = new Refresher(work, 500);
    refresher.soon();
    refresher.stop();
    refresher.soon();
    await vi.advanceTimersByTimeAsync(1000);
    expect(work).not.toHaveBeenCalled();
  });
});
