/**
 * The reducer: from a state and the frames that came to the next state.
 *
 * - An event is taken once: what is not newer than the state is ignored.
 * - An event is taken in order: one that skips a number sets `gap` and changes nothing else.
 * - A name this page does not know still counts, and still reaches the feed.
 */

import type {
  AgentState,
  Channel,
  ChannelHealthChanged,
  Check,
  DashboardFrame,
  Device,
  DeviceStatusChanged,
  Event,
  EventBody,
  ScanChanged,
  Snapshot,
} from '../protocol';
import { FEED_MAX, type State, type Tables } from './state';

type EventFrame = Extract<DashboardFrame, { type: 'event' }>;
type EphemeralFrame = Extract<DashboardFrame, { type: 'ephemeral' }>;
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Takes one frame. */
export function apply(state: State, frame: DashboardFrame): State {
  return applyAll(state, [frame]);
}

/** Takes frames in order; each table is copied at most once, so a batch costs little more than one frame. */
export function applyAll(state: State, frames: readonly DashboardFrame[]): State {
  const draft = new Draft(state);
  for (const frame of frames) {
    draft.take(frame);
  }
  return draft.finish();
}

class Draft {
  private state: Mutable<State>;
  private readonly base: State;
  private changed = false;
  private owned = new Set<keyof Tables>();
  private news: Event[] = [];

  constructor(base: State) {
    this.base = base;
    this.state = { ...base };
  }

  take(frame: DashboardFrame): void {
    switch (frame.type) {
      case 'snapshot':
        return this.snapshot(frame);
      case 'event':
        return this.event(frame);
      case 'ephemeral':
        return this.ephemeral(frame);
      case 'resync':
        return this.set({ resyncing: frame.reason });
      case 'ready':
        return this.ready(frame.seq);
      default:
        // A pong is the connection's; an error is about a frame this page sent.
        return;
    }
  }

  finish(): State {
    if (this.news.length > 0) {
      this.state.feed = [...this.news.reverse(), ...this.state.feed].slice(0, FEED_MAX);
    }
    return this.changed ? this.state : this.base;
  }

  private set(patch: Partial<State>): void {
    Object.assign(this.state, patch);
    this.changed = true;
  }

  private table<K extends keyof Tables>(name: K): Tables[K] {
    // The maps this draft copied are its own to change; those of `base` are not.
    const tables = this.state as unknown as Tables;
    if (!this.owned.has(name)) {
      tables[name] = new Map(tables[name] as Map<string, unknown>) as Tables[K];
      this.owned.add(name);
      this.changed = true;
    }
    return tables[name];
  }

  private snapshot(frame: Snapshot): void {
    this.news = [];
    const byId = <T extends { id: string }>(items: readonly T[]) =>
      new Map(items.map((item) => [item.id, item]));
    this.set({
      seq: frame.seq,
      org: frame.org,
      gap: false,
      resyncing: null,
      snapshots: this.state.snapshots + 1,
      // What lies between the old feed and the snapshot is not known here; REST fills it.
      feed: frame.seq === this.state.seq ? this.state.feed : [],
      agents: byId(frame.agents),
      devices: byId(frame.devices),
      segments: byId(frame.segments),
      scans: byId(frame.scans),
      channels: byId(frame.channels),
      reasons: new Map(),
    });
    for (const name of ['agents', 'devices', 'segments', 'scans', 'channels', 'reasons'] as const) {
      this.owned.add(name);
    }
  }

  private ready(seq: number): void {
    // Numbers this page has not seen, and none of them sent: that is a gap like any other.
    this.set({ gap: this.state.seq === null || seq > this.state.seq });
  }

  private event(frame: EventFrame): void {
    const { seq } = this.state;
    if (seq !== null && frame.seq <= seq) {
      return;
    }
    const narrowed = frame.seq_through !== undefined;
    if (seq === null || (frame.seq !== seq + 1 && !narrowed)) {
      return this.set({ gap: true });
    }
    this.set({ seq: Math.max(frame.seq, frame.seq_through ?? 0), gap: false });
    this.news.push({
      seq: frame.seq,
      id: frame.id,
      event: frame.event,
      at: frame.at,
      data: frame.data,
    });
    this.body({ event: frame.event, data: frame.data } as unknown as EventBody);
  }

  private body(body: EventBody): void {
    switch (body.event) {
      case 'agent.enrolled':
      case 'agent.updated': {
        const { agent, segments } = body.data;
        this.table('agents').set(agent.id, agent);
        if (segments) {
          const table = this.table('segments');
          removeWhere(table, (segment) => segment.agent_id === agent.id);
          segments.forEach((segment) => table.set(segment.id, segment));
        }
        return;
      }
      case 'agent.online':
      case 'agent.offline': {
        const { agent_id, name, current, since } = body.data;
        const agent = this.state.agents.get(agent_id);
        if (agent) {
          const last_seen_at = current === 'online' ? since : agent.last_seen_at;
          this.table('agents').set(agent_id, {
            ...agent,
            name,
            state: current,
            since,
            last_seen_at,
          });
        }
        return;
      }
      case 'agent.removed': {
        const { agent_id } = body.data;
        this.table('agents').delete(agent_id);
        removeWhere(this.table('devices'), (device) => device.agent_id === agent_id);
        removeWhere(this.table('segments'), (segment) => segment.agent_id === agent_id);
        removeWhere(this.table('scans'), (scan) => scan.agent_id === agent_id);
        return;
      }
      case 'device.discovered':
      case 'device.updated':
        this.table('devices').set(body.data.device.id, body.data.device);
        return;
      case 'device.online':
      case 'device.offline':
      case 'device.degraded':
      case 'device.unknown':
        return this.deviceStatus(body.data);
      case 'device.removed':
        this.table('devices').delete(body.data.device_id);
        this.table('reasons').delete(body.data.device_id);
        return;
      case 'scan.started':
      case 'scan.completed':
      case 'scan.failed':
        return this.scan(body.data);
      case 'channel.created':
      case 'channel.updated':
        this.table('channels').set(body.data.channel.id, body.data.channel);
        return;
      case 'channel.healthy':
      case 'channel.degraded':
      case 'channel.disabled':
        return this.channelHealth(body.data);
      case 'channel.removed':
        this.table('channels').delete(body.data.channel_id);
        return;
      case 'org.updated':
      case 'org.suspended':
      case 'org.cancelled':
      case 'org.reactivated':
        if (this.state.org) {
          const { name, status } = body.data;
          this.set({ org: { ...this.state.org, name, status } });
        }
        return;
      default:
        return;
    }
  }

  private channelHealth(change: ChannelHealthChanged): void {
    const channel = this.state.channels.get(change.channel_id);
    if (!channel) {
      return;
    }
    const { name, current, failing_since, paused_until } = change;
    const next: Channel = { ...channel, name, health: current, enabled: current !== 'disabled' };
    // Both are over when the change does not name them.
    delete next.failing_since;
    delete next.paused_until;
    if (failing_since !== undefined) next.failing_since = failing_since;
    if (paused_until !== undefined) next.paused_until = paused_until;
    this.table('channels').set(channel.id, next);
  }

  private deviceStatus(change: DeviceStatusChanged): void {
    const device = this.state.devices.get(change.device_id);
    if (!device) {
      return;
    }
    this.table('devices').set(device.id, {
      ...device,
      name: change.name,
      address: change.address,
      status: change.current,
      since: change.since,
      response_time_ms: change.response_time_ms,
      checks: checksAfter(device, change),
    });
    this.table('reasons').set(device.id, { cause: change.cause, error: change.error ?? null });
  }

  private scan(change: ScanChanged): void {
    const { scan_id, agent_id, segment_id, state, started_at, finished_at } = change;
    const { devices_found, devices_new, error } = change;
    this.table('scans').set(scan_id, {
      id: scan_id,
      agent_id,
      segment_id,
      state,
      started_at,
      finished_at,
      devices_found,
      devices_new,
      error,
    });
    const segment = this.state.segments.get(segment_id);
    if (segment && finished_at) {
      this.table('segments').set(segment_id, { ...segment, last_scan_at: finished_at });
    }
  }

  private heartbeat(facts: Record<string, unknown>): void {
    const agent = this.state.agents.get(String(facts['agent_id']));
    if (!agent) {
      return;
    }
    const { state: said, last_seen_at: seen } = facts;
    // Lingering is no event. Everything else about the state is, and a late heartbeat must not undo it.
    const present = (state: unknown) => state === 'online' || state === 'lingering';
    const state = present(said) && present(agent.state) ? (said as AgentState) : agent.state;
    const last_seen_at = typeof seen === 'string' ? seen : agent.last_seen_at;
    this.table('agents').set(agent.id, { ...agent, state, last_seen_at });
  }

  private ephemeral(frame: EphemeralFrame): void {
    const facts = (frame.data ?? {}) as Record<string, unknown>;
    switch (frame.event) {
      case 'agent.heartbeat':
        return this.heartbeat(facts);
      case 'scan.progress': {
        const scan = this.state.scans.get(String(facts['scan_id']));
        if (scan?.state === 'running') {
          const [done, total] = [Number(facts['done']), Number(facts['total'])];
          this.table('scans').set(scan.id, { ...scan, done, total });
        }
        return;
      }
      default:
        return;
    }
  }
}

/**
 * What a change of the device says about its checks. A device that is online has no worse check; one whose agent
 * went away has no check that anyone can tell about; else it is about the check that decided it.
 */
function checksAfter(device: Device, change: DeviceStatusChanged): Check[] {
  const { current } = change;
  const all = current === 'online' || (current === 'unknown' && change.cause === 'agent_offline');
  return device.checks.map((check) => {
    if (all) return { ...check, status: current };
    const decided =
      change.check_id === undefined ? check.check === change.check : check.id === change.check_id;
    return decided ? { ...check, status: change.check_status ?? current } : check;
  });
}

function removeWhere<T>(table: Map<string, T>, condition: (item: T) => boolean): void {
  for (const [id, item] of table) {
    if (condition(item)) {
      table.delete(id);
    }
  }
}
