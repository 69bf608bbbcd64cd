/** The list of deliveries on screen: pages by REST, changes by events. */

import { ApiError } from '../api';
import type { Live } from '../live.svelte';
import type { Event } from '../protocol';
import * as api from './api';
import {
  ANY,
  type DeliveryQuery,
  type DeliveryRow,
  mergeNewest,
  mergeOlder,
  mergeOne,
  patchRows,
} from './deliveries';
import { Refresher } from './refresh';

const PAGE = 50;

export class DeliveryList {
  rows: readonly DeliveryRow[] = $state.raw([]);
  query: DeliveryQuery = $state.raw(ANY);
  /** Whether the first page came. */
  loaded = $state(false);
  hasMore = $state(false);
  /** There are newer ones, which are not shown while somebody reads. */
  waiting = $state(false);
  trouble = $state('');
  /** The delivery whose attempts are shown. */
  open: string | null = $state(null);

  private cursor: string | null = null;
  /** Counts the searches, so that an answer to an earlier one is dropped. */
  private searches = 0;
  private reading = false;
  private readonly refresher = new Refresher(() => this.newest());

  constructor(private readonly live: Live) {}

  start(): () => void {
    const leave = this.live.onNews((events) => this.take(events));
    return () => {
      leave();
      this.refresher.stop();
    };
  }

  search(query: DeliveryQuery): void {
    this.searches += 1;
    this.query = query;
    this.open = null;
    this.waiting = false;
    this.rows = [];
    this.loaded = false;
    void this.newest();
  }

  /** While somebody reads, nothing is put above what they read. */
  setReading(reading: boolean): void {
    this.reading = reading;
    if (!reading && this.waiting) this.refresher.soon();
  }

  showNewest(): void {
    this.waiting = false;
    void this.refresher.now();
  }

  async more(): Promise<void> {
    const { searches, cursor } = this;
    await this.quietly(async () => {
      const page = await api.deliveries(this.live.orgId, this.query, PAGE, cursor);
      if (searches !== this.searches) return;
      this.rows = mergeOlder(this.rows, page.items);
      this.turnTo(page.next_cursor);
    });
  }

  async toggle(id: string): Promise<void> {
    this.open = this.open === id ? null : id;
    if (this.open !== null) await this.refreshOne(id);
  }

  async refreshOne(id: string): Promise<void> {
    const askedAtSeq = this.live.state.seq ?? 0;
    await this.quietly(async () => {
      const told = await api.delivery(this.live.orgId, id);
      this.rows = mergeOne(this.rows, told, askedAtSeq);
    });
  }

  private async newest(): Promise<void> {
    const { searches } = this;
    const askedAtSeq = this.live.state.seq ?? 0;
    await this.quietly(async () => {
      const page = await api.deliveries(this.live.orgId, this.query, PAGE);
      if (searches !== this.searches) return;
      // What follows the page is known when the page reaches what is shown.
      const known = new Set(this.rows.map((row) => row.id));
      const reaches = page.next_cursor !== null && page.items.some((item) => known.has(item.id));
      this.rows = mergeNewest(this.rows, page.items, askedAtSeq, !reaches);
      if (!reaches) this.turnTo(page.next_cursor);
      this.loaded = true;
      this.waiting = false;
    });
  }

  private turnTo(cursor: string | null): void {
    this.cursor = cursor;
    this.hasMore = cursor !== null;
  }

  private take(events: readonly Event[] | null): void {
    if (events === null) return this.refresher.soon();
    const { rows, unknown } = patchRows(this.rows, events, this.query.state, this.open);
    this.rows = rows;
    const { open } = this;
    if (open !== null && events.some((event) => event.data['delivery_id'] === open)) {
      void this.refreshOne(open);
    }
    if (!unknown) return;
    if (this.reading || this.open !== null) this.waiting = true;
    else this.refresher.soon();
  }

  private async quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.trouble = '';
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.trouble = error.message;
    }
  }
}
