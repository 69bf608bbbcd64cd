/** The rows of the device list: sorted, filtered and grouped, cheaply enough for every animation frame. */

import type { Agent, Device, DeviceStatus } from '../protocol';
import { addressKey, naturalKey } from './keys';

export type SortBy = 'name' | 'address' | 'status' | 'since' | 'response';

/** What of the devices is shown, and how. */
export interface View {
  readonly sort: SortBy;
  readonly descending: boolean;
  readonly grouped: boolean;
  /** Empty for every status. */
  readonly statuses: readonly DeviceStatus[];
  readonly agentId: string | null;
  readonly search: string;
}

/** A heading above the devices of one agent. */
export interface GroupRow {
  readonly agentId: string;
  readonly agentName: string;
  readonly shown: number;
}

export type Row = GroupRow | Device;

/** Only the facts of an agent that the order and the search of devices depend on. */
export type AgentName = Pick<Agent, 'id' | 'name' | 'hostname'>;

/** A device with what it is compared and found by. */
interface Entry {
  readonly device: Device;
  readonly name: string;
  readonly address: string;
  readonly text: string;
}

/** The worst first. */
export const SEVERITY: Readonly<Record<DeviceStatus, number>> = {
  offline: 0,
  degraded: 1,
  unknown: 2,
  online: 3,
};

export function isGroup(row: Row): row is GroupRow {
  return 'agentName' in row;
}

/** An entry, with the keys of an earlier one as long as they are right. */
function entry(device: Device, earlier?: Entry): Entry {
  const { name, address } = device;
  if (earlier && earlier.device.name === name && earlier.device.address === address) {
    return { ...earlier, device };
  }
  return {
    device,
    name: naturalKey(name),
    address: addressKey(address),
    text: `${name}\n${address}`.toLowerCase(),
  };
}

type Compare = (a: Entry, b: Entry) => number;

/**
 * Builds the rows again and again. While the order is by the same things, only the devices that changed are put
 * in their places anew: the rest is in order already.
 */
export class RowBuilder {
  private order: Entry[] = [];
  private orderedBy = '';
  private orderedAgents: readonly AgentName[] | null = null;
  private compare: Compare = () => 0;

  build(devices: ReadonlyMap<string, Device>, agents: readonly AgentName[], view: View): Row[] {
    const by = `${view.sort} ${view.descending} ${view.grouped}`;
    if (by === this.orderedBy && agents === this.orderedAgents) {
      this.order = this.repair(devices);
    } else {
      this.compare = comparison(view, agents);
      this.order = this.repair(devices).sort(this.compare);
      this.orderedBy = by;
      this.orderedAgents = agents;
    }
    const wanted = filter(agents, view);
    const shown = wanted ? this.order.filter(wanted) : this.order;
    return view.grouped ? group(shown, agents) : shown.map(({ device }) => device);
  }

  private repair(devices: ReadonlyMap<string, Device>): Entry[] {
    const unchanged: Entry[] = [];
    const changed: Entry[] = [];
    for (const earlier of this.order) {
      const now = devices.get(earlier.device.id);
      if (now === earlier.device) unchanged.push(earlier);
      else if (now) changed.push(entry(now, earlier));
    }
    if (unchanged.length + changed.length < devices.size) {
      const known = new Set(this.order.map(({ device }) => device.id));
      for (const device of devices.values()) if (!known.has(device.id)) changed.push(entry(device));
    }
    return merge(unchanged, changed.sort(this.compare), this.compare);
  }
}

/** Merges few into many, comparing only to find the place of each of the few. */
function merge(many: Entry[], few: readonly Entry[], compare: Compare): Entry[] {
  if (few.length === 0) {
    return many;
  }
  const merged: Entry[] = [];
  let from = 0;
  for (const one of few) {
    let [low, high] = [from, many.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(many[middle] as Entry, one) < 0) low = middle + 1;
      else high = middle;
    }
    for (; from < low; from += 1) merged.push(many[from] as Entry);
    merged.push(one);
  }
  for (; from < many.length; from += 1) merged.push(many[from] as Entry);
  return merged;
}

function text(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A total order: two different devices are never equal. */
function comparison(view: View, agents: readonly AgentName[]): Compare {
  const byColumn = columnComparison(view);
  const byNameThenId: Compare = (a, b) => text(a.name, b.name) || text(a.device.id, b.device.id);
  if (!view.grouped) {
    return (a, b) => byColumn(a, b) || byNameThenId(a, b);
  }
  const ranks = new Map(sortedAgents(agents).map((agent, i) => [agent.id, i]));
  const rank = ({ device }: Entry) => ranks.get(device.agent_id) ?? ranks.size;
  return (a, b) =>
    // Devices of agents that are not known yet stay together too.
    rank(a) - rank(b) ||
    text(a.device.agent_id, b.device.agent_id) ||
    byColumn(a, b) ||
    byNameThenId(a, b);
}

function columnComparison({ sort, descending }: View): Compare {
  const sign = descending ? -1 : 1;
  const response = ({ device }: Entry) => device.response_time_ms ?? -1;
  switch (sort) {
    case 'name':
      return (a, b) => sign * text(a.name, b.name);
    case 'address':
      return (a, b) => sign * text(a.address, b.address);
    case 'status':
      return (a, b) => sign * (SEVERITY[a.device.status] - SEVERITY[b.device.status]);
    case 'since':
      return (a, b) => sign * text(b.device.since, a.device.since);
    case 'response':
      return (a, b) => sign * (response(b) - response(a));
  }
}

/** Null when nothing is left out. */
function filter(agents: readonly AgentName[], view: View): ((entry: Entry) => boolean) | null {
  const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0 && view.statuses.length === 0 && view.agentId === null) {
    return null;
  }
  const statuses = new Set(view.statuses);
  const agentText = new Map(
    agents.map((agent) => [agent.id, `${agent.name}\n${agent.hostname ?? ''}`.toLowerCase()]),
  );
  return ({ device, text: own }) => {
    if (view.agentId !== null && device.agent_id !== view.agentId) return false;
    if (statuses.size > 0 && !statuses.has(device.status)) return false;
    const agent = agentText.get(device.agent_id) ?? '';
    return words.every((word) => own.includes(word) || agent.includes(word));
  };
}

/** Agents as every list shows them. */
export function sortedAgents<T extends AgentName>(agents: readonly T[]): T[] {
  return agents
    .map((agent) => ({ agent, key: naturalKey(agent.name) }))
    .sort((a, b) => text(a.key, b.key) || text(a.agent.id, b.agent.id))
    .map(({ agent }) => agent);
}

function group(entries: readonly Entry[], agents: readonly AgentName[]): Row[] {
  const names = new Map(agents.map((agent) => [agent.id, agent.name]));
  const rows: Row[] = [];
  for (let start = 0; start < entries.length;) {
    const agentId = entries[start]?.device.agent_id ?? '';
    let end = start;
    while (end < entries.length && entries[end]?.device.agent_id === agentId) end += 1;
    rows.push({ agentId, agentName: names.get(agentId) ?? agentId, shown: end - start });
    for (let i = start; i < end; i += 1) rows.push((entries[i] as Entry).device);
    start = end;
  }
  return rows;
}
