/** Gathers frames and hands them on once per animation frame. */

/** Most frames in one batch: a long backlog is spread, so that no task becomes long. */
const BATCH_MOST = 500;
/** Animation frames stop in a hidden tab; the state goes on, a little less often. */
const HIDDEN_EVERY_MS = 500;

export class Batch<T> {
  private waiting: T[] = [];
  private cancel: (() => void) | null = null;
  private readonly take: (items: T[]) => void;

  constructor(take: (items: T[]) => void) {
    this.take = take;
  }

  push(item: T): void {
    this.waiting.push(item);
    this.schedule();
  }

  clear(): void {
    this.cancel?.();
    this.cancel = null;
    this.waiting = [];
  }

  private schedule(): void {
    if (this.cancel) {
      return;
    }
    const run = () => {
      this.clearTimers();
      const items = this.waiting.splice(0, BATCH_MOST);
      if (this.waiting.length > 0) this.schedule();
      this.take(items);
    };
    // Both, because a tab may be hidden between asking for a frame and getting it.
    const frame = requestAnimationFrame(run);
    const timer = setTimeout(run, HIDDEN_EVERY_MS);
    this.cancel = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    };
  }

  private clearTimers(): void {
    this.cancel?.();
    this.cancel = null;
  }
}
