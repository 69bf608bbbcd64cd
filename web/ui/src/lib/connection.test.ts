import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Connection, type LinkStatus, type Socket, type StopReason, backoffMs } from './connection';

class FakeSocket implements Socket {
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  readyState = 1 as const;
  sent: string[] = [];
  closed = false;

  send(text: unknown): void {
    this.sent.push(text as string);
  }

  close(): void {
    this.closed = true;
  }

  hears(frame: object): void {
    this.onopen?.call(this as never, {} as Event);
    this.onmessage?.call(this as never, { data: JSON.stringify(frame) } as MessageEvent);
  }

  async closes(code: number): Promise<void> {
    this.onclose?.call(this as never, { code } as CloseEvent);
    await vi.advanceTimersByTimeAsync(0);
  }
}

function setUp(probed: StopReason | null = null) {
  const sockets: FakeSocket[] = [];
  const asked: (number | null)[] = [];
  const seen: LinkStatus[] = [];
  let seq: number | null = null;
  const connection = new Connection({
    open: (after) => {
      asked.push(after);
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    resumeAfter: () => seq,
    probe: () => Promise.resolve(probed),
    onFrame: (frame) => {
      if ('seq' in frame && typeof frame.seq === 'number') seq = frame.seq;
    },
    onStatus: (status) => seen.push(status),
    random: () => 0.5,
  });
  connection.start();
  const last = () => sockets.at(-1) as FakeSocket;
  return { connection, sockets, asked, seen, last, kinds: () => seen.map((each) => each.kind) };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('the back-off', () => {
  it('doubles from half a second to half a minute, with full jitter', () => {
    expect([0, 1, 2, 6, 20].map((n) => backoffMs(n, 1))).toEqual([500, 1000, 2000, 30_000, 30_000]);
    expect(backoffMs(6, 0)).toBe(0);
  });
});

describe('the connection', () => {
  it('is live from the first frame on, and resumes where it was', async () => {
    const { asked, last, kinds } = setUp();
    last().hears({ type: 'snapshot', seq: 7 });
    await last().closes(1006);
    await vi.advanceTimersByTimeAsync(250);
    last().hears({ type: 'ready', seq: 7 });
    expect(asked).toEqual([null, 7]);
    expect(kinds()).toEqual(['connecting', 'live', 'waiting', 'connecting', 'live']);
  });

  it('waits longer after each loss, and little again after a steady time', async () => {
    const { last, seen } = setUp();
    const waits: number[] = [];
    for (const steady of [0, 0, 6000]) {
      last().hears({ type: 'ready', seq: 1 });
      await vi.advanceTimersByTimeAsync(steady);
      await last().closes(1006);
      const status = seen.at(-1);
      if (status?.kind === 'waiting') waits.push(status.until - Date.now());
      await vi.advanceTimersByTimeAsync(1000);
    }
    expect(waits).toEqual([250, 500, 250]);
  });

  it('tries at once when asked to', async () => {
    const { connection, sockets, last } = setUp();
    await last().closes(1006);
    connection.retryNow();
    expect(sockets.length).toBe(2);
    await vi.advanceTimersByTimeAsync(1000);
    expect(sockets.length).toBe(2);
  });

  it.each([
    [4401, 'signed_out'],
    [4403, 'no_org'],
    [4004, 'suspended'],
  ])('ends at close code %i', async (code, reason) => {
    const { last, seen, sockets } = setUp();
    last().hears({ type: 'ready', seq: 1 });
    await last().closes(code);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.at(-1)).toEqual({ kind: 'stopped', reason });
    expect(sockets.length).toBe(1);
  });

  it('asks why a handshake was refused', async () => {
    const { last, seen } = setUp('signed_out');
    await last().closes(1006);
    expect(seen.at(-1)).toEqual({ kind: 'stopped', reason: 'signed_out' });
  });

  it('pings, and leaves a connection that does not answer', async () => {
    const { last, sockets, kinds } = setUp();
    const first = last();
    first.hears({ type: 'ready', seq: 1 });
    await vi.advanceTimersByTimeAsync(20_000);
    expect(JSON.parse(first.sent[0] as string)).toEqual({ type: 'ping', nonce: 1 });
    first.hears({ type: 'pong', nonce: 1 });
    await vi.advanceTimersByTimeAsync(20_000);
    expect(first.sent.length).toBe(2);
    expect(first.closed).toBe(false);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(first.closed).toBe(true);
    expect(kinds().at(-1)).toBe('waiting');
    await vi.advanceTimersByTimeAsync(500);
    expect(sockets.length).toBe(2);
  });

  it('gives up a handshake that hangs', async () => {
    const { last, kinds } = setUp();
    const first = last();
    await vi.advanceTimersByTimeAsync(15_000);
    expect([first.closed, kinds().at(-1)]).toEqual([true, 'waiting']);
  });

  it('starts from a snapshot when told to', async () => {
    const { connection, asked, last } = setUp();
    last().hears({ type: 'snapshot', seq: 7 });
    connection.reconnect(true);
    await vi.advanceTimersByTimeAsync(500);
    connection.reconnect(false);
    await vi.advanceTimersByTimeAsync(1000);
    expect(asked).toEqual([null, null, 7]);
  });

  it('does nothing more once stopped', async () => {
    const { connection, sockets, last } = setUp();
    last().hears({ type: 'ready', seq: 1 });
    connection.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect([sockets.length, sockets[0]?.closed]).toEqual([1, true]);
  });
});
