/** Agents, devices and networks by name, for filters. */

import type { Filters } from '../protocol';
import type { State } from '../store/state';

/** Most that a search offers at once. */
export const FOUND_MAX = 30;

export interface Resource {
  readonly kind: keyof Filters;
  readonly word: string;
  readonly id: string;
  readonly name: string;
  readonly detail: string;
}

type Tables = Pick<State, 'agents' | 'devices' | 'segments'>;

/** What fits the text and is not chosen yet. */
export function searchResources(state: Tables, text: string, chosen: Filters): Resource[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === '') return [];
  const found: Resource[] = [];
  for (const resource of resources(state)) {
    const fits = `${resource.name}\n${resource.detail}`.toLowerCase().includes(wanted);
    if (fits && !chosen[resource.kind]?.includes(resource.id)) found.push(resource);
    if (found.length >= FOUND_MAX) break;
  }
  return found;
}

function* resources({ agents, devices, segments }: Tables): Generator<Resource> {
  for (const { id, name, hostname } of agents.values()) {
    yield { kind: 'agent_ids', word: 'agent', id, name, detail: hostname ?? '' };
  }
  for (const { id, name, cidr } of segments.values()) {
    yield { kind: 'segment_ids', word: 'network', id, name, detail: cidr };
  }
  for (const { id, name, address } of devices.values()) {
    yield { kind: 'device_ids', word: 'device', id, name, detail: address };
  }
}

/** The name of an id; the id itself for what is gone. */
export function resourceName({ agents, devices, segments }: Tables, id: string): string {
  return (agents.get(id) ?? devices.get(id) ?? segments.get(id))?.name ?? id;
}

/** Such as `2 agents, 1 network`; `everything` for none. */
export function filtersText(filters: Filters): string {
  const parts = [
    plural(filters.agent_ids, 'agent', 'agents'),
    plural(filters.device_ids, 'device', 'devices'),
    plural(filters.segment_ids, 'network', 'networks'),
    plural(filters.category_ids, 'category', 'categories'),
  ].filter(Boolean);
  return parts.length > 0 ? parts.join(', ') : 'everything';
}

function plural(ids: readonly string[] | undefined, one: string, many: string): string {
  const n = ids?.length ?? 0;
  return n === 0 ? '' : `${n} ${n === 1 ? one : many}`;
}
