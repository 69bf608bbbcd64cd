/** The live state of one org: the connection, the reducer, and what REST adds. */

import { getContext, setContext } from 'svelte';

import * as api from './api';
import { Batch } from './batch';
import { Connection, type LinkStatus, SUBPROTOCOL } from './connection';
import type { DashboardFrame, Event } from './protocol';
import { applyAll } from './store/apply';
import { mergeHistory } from './store/merge';
import { FEED_MAX, emptyState, type State } from './store/state';

const HISTORY_PAGE = 100;

/** Hears of events, oldest first; of `null` after a snapshot, when what REST told may be out of date. */
export type NewsListener = (events: readonly Event[] | null) => void;

export class Live {
  state: State = $state.raw(emptyState());
  link: LinkStatus = $state.raw({ kind: 'connecting' });
  /** What went wrong with the last REST call that nobody asked for; empty when nothing did. */
  trouble = $state('');

  readonly orgId: string;
  private readonly connection: Connection;
  private readonly batch = new Batch<DashboardFrame>((frames) => this.take(frames));
  private gapsInARow = 0;
  private readonly listeners = new Set<NewsListener>();

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

  /** Tells `listener` of everything that comes, until the returned function is called. */
  onNews(listener: NewsListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private take(frames: DashboardFrame[]): void {
    const { snapshots, seq } = this.state;
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
      this.listeners.forEach((listener) => listener(null));
      return;
    }
    const news = newsSince(this.state.feed, seq ?? 0);
    if (news.length > 0) this.listeners.forEach((listener) => listener(news));
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

/** What of the feed, newest first, is newer than `seq`, oldest first. */
function newsSince(feed: readonly Event[], seq: number): Event[] {
  const known = feed.findIndex((event) => event.seq <= seq);
  return feed.slice(0, known < 0 ? feed.length : known).reverse();
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
