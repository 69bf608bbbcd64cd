/** The live state of one org: the connection, the reducer, and what REST adds. */

import { getContext, setContext } from 'svelte';

import * as api from './api';
import { Batch } from './batch';
import { Connection, type LinkStatus, SUBPROTOCOL } from './connection';
import type { DashboardFrame } from './protocol';
import { applyAll } from './store/apply';
import { mergeDeliveries, mergeHistory } from './store/merge';
import { DELIVERIES_MAX, FEED_MAX, emptyState, type State } from './store/state';

const HISTORY_PAGE = 100;

export class Live {
  state: State = $state.raw(emptyState());
  link: LinkStatus = $state.raw({ kind: 'connecting' });
  /** What went wrong with the last REST call that nobody asked for; empty when nothing did. */
  trouble = $state('');

  readonly orgId: string;
  private readonly connection: Connection;
  private readonly batch = new Batch<DashboardFrame>((frames) => this.take(frames));
  private gapsInARow = 0;
  private deliveriesWanted = false;

  constructor(orgId: string) {
    this.orgId = orgId;
    this.connection = new Connection({
      open: (after) => openSocket(orgId, after),
      resumeAfter: () => this.state.seq,
      probe: () => api.whyRefused(orgId),
      onFrame: (frame) => this.batch.push(frame),
      onStatus: (status) => {
        this.link = status;
        // Frames of an earlier connection that still wait would look like a gap after a resume.
        if (status.kind === 'connecting') this.batch.clear();
      },
      random: Math.random,
    });
  }

  /** Connects, and stays so until the returned function is called. */
  start(): () => void {
    const check = () => {
      if (document.visibilityState === 'visible') this.connection.check();
    };
    document.addEventListener('visibilitychange', check);
    window.addEventListener('online', check);
    this.connection.start();
    return () => {
      document.removeEventListener('visibilitychange', check);
      window.removeEventListener('online', check);
      this.connection.stop();
      this.batch.clear();
    };
  }

  retryNow(): void {
    this.connection.retryNow();
  }

  /** Asks for the page of events before the oldest in the feed; false when there is none. */
  async loadEarlier(): Promise<boolean> {
    const oldest = this.state.feed.at(-1)?.seq ?? (this.state.seq ?? 0) + 1;
    if (oldest <= 1 || this.state.feed.length >= FEED_MAX) {
      return false;
    }
    const after = Math.max(0, oldest - 1 - HISTORY_PAGE);
    const before = this.state.feed.length;
    await this.quietly(async () => {
      const events = await api.eventsAfter(this.orgId, after, HISTORY_PAGE);
      this.state = mergeHistory(this.state, events);
    });
    return this.state.feed.length > before;
  }

  /** Asks for the latest deliveries, now and after every snapshot. */
  async loadDeliveries(): Promise<void> {
    this.deliveriesWanted = true;
    const askedAtSeq = this.state.seq;
    if (askedAtSeq === null) {
      return;
    }
    await this.quietly(async () => {
      const page = await api.deliveries(this.orgId, DELIVERIES_MAX);
      this.state = mergeDeliveries(this.state, page, askedAtSeq);
    });
  }

  private take(frames: DashboardFrame[]): void {
    const { snapshots } = this.state;
    this.state = applyAll(this.state, frames);
    if (this.state.gap) {
      this.gapsInARow += 1;
      this.state = { ...this.state, gap: false };
      // A resume that leaves a gap again will not get better: take everything anew.
      this.connection.reconnect(this.gapsInARow > 1);
      return;
    }
    this.gapsInARow = 0;
    if (this.state.snapshots !== snapshots) {
      void this.loadEarlier();
      if (this.deliveriesWanted) void this.loadDeliveries();
    }
  }

  private async quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.trouble = '';
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      this.trouble = error.message;
    }
  }
}

function openSocket(orgId: string, after: number | null): WebSocket {
  const url = new URL('/ws/dashboard', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('org', orgId);
  if (after !== null) url.searchParams.set('after', String(after));
  return new WebSocket(url, SUBPROTOCOL);
}

const KEY = Symbol('live');

export function provideLive(live: Live): Live {
  return setContext(KEY, live);
}

export function useLive(): Live {
  return getContext<Live>(KEY);
}
