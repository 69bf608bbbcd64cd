/** How many there are of what; always counted from the rows on screen, never kept beside them. */

import type { AgentState, DeviceStatus } from '../protocol';
import type { State } from './state';

export interface Counts {
  readonly agents: Readonly<Record<AgentState, number>>;
  readonly agentsTotal: number;
  readonly devices: Readonly<Record<DeviceStatus, number>>;
  readonly devicesTotal: number;
}

export function countAgents(agents: State['agents']): Counts['agents'] {
  const counts = { never_connected: 0, online: 0, lingering: 0, offline: 0, disabled: 0 };
  for (const agent of agents.values()) counts[agent.state] += 1;
  return counts;
}

export function countDevices(devices: State['devices']): Counts['devices'] {
  const counts = { online: 0, degraded: 0, offline: 0, unknown: 0 };
  for (const device of devices.values()) counts[device.status] += 1;
  return counts;
}

/** Such as `1 agent, 5 devices offline`; empty when nothing is. */
export function offlineSummary(agents: number, devices: number): string {
  const parts = [plural(agents, 'agent'), plural(devices, 'device')].filter(Boolean);
  return parts.length > 0 ? `${parts.join(', ')} offline` : '';
}

function plural(n: number, noun: string): string {
  return n === 0 ? '' : `${n} ${noun}${n === 1 ? '' : 's'}`;
}
