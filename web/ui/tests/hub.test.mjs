// The page, the real hub and a real agent, from end to end. PULSE_HUB_BIN and PULSE_AGENT_BIN name the binaries;
// the hub serves the page it was built with.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer as createReceiver } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import { launch, link, newPage, row, signIn, WAIT_MS } from './browser.mjs';

const EMAIL = 'kim@example.org';
const AGENT = 'edge one';
const DEVICE = 'demo service';

const running = new Set();
let folder;
let browser;
let page;
let account;
let target;
let receiver;
let agentKey;
let env;
let port;

before(async () => {
  for (const name of ['PULSE_HUB_BIN', 'PULSE_AGENT_BIN']) {
    assert.ok(process.env[name], `${name} must name the built binary`);
  }
  folder = await mkdtemp(join(tmpdir(), 'pulse-ui-hub-'));
  port = await freePort();
  env = {
    PATH: process.env.PATH,
    HOME: folder,
    PULSE_LISTEN: `127.0.0.1:${port}`,
    PULSE_OPS_LISTEN: `127.0.0.1:${await freePort()}`,
    PULSE_PUBLIC_URL: url(),
    PULSE_DATABASE_URL: `sqlite://${join(folder, 'pulse.db')}`,
    PULSE_EGRESS_ALLOW: '127.0.0.0/8',
    PULSE_HEARTBEAT_INTERVAL_MS: '1000',
    PULSE_HEARTBEAT_TIMEOUT_MS: '3000',
    PULSE_OFFLINE_GRACE_MS: '3000',
  };
  await startHub();
  const { stdout } = await promisify(execFile)(
    hubBinary(),
    ['admin', 'bootstrap', '--email', EMAIL, '--org', 'Demo', '--plan', 'trial'],
    { env, cwd: folder },
  );
  account = JSON.parse(stdout);
  target = createServer((socket) => socket.destroy());
  await listen(target, 0);
  const made = await post('agents', { name: AGENT });
  agentKey = made.api_key;
  await post('devices', {
    agent_id: made.agent.id,
    name: DEVICE,
    address: '127.0.0.1',
    checks: [{ check: 'tcp', port: target.address().port, interval_s: 1, timeout_ms: 1000 }],
  });
  browser = await launch();
  page = await newPage(browser);
});

after(async () => {
  await browser?.close();
  for (const child of running) await end(child, 'SIGKILL');
  target?.close();
  receiver?.closeAllConnections();
  receiver?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

describe('one agent’s life on the page', () => {
  let agent;

  it('signs in through the page and sees an agent that never connected', async () => {
    await signIn(page, url(), EMAIL, account.password);
    await link(page, 'live');
    assert.equal(new URL(page.url()).pathname, `/o/${account.org_id}`);
    await agentIs('Never connected');
    await page.evaluate(() => (window.sameDocument = true));
  });

  it('sees the agent come online, and its device', async () => {
    agent = await startAgent();
    await agentIs('Online');
    await deviceIs('Online');
  });

  it('sees the agent leave, and its device become unknown', async () => {
    await end(agent, 'SIGTERM');
    await agentIs('Offline');
    await deviceIs('Unknown');
    await page.waitForFunction(() => document.title.startsWith('1 agent offline'));
    await page.getByRole('listitem').filter({ hasText: 'it said it was shutting down' }).waitFor();
  });

  it('sees it come back', async () => {
    agent = await startAgent();
    await agentIs('Online');
    await deviceIs('Online');
  });

  it('is live again after the hub was killed and restarted, and sees what changes then', async () => {
    await end(hub, 'SIGKILL');
    await link(page, 'waiting');
    await startHub();
    await link(page, 'live');
    await new Promise((done) => target.close(done));
    await deviceIs('Offline');
    await page.waitForFunction(() => document.title.startsWith('1 device offline'));
    await agentIs('Online');
  });

  it('did all of it without a reload, a script error or a breach of its policy', async () => {
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    assert.deepEqual(page.faults, []);
  });

  it('signs out, and the session is over', async () => {
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    const status = await page.evaluate(() => fetch('/api/v1/me').then((answer) => answer.status));
    assert.equal(status, 401);
  });
});

describe('who is told, on the page', () => {
  /** What the receiver answers next; 200 when nothing is left. */
  const answers = [];
  const received = [];

  before(async () => {
    receiver = createReceiver((request, response) => {
      received.push(request.headers['webhook-id']);
      request.resume().on('end', () => response.writeHead(answers.shift() ?? 200).end('thank you'));
    });
    await listen(receiver, 0);
    await signIn(page, url(), EMAIL, account.password);
    await link(page, 'live');
    await page.getByRole('link', { name: 'Notifications' }).click();
  });

  it('makes a channel, is shown its secret once, and tests it', async () => {
    await page.getByRole('link', { name: 'Channels' }).click();
    await button('Make the first one').click();
    await dialog().getByText('Webhook', { exact: true }).click();
    await button('Create', dialog()).click();
    await dialog().locator('[aria-invalid=true]').first().waitFor();
    await dialog().getByLabel('Name').fill('pager');
    const hook = `http://127.0.0.1:${receiver.address().port}/hook`;
    await dialog().getByLabel('URL', { exact: true }).fill(hook);
    await dialog().getByLabel('Waits between attempts').fill('1 s, 1 s');
    await button('Create', dialog()).click();
    assert.match(await dialog().getByLabel('Secret').inputValue(), /^whsec_/);
    await button('I have kept it').click();
    await button('Test pager').click();
    await page.getByText(/^answered 200 in/).waitFor();
    assert.equal(received.length, 1);
  });

  it('makes a rule, after a preview of what it would have told', async () => {
    await page.getByRole('link', { name: 'Rules' }).click();
    await button('Make the first one').click();
    await dialog().getByLabel('Name', { exact: true }).fill('New agents');
    for (const box of await dialog().getByRole('checkbox', { name: 'goes offline' }).all()) {
      await box.uncheck();
    }
    await dialog().getByLabel('is enrolled').check();
    await dialog().getByLabel('pager').check();
    await button('Preview', dialog()).click();
    await dialog()
      .getByText(/it would have told 1 message/)
      .waitFor();
    await dialog().getByText(AGENT).waitFor();
    await button('Create', dialog()).click();
    await page.getByText('New agents is saved').waitFor();
  });

  it('sees a delivery fail, be tried again, and arrive, with every attempt', async () => {
    await page.getByRole('link', { name: 'Deliveries' }).click();
    await page.getByText('Nothing was sent yet').waitFor();
    answers.push(503);
    await post('agents', { name: 'edge two' });
    const row = page.getByRole('row').filter({ hasText: 'edge two' }).first();
    await row.getByText('Delivered', { exact: true }).waitFor();
    await row.getByRole('button', { name: /attempts of agent.enrolled/ }).click();
    const attempts = page.getByRole('list', { name: 'Attempts' }).getByRole('listitem');
    await attempts.nth(1).getByText('Accepted').waitFor();
    await attempts.nth(0).getByText('503').waitFor();
    assert.equal(await attempts.count(), 2);
    assert.equal(received.at(-1), received.at(-2));
    assert.deepEqual(page.faults, []);
  });
});

function button(name, where = page) {
  return where.getByRole('button', { name });
}

function dialog() {
  return page.getByRole('dialog').last();
}

let hub;

async function startHub() {
  hub = start(hubBinary(), ['serve'], env);
  await until('the hub is ready', async () => (await fetch(`${url()}/readyz`)).ok);
}

async function startAgent() {
  const data = join(folder, 'agent');
  await mkdir(data, { recursive: true });
  return start(resolve(process.env.PULSE_AGENT_BIN), [], {
    PATH: process.env.PATH,
    PULSE_HUB_URL: url(),
    PULSE_AGENT_KEY: agentKey,
    PULSE_AGENT_DATA_DIR: data,
    PULSE_AGENT_NETWORKS: 'off',
  });
}

function agentIs(word) {
  return page
    .getByRole('button', { name: new RegExp(`^${AGENT}`) })
    .getByText(word, { exact: true })
    .waitFor({ timeout: 2 * WAIT_MS });
}

function deviceIs(word) {
  return row(page, DEVICE)
    .getByText(word, { exact: true })
    .waitFor({ timeout: 2 * WAIT_MS });
}

function start(binary, args, childEnv) {
  const child = spawn(binary, args, {
    env: childEnv,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.log = '';
  child.stderr.on('data', (text) => (child.log = (child.log + text).slice(-8_000)));
  running.add(child);
  child.once('exit', (code, signal) => {
    running.delete(child);
    if (!child.wanted) console.error(`${binary} ended (${code ?? signal}):\n${child.log}`);
  });
  return child;
}

async function end(child, signal) {
  if (!running.has(child)) return;
  child.wanted = true;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

async function post(path, body) {
  const answer = await fetch(`${url()}/api/v1/orgs/${account.org_id}/${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${account.api_token}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  assert.equal(answer.status, 201, text);
  return JSON.parse(text);
}

async function until(what, condition) {
  const deadline = Date.now() + 2 * WAIT_MS;
  for (;;) {
    const met = await condition().catch(() => false);
    if (met) return;
    assert.ok(running.has(hub), `${what}: the hub ended\n${hub.log}`);
    assert.ok(Date.now() < deadline, `${what}: not within ${2 * WAIT_MS} ms\n${hub.log}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function freePort() {
  const server = createServer();
  await listen(server, 0);
  const { port: free } = server.address();
  await new Promise((done) => server.close(done));
  return free;
}

function listen(server, at) {
  return new Promise((done) => server.listen(at, '127.0.0.1', done));
}

function hubBinary() {
  return resolve(process.env.PULSE_HUB_BIN);
}

function url() {
  return `http://127.0.0.1:${port}`;
}
