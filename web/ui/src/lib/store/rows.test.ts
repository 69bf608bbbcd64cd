import { describe, expect, it } from 'vitest';

import type { Device } from '../protocol';
import { agent, device } from './fixtures';
import { addressKey, naturalKey } from './keys';
import { RowBuilder, type View, isGroup } from './rows';

const VIEW: View = {
  sort: 'name',
  descending: false,
  grouped: false,
  statuses: [],
  agentId: null,
  search: '',
};
const AGENTS = [agent('agt_1', { name: 'zürich 2' }), agent('agt_2', { name: 'Zurich 10' })];
const map = (devices: Device[]) => new Map(devices.map((each) => [each.id, each]));

const DEVICES = map([
  device('dev_a', {
    name: 'switch 10',
    address: '10.0.0.10',
    status: 'online',
    since: '2026-01-03',
  }),
  device('dev_b', {
    name: 'Switch 2',
    address: '10.0.0.9',
    status: 'offline',
    since: '2026-01-02',
  }),
  device('dev_c', {
    name: 'camera',
    address: 'cam.local',
    status: 'degraded',
    since: '2026-01-01',
    agent_id: 'agt_2',
  }),
  device('dev_d', { name: 'nas', address: 'fd00::2', status: 'unknown', agent_id: 'agt_2' }),
]);

function build(patch: Partial<View>, builder = new RowBuilder(), devices = DEVICES): string[] {
  return builder
    .build(devices, AGENTS, { ...VIEW, ...patch })
    .map((row) => (isGroup(row) ? `${row.agentName} (${row.shown})` : row.id));
}

describe('keys', () => {
  it('count numbers as numbers and forget case and accents', () => {
    expect(naturalKey('Rack 2') < naturalKey('rack 10')).toBe(true);
    expect(naturalKey('Zürich')).toBe(naturalKey('zurich'));
  });

  it('order addresses by number: IPv4, IPv6, names', () => {
    const sorted = ['10.0.0.10', 'a.local', '10.0.0.9', 'fd00::10', 'fd00::9', '9.0.0.1', '::1'];
    sorted.sort((a, b) => (addressKey(a) < addressKey(b) ? -1 : 1));
    expect(sorted).toEqual([
      '9.0.0.1',
      '10.0.0.9',
      '10.0.0.10',
      '::1',
      'fd00::9',
      'fd00::10',
      'a.local',
    ]);
  });
});

describe('rows', () => {
  it('sort by each column, both ways', () => {
    expect(build({})).toEqual(['dev_c', 'dev_d', 'dev_b', 'dev_a']);
    expect(build({ descending: true })).toEqual(['dev_a', 'dev_b', 'dev_d', 'dev_c']);
    expect(build({ sort: 'address' })).toEqual(['dev_b', 'dev_a', 'dev_d', 'dev_c']);
    expect(build({ sort: 'status' })).toEqual(['dev_b', 'dev_c', 'dev_d', 'dev_a']);
    expect(build({ sort: 'since' })).toEqual(['dev_d', 'dev_a', 'dev_b', 'dev_c']);
  });

  it('are grouped under their agents', () => {
    expect(build({ grouped: true })).toEqual([
      'zürich 2 (2)',
      'dev_b',
      'dev_a',
      'Zurich 10 (2)',
      'dev_c',
      'dev_d',
    ]);
  });

  it('are narrowed by status, agent and words, which an agent may supply', () => {
    expect(build({ statuses: ['offline', 'unknown'] })).toEqual(['dev_d', 'dev_b']);
    expect(build({ agentId: 'agt_2' })).toEqual(['dev_c', 'dev_d']);
    expect(build({ search: 'SWITCH 10.0' })).toEqual(['dev_b', 'dev_a']);
    expect(build({ search: 'zurich' })).toEqual(['dev_c', 'dev_d']);
    expect(build({ search: 'nothing' })).toEqual([]);
  });

  it('follow changes, additions and removals from build to build', () => {
    const builder = new RowBuilder();
    build({ sort: 'status' }, builder);
    const changed = new Map(DEVICES);
    changed.set('dev_a', device('dev_a', { name: 'switch 10', status: 'offline' }));
    changed.set('dev_e', device('dev_e', { name: 'zz', status: 'offline' }));
    changed.delete('dev_c');
    expect(build({ sort: 'status' }, builder, changed)).toEqual([
      'dev_b',
      'dev_a',
      'dev_e',
      'dev_d',
    ]);
  });
});
