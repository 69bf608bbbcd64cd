/** What the page knows of one org. Never changed in place: `apply` makes a new one. */

import type {
  Agent,
  Cause,
  Channel,
  Device,
  Event,
  Org,
  ResyncReason,
  Scan,
  Segment,
} from '../protocol';

/** Events kept for the feed; older ones are in the journal. */
export const FEED_MAX = 500;

/** A scan, with its progress while it runs. */
export interface ScanRow extends Scan {
  readonly done?: number;
  readonly total?: number;
}

/** Why a device is as it is. */
export interface Reason {
  readonly cause: Cause;
  readonly error: string | null;
}

/** The parts of the state that are looked up by id. */
export interface Tables {
  agents: Map<string, Agent>;
  devices: Map<string, Device>;
  segments: Map<string, Segment>;
  scans: Map<string, ScanRow>;
  channels: Map<string, Channel>;
  /** By device id; known only for changes seen since the page was opened. */
  reasons: Map<string, Reason>;
}

export type State = {
  /** Number of the last event in this state; null before the first snapshot. */
  readonly seq: number | null;
  readonly org: Org | null;
  /** Newest first, without holes. */
  readonly feed: readonly Event[];
  /** An event came whose predecessor did not: resume from `seq`. */
  readonly gap: boolean;
  /** Set between a `resync` and its snapshot. */
  readonly resyncing: ResyncReason | null;
  /** Counts the snapshots taken, so that what REST adds can be asked for anew. */
  readonly snapshots: number;
} & {
  readonly [K in keyof Tables]: Tables[K] extends Map<string, infer V>
    ? ReadonlyMap<string, V>
    : never;
};

/** The state before anything came. */
export function emptyState(): State {
  return {
    seq: null,
    org: null,
    feed: [],
    gap: false,
    resyncing: null,
    snapshots: 0,
    agents: new Map(),
    devices: new Map(),
    segments: new Map(),
    scans: new Map(),
    channels: new Map(),
    reasons: new Map(),
  };
}
