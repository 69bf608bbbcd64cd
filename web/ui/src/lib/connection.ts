/**
 * One dashboard session with the hub, kept alive: connects, listens, and comes back after every loss.
 *
 * What it reads is handed on; where to resume is asked for at each attempt. It ends by itself only where
 * coming back is pointless: nobody is signed in, the org is not the viewer's, or it is suspended.
 */

import type { DashboardFrame, ViewerFrame } from './protocol';

export const SUBPROTOCOL = 'pulse.dashboard.v1';
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MOST_MS = 30_000;
const PING_EVERY_MS = 20_000;
const PONG_WITHIN_MS = 10_000;
const OPEN_WITHIN_MS = 15_000;
/** A connection that lasted this long was a good one: the next loss starts with a short wait again. */
const STEADY_AFTER_MS = 5_000;

const CLOSE_ORG_SUSPENDED = 4004;
const CLOSE_SESSION_ENDED = 4401;
const CLOSE_MEMBERSHIP_ENDED = 4403;

/** Why there is no coming back without the person. */
export type StopReason = 'signed_out' | 'no_org' | 'suspended';

export type LinkStatus =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  | { readonly kind: 'waiting'; readonly until: number }
  | { readonly kind: 'stopped'; readonly reason: StopReason };

/** The part of a browser's `WebSocket` that is used. */
export type Socket = Pick<
  WebSocket,
  'onopen' | 'onmessage' | 'onclose' | 'readyState' | 'send' | 'close'
>;

export interface Ports {
  open(after: number | null): Socket;
  /** Where to resume; null for a snapshot. */
  resumeAfter(): number | null;
  /** Asks over HTTP why a handshake was refused; null when trying again makes sense. */
  probe(): Promise<StopReason | null>;
  onFrame(frame: DashboardFrame): void;
  onStatus(status: LinkStatus): void;
  random(): number;
}

/** The wait before attempt `n` (0 is the first after a loss), with full jitter. */
export function backoffMs(n: number, random: number): number {
  return random * Math.min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS * 2 ** n);
}

export class Connection {
  private readonly ports: Ports;
  private socket: Socket | null = null;
  private status: LinkStatus = { kind: 'connecting' };
  private attempt = 0;
  private liveAt = 0;
  private nonce = 0;
  private stopped = false;
  private fresh = false;
  private timers = new Map<'retry' | 'ping' | 'pong' | 'open', ReturnType<typeof setTimeout>>();

  constructor(ports: Ports) {
    this.ports = ports;
  }

  start(): void {
    this.stopped = false;
    this.connect();
  }

  /** Ends for good. */
  stop(): void {
    this.stopped = true;
    this.drop();
    this.cancelAll();
  }

  /** Tries now instead of waiting. */
  retryNow(): void {
    if (this.status.kind === 'waiting') {
      this.connect();
    }
  }

  /** Finds out soon whether the connection still lives, such as after the machine slept. */
  check(): void {
    if (this.status.kind === 'live') {
      this.ping();
    }
    this.retryNow();
  }

  /** Leaves this connection for a new one; with `fresh` that one starts from a snapshot. */
  reconnect(fresh: boolean): void {
    this.fresh = fresh;
    this.drop();
    this.lost();
  }

  private connect(): void {
    this.cancelAll();
    this.drop();
    this.become({ kind: 'connecting' });
    const after = this.fresh ? null : this.ports.resumeAfter();
    this.fresh = false;
    const socket = this.ports.open(after);
    this.socket = socket;
    let opened = false;
    this.after('open', OPEN_WITHIN_MS, () => {
      this.drop();
      this.lost();
    });
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = (message) => this.heard(message.data as string);
    socket.onclose = (closing) => {
      this.socket = null;
      void this.closed(closing.code, opened);
    };
  }

  private heard(text: string): void {
    this.cancel('open');
    this.cancel('pong');
    if (this.status.kind !== 'live') {
      this.liveAt = Date.now();
      this.become({ kind: 'live' });
      this.schedulePing();
    }
    const frame = JSON.parse(text) as DashboardFrame;
    if (frame.type !== 'pong') {
      this.ports.onFrame(frame);
    }
  }

  private async closed(code: number, opened: boolean): Promise<void> {
    this.cancelAll();
    const reason = opened ? stopReason(code) : await this.ports.probe();
    // While the probe ran, someone may have stopped or restarted this.
    if (this.stopped || this.socket) {
      return;
    }
    if (reason) {
      this.become({ kind: 'stopped', reason });
    } else {
      this.lost();
    }
  }

  private lost(): void {
    this.cancelAll();
    if (this.stopped) {
      return;
    }
    if (this.liveAt > 0 && Date.now() - this.liveAt >= STEADY_AFTER_MS) {
      this.attempt = 0;
    }
    this.liveAt = 0;
    const wait = backoffMs(this.attempt, this.ports.random());
    this.attempt += 1;
    this.become({ kind: 'waiting', until: Date.now() + wait });
    this.after('retry', wait, () => this.connect());
  }

  private schedulePing(): void {
    this.after('ping', PING_EVERY_MS, () => this.ping());
  }

  private ping(): void {
    this.nonce += 1;
    const frame: ViewerFrame = { type: 'ping', nonce: this.nonce };
    this.socket?.send(JSON.stringify(frame));
    this.after('pong', PONG_WITHIN_MS, () => {
      this.drop();
      this.lost();
    });
    this.schedulePing();
  }

  /** A socket that hangs may take minutes to close, so nothing waits for it. */
  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  private become(status: LinkStatus): void {
    this.status = status;
    this.ports.onStatus(status);
  }

  private after(name: 'retry' | 'ping' | 'pong' | 'open', ms: number, run: () => void): void {
    this.cancel(name);
    this.timers.set(name, setTimeout(run, ms));
  }

  private cancel(name: 'retry' | 'ping' | 'pong' | 'open'): void {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }

  private cancelAll(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }
}

function stopReason(code: number): StopReason | null {
  switch (code) {
    case CLOSE_SESSION_ENDED:
      return 'signed_out';
    case CLOSE_MEMBERSHIP_ENDED:
      return 'no_org';
    case CLOSE_ORG_SUSPENDED:
      return 'suspended';
    default:
      return null;
  }
}
