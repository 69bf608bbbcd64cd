// A hub of a few hundred lines for the page's tests: speaks the protocol, and does what a test tells it.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { WebSocketServer } from 'ws';

import { answer, id, PREVIEW, samples } from './fake-notify.mjs';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const CSP =
  "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; " +
  "img-src 'self' data:; frame-ancestors 'none'";
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

export const ORG = 'org_01h2xcejqtf2nbrexx3vqjhp41';
export const OTHER_ORG = 'org_01h2xcejqtf2nbrexx3vqjhp42';
export const EMAIL = 'kim@example.org';
export const PASSWORD = 'correct horse';

const ago = (s) => new Date(Date.now() - s * 1000).toISOString();

export class FakeHub {
  orgs = [{ id: ORG, name: 'Acme Networks', slug: 'acme', role: 'owner' }];
  signedIn = false;
  agents = [];
  devices = [];
  segments = [];
  channels = [];
  deliveries = [];
  rules = [];
  alerts = [];
  windows = [];
  mails = [];
  preview = PREVIEW;
  journal = [];
  /** What was asked about notifications, oldest first. */
  asked = [];
  /** The queries of all handshakes, oldest first. */
  handshakes = [];
  /** With this set, handshakes resume to what a test says instead of what the journal holds. */
  onResume = null;
  sockets = new Set();

  get seq() {
    return this.journal.length;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(port = 0) {
    this.server = createServer((request, response) => void this.#http(request, response));
    this.wss = new WebSocketServer({ noServer: true, handleProtocols: () => 'pulse.dashboard.v1' });
    this.server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((done) => this.server.listen(port, '127.0.0.1', done));
    this.port = this.server.address().port;
    return this;
  }

  /** As a kill would: every connection breaks, and the port is closed. */
  async stop() {
    for (const socket of this.sockets) socket.terminate();
    this.sockets.clear();
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  fill(agents, devices) {
    const states = [
      'online',
      'online',
      'online',
      'lingering',
      'offline',
      'never_connected',
      'disabled',
    ];
    this.agents = Array.from({ length: agents }, (_, i) => ({
      id: id('agt', i),
      name: `site ${i + 1}`,
      enabled: true,
      state: agents === 1 ? 'online' : states[i % states.length],
      since: ago(3600 * i + 40),
      last_seen_at: i % 7 === 5 ? null : ago(i + 1),
      version: '0.1.0',
      hostname: `probe-${i + 1}.example.org`,
      platform: 'linux',
      key_prefix: 'vp_acme0000_ab12',
    }));
    this.segments = this.agents.map((agent, i) => ({
      id: id('seg', i),
      agent_id: agent.id,
      name: 'office',
      cidr: `10.${i}.0.0/16`,
      scan_interval_s: 3600,
      enabled: true,
      last_scan_at: null,
    }));
    const kinds = ['switch', 'camera', 'printer', 'access point', 'server', 'gateway'];
    this.devices = Array.from({ length: devices }, (_, i) => {
      const status =
        i % 23 === 3 ? 'offline' : i % 31 === 5 ? 'degraded' : i % 41 === 7 ? 'unknown' : 'online';
      return {
        id: id('dev', i),
        agent_id: id('agt', i % agents),
        segment_id: id('seg', i % agents),
        category_id: null,
        name: `${kinds[i % kinds.length]} ${i + 1}`,
        address: `10.${i % agents}.${(i >> 8) & 255}.${i & 255}`,
        status,
        since: ago(7 * i + 5),
        response_time_ms: status === 'offline' ? null : (i * 7.3) % 90,
        checks: [check(i, 'ping', status), { ...check(i + 100_000, 'tcp', status), port: 22 }],
      };
    });
    for (const device of this.devices.filter((each) => each.status === 'offline').slice(0, 30)) {
      this.record('device.offline', statusOf(device, 'online', 'offline'));
    }
    Object.assign(this, samples(this.devices));
    return this;
  }

  /** Adds an event to the journal without telling anyone. */
  record(event, data) {
    const seq = this.seq + 1;
    const entry = { seq, id: id('evt', seq), event, at: new Date().toISOString(), data };
    this.journal.push(entry);
    return entry;
  }

  /** Adds an event and pushes it. */
  tell(event, data) {
    this.push({ type: 'event', ...this.record(event, data) });
  }

  push(frame) {
    const text = JSON.stringify(frame);
    for (const socket of this.sockets) socket.send(text);
  }

  deviceTurns(index, current, more = {}) {
    const device = this.devices[index];
    const data = { ...statusOf(device, device.status, current), ...more };
    Object.assign(device, {
      status: current,
      since: data.since,
      response_time_ms: data.response_time_ms,
    });
    this.tell(`device.${current}`, data);
  }

  agentTurns(index, current, cause = 'connection_closed', silently = false) {
    const agent = this.agents[index];
    const since = new Date().toISOString();
    const data = {
      agent_id: agent.id,
      name: agent.name,
      previous: agent.state,
      current,
      since,
      cause,
    };
    Object.assign(agent, { state: current, since });
    if (silently) this.record(`agent.${current}`, data);
    else this.tell(`agent.${current}`, data);
  }

  snapshot() {
    const counts = {
      agents: this.agents.length,
      agents_online: 0,
      devices: this.devices.length,
      devices_online: 0,
      devices_degraded: 0,
      devices_offline: 0,
      devices_unknown: 0,
    };
    for (const agent of this.agents) if (agent.state === 'online') counts.agents_online += 1;
    for (const device of this.devices) counts[`devices_${device.status}`] += 1;
    return {
      type: 'snapshot',
      seq: this.seq,
      org: org(this.orgs[0]),
      agents: this.agents,
      devices: this.devices,
      segments: this.segments,
      scans: [],
      channels: this.channels,
      counts,
    };
  }

  #upgrade(request, socket, head) {
    const url = new URL(request.url, this.url);
    const wanted = url.searchParams.get('org');
    this.handshakes.push({ org: wanted, after: url.searchParams.get('after') });
    const refuse = (status) =>
      socket.end(`HTTP/1.1 ${status} Refused\r\nconnection: close\r\n\r\n`);
    if (url.pathname !== '/ws/dashboard') return refuse(404);
    if (!this.signedIn) return refuse(401);
    if (!this.orgs.some((each) => each.id === wanted)) return refuse(404);
    this.wss.handleUpgrade(request, socket, head, (ws) =>
      this.#session(ws, url.searchParams.get('after')),
    );
  }

  #session(ws, after) {
    this.sockets.add(ws);
    ws.on('close', () => this.sockets.delete(ws));
    ws.on('message', (text) => {
      const frame = JSON.parse(text);
      if (frame.type === 'ping') ws.send(JSON.stringify({ type: 'pong', nonce: frame.nonce }));
    });
    const send = (frame) => ws.send(JSON.stringify(frame));
    if (after === null) return send(this.snapshot());
    if (this.onResume) return this.onResume(send);
    const missed = this.journal.slice(Number(after));
    if (missed.length === 0) return send({ type: 'ready', seq: this.seq });
    for (const event of missed) send({ type: 'event', ...event });
  }

  async #http(request, response) {
    const url = new URL(request.url, this.url);
    if (url.pathname.startsWith('/api/')) return this.#api(request, url, response);
    await this.#file(url.pathname, response);
  }

  async #file(path, response) {
    const name = extname(path) === '' ? '/index.html' : normalize(path);
    try {
      const body = await readFile(join(DIST, name));
      response.writeHead(200, {
        'content-type': TYPES[extname(name)],
        'content-security-policy': CSP,
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  }

  async #api(request, url, response) {
    let text = '';
    for await (const chunk of request) text += chunk;
    const route = `${request.method} ${url.pathname.replace('/api/v1', '')}`;
    const json = (status, body, headers = {}) => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(body === undefined ? '' : JSON.stringify(body));
    };
    const problem = (status, code, detail, more = {}) =>
      json(status, {
        type: `/problems/${code}`,
        title: code,
        status,
        detail,
        code,
        request_id: 'r',
        ...more,
      });

    if (route === 'POST /auth/login') {
      const { email, password } = JSON.parse(text);
      if (email !== EMAIL || password !== PASSWORD) {
        return problem(401, 'unauthenticated', 'This e-mail and password do not match.');
      }
      this.signedIn = true;
      return json(
        200,
        { user, csrf_token: 'csrf' },
        { 'set-cookie': 'pulse_session=s; HttpOnly; Path=/' },
      );
    }
    if (!this.signedIn) return problem(401, 'unauthenticated', 'Sign in first.');
    if (request.method !== 'GET' && request.headers['x-csrf-token'] !== 'csrf') {
      return problem(403, 'forbidden', 'The CSRF token is missing.');
    }
    if (route === 'GET /me') return json(200, { user, csrf_token: 'csrf', orgs: this.orgs });
    if (route === 'POST /auth/logout') {
      this.signedIn = false;
      return json(204);
    }
    const [, orgId, rest] =
      /^\/orgs\/([^/]+)\/?(.*)$/.exec(url.pathname.replace('/api/v1', '')) ?? [];
    const mine = this.orgs.find((each) => each.id === orgId);
    if (!mine) return problem(404, 'not_found', 'There is no such organisation.');
    if (rest === '') return json(200, org(mine));
    if (rest === 'events') {
      const after = Number(url.searchParams.get('after'));
      const items = this.journal.slice(after, after + Number(url.searchParams.get('limit')));
      return json(200, { items, next_cursor: null });
    }
    const asked = {
      method: request.method,
      path: rest,
      params: url.searchParams,
      body: text === '' ? {} : JSON.parse(text),
    };
    if (answer(this, asked, { json, problem })) return undefined;
    return problem(404, 'not_found', 'There is no such page.');
  }
}

const user = { id: 'usr_01h2xcejqtf2nbrexx3vqjhp41', email: EMAIL, name: 'Kim' };

function org({ id, name, slug }) {
  return {
    id,
    name,
    slug,
    plan: 'unlimited',
    status: 'active',
    limits: { agents: 100, devices: 5000, users: 10, api_calls_month: 1_000_000 },
    heartbeat_interval_ms: 5000,
    heartbeat_timeout_ms: 12_000,
    offline_grace_ms: 5000,
  };
}

function check(n, kind, status) {
  return {
    id: id('chk', n),
    check: kind,
    port: null,
    url: null,
    interval_s: 60,
    timeout_ms: 5000,
    failure_threshold: 1,
    expect: null,
    status,
  };
}

function statusOf(device, previous, current) {
  return {
    device_id: device.id,
    name: device.name,
    address: device.address,
    agent_id: device.agent_id,
    segment_id: device.segment_id,
    previous,
    current,
    since: new Date().toISOString(),
    cause: current === 'unknown' ? 'agent_offline' : 'check',
    response_time_ms: current === 'offline' ? null : 12.5,
    ...(current === 'offline' ? { error: 'no answer within 5,000 ms' } : {}),
  };
}
