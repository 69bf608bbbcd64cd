/** Things for the tests of this folder. */

import type { Agent, Channel, DashboardFrame, Delivery, Device, Org, Segment } from '../protocol';

export const AT = '2026-03-01T12:00:00.000Z';
export const LATER = '2026-03-01T12:05:00.000Z';

export const org: Org = {
  id: 'org_1',
  name: 'Acme',
  slug: 'acme',
  plan: 'trial',
  status: 'trial',
  limits: { agents: 10, devices: 100, users: 5, api_calls_month: 1000 },
  heartbeat_interval_ms: 5000,
  heartbeat_timeout_ms: 12000,
  offline_grace_ms: 5000,
};

export function agent(id: string, patch: Partial<Agent> = {}): Agent {
  return {
    id,
    name: id,
    enabled: true,
    state: 'online',
    since: AT,
    last_seen_at: AT,
    version: '0.1.0',
    hostname: 'host',
    platform: 'linux',
    key_prefix: 'vp_acme0000_ab',
    ...patch,
  };
}

export function device(id: string, patch: Partial<Device> = {}): Device {
  return {
    id,
    agent_id: 'agt_1',
    segment_id: null,
    category_id: null,
    name: id,
    address: '10.0.0.1',
    status: 'online',
    since: AT,
    response_time_ms: 1.5,
    checks: [
      {
        id: `${id}_ping`,
        check: 'ping',
        port: null,
        url: null,
        interval_s: 60,
        timeout_ms: 5000,
        failure_threshold: 1,
        expect: null,
        status: 'online',
      },
      {
        id: `${id}_tcp`,
        check: 'tcp',
        port: 22,
        url: null,
        interval_s: 60,
        timeout_ms: 5000,
        failure_threshold: 1,
        expect: null,
        status: 'online',
      },
    ],
    ...patch,
  };
}

export const segment: Segment = {
  id: 'seg_1',
  agent_id: 'agt_1',
  name: 'office',
  cidr: '10.0.0.0/24',
  scan_interval_s: 3600,
  enabled: true,
  last_scan_at: null,
};

export const channel: Channel = {
  id: 'chn_1',
  name: 'pager',
  kind: 'webhook',
  config: { url: 'https://example.org/hook' },
  enabled: true,
  health: 'healthy',
};

export function delivery(id: string, patch: Partial<Delivery> = {}): Delivery {
  return {
    id,
    event_id: 'evt_1',
    seq: 1,
    event: 'agent.offline',
    rule_id: 'rul_1',
    channel_id: 'chn_1',
    resource_name: 'office',
    reason: 'alert',
    state: 'queued',
    created_at: AT,
    attempts: [],
    ...patch,
  };
}

export function snapshot(seq: number): DashboardFrame {
  return {
    type: 'snapshot',
    seq,
    org,
    agents: [agent('agt_1'), agent('agt_2')],
    devices: [device('dev_1'), device('dev_2', { agent_id: 'agt_2' })],
    segments: [segment],
    scans: [],
    channels: [channel],
    counts: {
      agents: 2,
      agents_online: 2,
      devices: 2,
      devices_online: 2,
      devices_degraded: 0,
      devices_offline: 0,
      devices_unknown: 0,
    },
  };
}

export function event(seq: number, name: string, data: Record<string, unknown>): DashboardFrame {
  return { type: 'event', seq, id: `evt_${seq}`, event: name, at: LATER, data };
}
