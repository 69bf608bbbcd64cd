import { describe, expect, it } from 'vitest';

import type { DashboardFrame, EventBody } from '../protocol';
import { apply, applyAll } from './apply';
import { AT, LATER, agent, channel, device, event, segment, snapshot } from './fixtures';
import { FEED_MAX, type State, emptyState } from './state';

const start = (seq = 10): State => apply(emptyState(), snapshot(seq));
const next = (name: string, data: Record<string, unknown>): State =>
  apply(start(), event(11, name, data));

const agentStatus = (current: string) => ({
  agent_id: 'agt_1',
  name: 'agt_1',
  previous: 'online',
  current,
  since: LATER,
  cause: 'connection_closed',
});
const deviceStatus = (current: string, more: Record<string, unknown> = {}) => ({
  device_id: 'dev_1',
  name: 'dev_1',
  address: '10.0.0.1',
  agent_id: 'agt_1',
  segment_id: null,
  previous: 'online',
  current,
  since: LATER,
  cause: 'check',
  response_time_ms: 7,
  ...more,
});
const scan = (state: string) => ({
  scan_id: 'scn_1',
  name: 'office',
  agent_id: 'agt_1',
  segment_id: 'seg_1',
  state,
  started_at: AT,
  finished_at: state === 'running' ? null : LATER,
  devices_found: 3,
  devices_new: 1,
  error: null,
});
const command = {
  command_id: 'cmd_1',
  name: 'ping',
  agent_id: 'agt_1',
  kind: 'ping',
  state: 'issued',
};
const delivery = (state: string, attempts = 1) => ({
  delivery_id: 'dlv_1',
  name: 'pager',
  channel_id: 'chn_1',
  rule_id: 'rul_1',
  event_id: 'evt_1',
  event_type: 'agent.offline',
  state,
  attempts,
});
const health = (current: string) => ({
  channel_id: 'chn_1',
  name: 'pager',
  previous: 'healthy',
  current,
  reason: null,
});
const orgChange = (status: string) => ({
  org_id: 'org_1',
  name: 'Acme Ltd',
  status,
  changed: 'settings',
});

/** What every event name of the protocol does; the type makes sure that none is forgotten. */
const CASES: Record<
  EventBody['event'],
  [Record<string, unknown>, (state: State) => unknown, unknown]
> = {
  'agent.enrolled': [
    { agent_id: 'agt_3', name: 'c', agent: agent('agt_3') },
    (s) => s.agents.size,
    3,
  ],
  'agent.updated': [
    {
      agent_id: 'agt_1',
      name: 'new',
      agent: agent('agt_1', { name: 'new' }),
      segments: [{ ...segment, id: 'seg_2' }],
    },
    (s) => [s.agents.get('agt_1')?.name, [...s.segments.keys()]],
    ['new', ['seg_2']],
  ],
  'agent.online': [agentStatus('online'), (s) => s.agents.get('agt_1')?.last_seen_at, LATER],
  'agent.offline': [
    agentStatus('offline'),
    (s) => [s.agents.get('agt_1')?.state, s.agents.get('agt_1')?.since],
    ['offline', LATER],
  ],
  'agent.removed': [
    { agent_id: 'agt_1', name: 'agt_1' },
    (s) => [[...s.agents.keys()], [...s.devices.keys()], s.segments.size],
    [['agt_2'], ['dev_2'], 0],
  ],
  'device.discovered': [
    { device_id: 'dev_3', name: 'dev_3', device: device('dev_3') },
    (s) => s.devices.size,
    3,
  ],
  'device.updated': [
    { device_id: 'dev_1', name: 'x', device: device('dev_1', { name: 'x' }) },
    (s) => s.devices.get('dev_1')?.name,
    'x',
  ],
  'device.online': [
    deviceStatus('online'),
    (s) => [s.devices.get('dev_1')?.response_time_ms, s.devices.get('dev_1')?.since],
    [7, LATER],
  ],
  'device.offline': [
    deviceStatus('offline', {
      check_id: 'dev_1_tcp',
      check_status: 'offline',
      error: 'refused',
    }),
    (s) => [
      s.devices.get('dev_1')?.status,
      s.devices.get('dev_1')?.checks.map((each) => each.status),
      s.reasons.get('dev_1'),
    ],
    ['offline', ['online', 'offline'], { cause: 'check', error: 'refused' }],
  ],
  'device.degraded': [
    deviceStatus('degraded', { check: 'ping', check_status: 'degraded' }),
    (s) => [
      s.devices.get('dev_1')?.status,
      s.devices.get('dev_1')?.checks.map((each) => each.status),
    ],
    ['degraded', ['degraded', 'online']],
  ],
  'device.unknown': [
    deviceStatus('unknown', { cause: 'agent_offline' }),
    (s) => s.devices.get('dev_1')?.checks.map((each) => each.status),
    ['unknown', 'unknown'],
  ],
  'device.removed': [
    { device_id: 'dev_1', name: 'dev_1', agent_id: 'agt_1' },
    (s) => [...s.devices.keys()],
    ['dev_2'],
  ],
  'scan.started': [scan('running'), (s) => s.scans.get('scn_1')?.state, 'running'],
  'scan.completed': [
    scan('completed'),
    (s) => [s.scans.get('scn_1')?.devices_new, s.segments.get('seg_1')?.last_scan_at],
    [1, LATER],
  ],
  'scan.failed': [scan('failed'), (s) => s.scans.get('scn_1')?.state, 'failed'],
  'command.issued': [command, (s) => s.feed.length, 1],
  'command.delivered': [command, (s) => s.feed.length, 1],
  'command.succeeded': [command, (s) => s.feed.length, 1],
  'command.failed': [command, (s) => s.feed.length, 1],
  'command.expired': [command, (s) => s.feed.length, 1],
  'delivery.queued': [delivery('queued', 0), (s) => s.feed.length, 1],
  'delivery.delivered': [delivery('delivered'), (s) => s.feed.length, 1],
  'delivery.retrying': [delivery('retrying'), (s) => s.feed.length, 1],
  'delivery.dead': [delivery('dead', 8), (s) => s.feed.length, 1],
  'delivery.suppressed': [delivery('suppressed', 0), (s) => s.feed.length, 1],
  'delivery.superseded': [delivery('superseded'), (s) => s.feed.length, 1],
  'delivery.discarded': [delivery('discarded'), (s) => s.feed.length, 1],
  'alert.acknowledged': [{ alert_id: 'alr_1', name: 'nas' }, (s) => s.feed.length, 1],
  'maintenance.started': [{ window_id: 'mnt_1', name: 'move' }, (s) => s.feed.length, 1],
  'maintenance.ended': [{ window_id: 'mnt_1', name: 'move' }, (s) => s.feed.length, 1],
  'channel.created': [
    { channel_id: 'chn_2', name: 'b', channel: { ...channel, id: 'chn_2' } },
    (s) => s.channels.size,
    2,
  ],
  'channel.updated': [
    { channel_id: 'chn_1', name: 'b', channel: { ...channel, name: 'b' } },
    (s) => s.channels.get('chn_1')?.name,
    'b',
  ],
  'channel.healthy': [health('healthy'), (s) => s.channels.get('chn_1')?.health, 'healthy'],
  'channel.degraded': [
    health('needs_attention'),
    (s) => s.channels.get('chn_1')?.health,
    'needs_attention',
  ],
  'channel.disabled': [health('disabled'), (s) => s.channels.get('chn_1')?.enabled, false],
  'channel.removed': [{ channel_id: 'chn_1', name: 'pager' }, (s) => s.channels.size, 0],
  'org.updated': [orgChange('trial'), (s) => s.org?.name, 'Acme Ltd'],
  'org.suspended': [orgChange('suspended'), (s) => s.org?.status, 'suspended'],
  'org.cancelled': [orgChange('cancelled'), (s) => s.org?.status, 'cancelled'],
  'org.reactivated': [orgChange('active'), (s) => s.org?.status, 'active'],
};

describe('every event of the protocol', () => {
  it.each(Object.entries(CASES))('%s', (name, [data, look, wanted]) => {
    const state = next(name, data);
    expect(look(state)).toEqual(wanted);
    expect([state.seq, state.feed[0]?.event]).toEqual([11, name]);
  });
});

describe('the order of events', () => {
  it('takes a snapshot as the whole truth', () => {
    const state = apply(next('agent.removed', { agent_id: 'agt_1', name: 'a' }), snapshot(50));
    expect([state.seq, state.agents.size, state.devices.size, state.feed.length]).toEqual([
      50, 2, 2, 0,
    ]);
    expect(state.snapshots).toBe(2);
  });

  it('counts an unknown event, shows it and changes nothing else', () => {
    const before = start();
    const state = apply(before, event(11, 'lunch.served', { name: 'soup' }));
    expect([state.seq, state.feed.length, state.gap]).toEqual([11, 1, false]);
    expect([state.agents, state.devices]).toEqual([before.agents, before.devices]);
  });

  it('takes over since when a channel fails, and forgets it when it does no more', () => {
    const failing = { ...health('degraded'), failing_since: AT, paused_until: LATER };
    const trouble = next('channel.degraded', failing);
    expect(trouble.channels.get('chn_1')).toMatchObject({ failing_since: AT, paused_until: LATER });
    const over = apply(trouble, event(12, 'channel.healthy', health('healthy')));
    expect(over.channels.get('chn_1')).toEqual(channel);
  });

  it('ignores what it has already', () => {
    const state = next('agent.offline', agentStatus('offline'));
    expect(apply(state, event(11, 'agent.online', agentStatus('online')))).toBe(state);
    expect(apply(state, event(3, 'agent.online', agentStatus('online')))).toBe(state);
  });

  it('detects a gap, and takes nothing behind it', () => {
    const state = apply(start(), event(12, 'agent.offline', agentStatus('offline')));
    expect([state.gap, state.seq, state.feed.length]).toEqual([true, 10, 0]);
    expect(state.agents.get('agt_1')?.state).toBe('online');
    const resumed = apply(state, event(11, 'agent.offline', agentStatus('offline')));
    expect([resumed.gap, resumed.seq]).toEqual([false, 11]);
  });

  it('knows no gap where a filter skips numbers on purpose', () => {
    const frame = { ...event(15, 'agent.offline', agentStatus('offline')), seq_through: 20 };
    const state = apply(start(), frame as DashboardFrame);
    expect([state.gap, state.seq]).toEqual([false, 20]);
  });

  it('sees from `ready` whether something was missed', () => {
    expect(apply(start(), { type: 'ready', seq: 10 }).gap).toBe(false);
    expect(apply(start(), { type: 'ready', seq: 12 }).gap).toBe(true);
  });

  it('an event before any snapshot is a gap', () => {
    expect(apply(emptyState(), event(1, 'x', {})).gap).toBe(true);
  });

  it('is resyncing until the snapshot comes', () => {
    const state = apply(start(), { type: 'resync', reason: 'slow_consumer' });
    expect(state.resyncing).toBe('slow_consumer');
    expect(apply(state, snapshot(99)).resyncing).toBeNull();
  });
});

describe('ephemeral news', () => {
  const ephemeral = (name: string, data: Record<string, unknown>): DashboardFrame =>
    ({ type: 'ephemeral', event: name, at: LATER, data }) as DashboardFrame;

  it('moves when an agent was last seen', () => {
    const data = { agent_id: 'agt_1', state: 'online', last_seen_at: LATER };
    const state = apply(start(), ephemeral('agent.heartbeat', data));
    expect([state.agents.get('agt_1')?.last_seen_at, state.seq]).toEqual([LATER, 10]);
  });

  it('shows that an agent lingers, and leaves all else about its state to events', () => {
    const data = (state: string) => ({ agent_id: 'agt_1', state });
    const lingering = apply(start(), ephemeral('agent.heartbeat', data('lingering')));
    expect(lingering.agents.get('agt_1')).toMatchObject({ state: 'lingering', last_seen_at: AT });
    const back = apply(lingering, ephemeral('agent.heartbeat', data('online')));
    expect(back.agents.get('agt_1')?.state).toBe('online');
    const offline = next('agent.offline', agentStatus('offline'));
    const late = apply(offline, ephemeral('agent.heartbeat', data('online')));
    expect(late.agents.get('agt_1')?.state).toBe('offline');
  });

  it('shows how far a running scan is', () => {
    const running = next('scan.started', scan('running'));
    const state = apply(
      running,
      ephemeral('scan.progress', { scan_id: 'scn_1', done: 3, total: 9 }),
    );
    expect([state.scans.get('scn_1')?.done, state.scans.get('scn_1')?.total]).toEqual([3, 9]);
  });

  it('of unknown things or names changes nothing', () => {
    const state = start();
    for (const frame of [
      ephemeral('agent.heartbeat', { agent_id: 'agt_9' }),
      ephemeral('scan.progress', { scan_id: 'scn_9', done: 1, total: 2 }),
      ephemeral('something.new', {}),
      { type: 'pong', nonce: 1 } as DashboardFrame,
    ]) {
      expect(apply(state, frame)).toBe(state);
    }
  });
});

describe('purity and bounds', () => {
  it('leaves the state before as it was, and one batch equals its frames one by one', () => {
    const before = start();
    const frozen = structuredClone(before);
    const frames = [
      event(11, 'agent.offline', agentStatus('offline')),
      event(12, 'device.offline', deviceStatus('offline')),
      event(13, 'delivery.queued', delivery('queued', 0)),
    ];
    const batch = applyAll(before, frames);
    expect(before).toEqual(frozen);
    expect(batch).toEqual(frames.reduce(apply, before));
  });

  it('keeps no more events than it says', () => {
    const frames = Array.from({ length: FEED_MAX + 100 }, (_, i) =>
      event(11 + i, 'delivery.queued', delivery('queued', 0)),
    );
    const state = applyAll(start(), frames);
    expect(state.feed.length).toBe(FEED_MAX);
    expect(state.feed[0]?.seq).toBe(10 + frames.length);
  });
});
