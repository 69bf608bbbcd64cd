/** Something that REST tells and events only say that it changed. */

import { ApiError } from '../api';
import type { Live } from '../live.svelte';
import type { Event } from '../protocol';
import { Refresher } from './refresh';

export class Loader<T> {
  /** Null until it was told for the first time. */
  value: T | null = $state.raw(null);
  /** Why it could not be told the last time; empty when it was. */
  trouble = $state('');
  /** It may have changed, and is not asked for while somebody reads. */
  waiting = $state(false);

  private reading = false;
  private readonly refresher: Refresher;

  /** After events it is asked for again within `waitMs`. */
  constructor(
    private readonly load: () => Promise<T>,
    waitMs = 500,
  ) {
    this.refresher = new Refresher(() => this.reload(), waitMs);
  }

  /** Asks now, and again after events that `concern` it, until the returned function is called. */
  follow(live: Live, concern: (events: readonly Event[]) => boolean): () => void {
    void this.refresher.now();
    const leave = live.onNews((events) => {
      if (events !== null && !concern(events)) return;
      if (this.reading) this.waiting = true;
      else this.refresher.soon();
    });
    return () => {
      leave();
      this.refresher.stop();
    };
  }

  /** While somebody reads, nothing moves under their pointer. */
  setReading(reading: boolean): void {
    this.reading = reading;
    if (!reading && this.waiting) this.refresher.soon();
  }

  /** Asks now. */
  async reload(): Promise<void> {
    this.waiting = false;
    try {
      this.value = await this.load();
      this.trouble = '';
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.trouble = error.message;
    }
  }
}
