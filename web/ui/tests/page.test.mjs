// The built page in a real browser, against a hub that does as it is told. Figures are printed, never asserted:
// they depend on the machine.

import assert from 'node:assert/strict';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';

import { launch, link, newPage, row, signIn } from './browser.mjs';
import { EMAIL, FakeHub, ORG, OTHER_ORG, PASSWORD } from './fake-hub.mjs';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const TABS = ['events', 'alerts', 'deliveries', 'rules', 'channels', 'maintenance', 'mail'];

let browser;
let page;
let hub;

before(async () => {
  browser = await launch();
});
after(() => browser.close());

beforeEach(async () => {
  hub = await new FakeHub().start();
  page = await newPage(browser);
});
afterEach(async () => {
  assert.deepEqual(page.faults, []);
  await page.context().close();
  await hub.stop();
});

/** Opens the org's page as someone who signed in before. */
async function open(path = `/o/${ORG}`) {
  hub.signedIn = true;
  await page.goto(hub.url + path);
  await link(page, 'live');
}

describe('signing in', () => {
  it('says what is wrong, asks again, and leads to the org', async () => {
    hub.fill(1, 3);
    await page.goto(hub.url);
    await page.waitForFunction(() => document.activeElement?.getAttribute('name') === 'email');
    await page.getByLabel('E-mail').fill(EMAIL);
    await page.getByLabel('Password').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('do not match').waitFor();
    await page.waitForFunction(() => document.activeElement?.getAttribute('name') === 'password');
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press('Enter');
    await link(page, 'live');
    assert.equal(new URL(page.url()).pathname, `/o/${ORG}`);
    await row(page, 'switch 1').waitFor();
  });

  it('leads back to where someone wanted to go', async () => {
    hub.fill(1, 3);
    await signIn(page, `${hub.url}/o/${ORG}/channels`, EMAIL, PASSWORD);
    await page.getByRole('heading', { name: 'Channels' }).waitFor();
    await page.getByText('ticket system').waitFor();
  });

  it('asks which org, when there are several', async () => {
    hub.fill(1, 3);
    hub.orgs.push({ id: OTHER_ORG, name: 'Other', slug: 'other', role: 'viewer' });
    await signIn(page, hub.url, EMAIL, PASSWORD);
    await page.getByRole('link', { name: 'Acme Networks' }).click();
    await link(page, 'live');
  });

  it('ends when asked to', async () => {
    hub.fill(1, 3);
    await open();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    assert.equal(hub.signedIn, false);
  });
});

describe('live state', () => {
  it('shows changes as they come, in the list, the counts, the feed and the title', async () => {
    hub.fill(1, 3);
    await open();
    hub.deviceTurns(0, 'offline');
    await row(page, 'switch 1').getByText('Offline').waitFor();
    await page.getByRole('listitem').filter({ hasText: 'no answer within' }).first().waitFor();
    await page.waitForFunction(() => document.title.startsWith('1 device offline'));
    hub.agentTurns(0, 'offline');
    await page.waitForFunction(() => document.title.startsWith('1 agent, 1 device offline'));
    hub.deviceTurns(0, 'online');
    hub.agentTurns(0, 'online', 'connected');
    await page.waitForFunction(() => document.title.startsWith('Acme Networks'));
  });

  it('filters, searches, sorts and groups', async () => {
    hub.fill(7, 200);
    await open();
    await page
      .getByRole('button', { name: /Offline$/ })
      .and(page.locator('.chip'))
      .click();
    await page.getByText('9 of 200 devices').waitFor();
    await page.getByRole('searchbox').fill('switch 10.3');
    await page.waitForFunction(() => location.search.includes('q=switch'));
    await page.getByRole('searchbox').fill('no such thing');
    await page.getByRole('button', { name: 'Show all devices' }).click();
    await page.getByLabel('By agent').uncheck();
    await page.getByRole('button', { name: 'Address' }).click();
    const first = page.locator('[role=row][aria-rowindex="2"]');
    await first.getByText('10.0.0.0', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Address' }).click();
    await first.getByText('10.6.0.195', { exact: true }).waitFor();
    await page.reload();
    await first.getByText('10.6.0.195', { exact: true }).waitFor();
  });

  it('holds the feed still while someone reads it', async () => {
    hub.fill(1, 3);
    await open();
    hub.deviceTurns(0, 'degraded');
    const feed = page.getByRole('list', { name: /Events/ });
    await feed.getByText('is degraded').first().waitFor();
    await feed.hover();
    hub.deviceTurns(0, 'online');
    await page.getByRole('button', { name: '1 new: show' }).waitFor();
    assert.equal(await feed.getByText('answering in').count(), 0);
    await page.mouse.move(10, 10);
    await feed.getByText('answering in').first().waitFor();
  });

  it('loads what happened before, page by page', async () => {
    hub.fill(1, 3);
    for (let i = 0; i < 250; i += 1)
      hub.record('channel.updated', { channel_id: 'c', name: `n${i}`, channel: hub.channels[0] });
    await open(`/o/${ORG}/events`);
    const last = () => page.locator('[role=listitem]').first().getAttribute('aria-setsize');
    await page.locator('[role=listitem][aria-setsize="100"]').first().waitFor();
    await page.getByRole('button', { name: 'Earlier' }).click();
    await page.locator('[role=listitem][aria-setsize="200"]').first().waitFor();
    await page.getByRole('button', { name: 'Earlier' }).click();
    await page.locator('[role=listitem][aria-setsize="250"]').first().waitFor();
    assert.equal(await last(), '250');
    assert.equal(await page.getByRole('button', { name: 'Earlier' }).count(), 0);
  });
});

describe('the connection', () => {
  it('resumes after the hub was away, without a reload and without a snapshot', async () => {
    hub.fill(2, 4);
    await open();
    await page.evaluate(() => (window.sameDocument = true));
    const { port, seq } = hub;
    await hub.stop();
    await link(page, 'waiting');
    hub.agentTurns(0, 'offline', 'connection_closed', true);
    await hub.start(port);
    await link(page, 'live');
    await page.waitForFunction(() => document.title.startsWith('1 agent'));
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    assert.deepEqual(hub.handshakes.at(-1), { org: ORG, after: String(seq) });
  });

  it('takes the snapshot after a resync', async () => {
    hub.fill(2, 4);
    await open();
    hub.push({ type: 'resync', reason: 'slow_consumer' });
    await page.getByText('Catching up').first().waitFor();
    hub.record('org.updated', { org_id: ORG, name: 'Acme', status: 'active', changed: 'settings' });
    hub.agents = [{ ...hub.agents[0], name: 'renamed' }];
    hub.push(hub.snapshot());
    await page.getByRole('button', { name: /renamed/ }).waitFor();
    await link(page, 'live');
  });

  it('closes a gap by resuming, and takes a snapshot when that leaves it open', async () => {
    hub.fill(2, 4);
    await open();
    hub.record('agent.offline', {});
    hub.journal.at(-1).data = {
      agent_id: hub.agents[1].id,
      name: 'site 2',
      previous: 'online',
      current: 'offline',
      since: new Date().toISOString(),
      cause: 'connection_closed',
    };
    hub.agentTurns(0, 'offline');
    await page.waitForFunction(() => document.title.startsWith('2 agents'));
    assert.equal(hub.handshakes.at(-1).after, String(hub.seq - 2));

    hub.agents[1].state = 'offline';
    const broken = hub.seq + 2;
    hub.onResume = (send) => send({ type: 'ready', seq: broken });
    hub.record('org.updated', { org_id: ORG, name: 'Acme', status: 'active', changed: 'settings' });
    hub.agentTurns(0, 'online', 'connected');
    await page.waitForFunction(() => document.title.startsWith('1 agent'));
    assert.equal(hub.handshakes.at(-1).after, null);
  });

  it('goes to the sign-in when the session ends, to the orgs when the membership does', async () => {
    hub.fill(1, 3);
    await open();
    hub.signedIn = false;
    for (const socket of hub.sockets) socket.close(4401);
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    assert.match(page.url(), /login\?next=/);

    hub.orgs.push({ id: OTHER_ORG, name: 'Other', slug: 'other', role: 'viewer' });
    await signIn(page, hub.url, EMAIL, PASSWORD);
    await page.getByRole('link', { name: 'Acme Networks' }).click();
    await link(page, 'live');
    for (const socket of hub.sockets) socket.close(4403);
    await page.getByRole('heading', { name: 'Choose an organisation' }).waitFor();
  });

  it('goes to the orgs when the one of the address is not the viewer’s', async () => {
    hub.orgs.push({ id: OTHER_ORG, name: 'Other', slug: 'other', role: 'viewer' });
    hub.signedIn = true;
    await page.goto(`${hub.url}/o/org_00000000000000000000000000`);
    await page.getByRole('heading', { name: 'Choose an organisation' }).waitFor();
  });
});

describe('for everyone', () => {
  it('can be worked with the keyboard alone', async () => {
    hub.fill(7, 300);
    await open();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Skip to content');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'main');
    await page.keyboard.press('/');
    await page.waitForFunction(() => document.activeElement?.getAttribute('type') === 'search');

    const grid = page.getByRole('grid');
    const cursor = () => grid.getAttribute('aria-activedescendant');
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('role'));
    for (let i = 0; i < 5 && (await focused()) !== 'grid'; i += 1) await page.keyboard.press('Tab');
    assert.equal(await focused(), 'grid');
    assert.match(await cursor(), /^row-group-/);
    await page.keyboard.press('End');
    const last = await cursor();
    await page.locator(`#${last}`).waitFor();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowDown');
    assert.match(await cursor(), /^row-dev_/);
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').getByText('Address').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    assert.equal(await focused(), 'grid');
  });

  it('breaks no accessibility rule on any page, light and dark', async () => {
    hub.fill(7, 60);
    const violations = [];
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const path of ['', ...TABS.map((tab) => `/${tab}`)]) {
        await open(`/o/${ORG}${path}`);
        await page.locator('h1').waitFor();
        violations.push(...(await check(`${colorScheme} ${path}`)));
      }
      await open();
      await row(page, 'switch 1').click();
      await page.getByRole('dialog').getByText('port 22').waitFor();
      violations.push(...(await check(`${colorScheme} device`)));
      hub.agents = [];
      await open();
      violations.push(...(await check(`${colorScheme} empty`)));
      hub.signedIn = false;
      await page.goto(hub.url);
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      violations.push(...(await check(`${colorScheme} login`)));
      hub.fill(7, 60);
    }
    assert.deepEqual(violations, []);
  });

  async function check(where) {
    // Playwright evaluates outside of the page's content security policy.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    return violations.map(
      ({ id, nodes }) => `${where}: ${id} ${nodes.map((node) => node.html).join(' ')}`,
    );
  }

  it('looks right: pictures in light and dark, wide and narrow', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'pulse-ui-'));
    hub.fill(9, 400);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const [size, width, height] of [
        ['wide', 1440, 900],
        ['middle', 1000, 700],
        ['narrow', 390, 844],
      ]) {
        await page.setViewportSize({ width, height });
        for (const tab of ['devices', ...TABS]) {
          await open(tab === 'devices' ? `/o/${ORG}` : `/o/${ORG}/${tab}`);
          await page.locator('h1').first().waitFor({ state: 'attached' });
          const overflow = await page.evaluate(
            () => document.documentElement.scrollWidth - innerWidth,
          );
          assert.ok(overflow <= 0, `${size} ${tab} is ${overflow} px wider than the window`);
          await page.screenshot({ path: join(folder, `${tab}-${size}-${colorScheme}.png`) });
        }
      }
      await page.setViewportSize({ width: 1440, height: 900 });
      await open();
      await row(page, 'switch 1').click();
      await page.getByRole('dialog').getByText('port 22').waitFor();
      await page.screenshot({ path: join(folder, `device-${colorScheme}.png`) });
      hub.agents = [];
      await open();
      await page.screenshot({ path: join(folder, `empty-${colorScheme}.png`) });
      hub.signedIn = false;
      await page.goto(hub.url);
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      await page.screenshot({ path: join(folder, `login-${colorScheme}.png`) });
      hub.fill(9, 400);
    }
    t.diagnostic(`pictures in ${folder}`);
  });

  it('keeps the theme a person chose', async () => {
    hub.fill(1, 3);
    await open();
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    await page.getByRole('button', { name: /^Theme: system/ }).click();
    await page.getByRole('button', { name: /^Theme: light/ }).click();
    assert.equal(await theme(), 'dark');
    await page.reload();
    await link(page, 'live');
    assert.equal(await theme(), 'dark');
  });
});

describe('under load', () => {
  it('shows 5,000 devices', async (t) => {
    hub.fill(100, 5000);
    hub.signedIn = true;
    await page.addInitScript(observe);
    for (let run = 1; run <= 3; run += 1) {
      await page.goto(`${hub.url}/o/${ORG}`);
      await page.locator('[role=row][aria-rowindex="20"]').waitFor();
      const { first, tasks } = await page.evaluate(() => ({
        first: window.figures.firstRowAt,
        tasks: window.figures.tasks,
      }));
      t.diagnostic(
        `first list after ${Math.round(first)} ms; long tasks ${tasks.join(', ') || 'none'} ms`,
      );
    }
    const rows = await page.locator('[role=grid] [role=row]').count();
    assert.ok(rows < 60, `${rows} rows exist at once`);
    await page.getByText('5,000 devices').waitFor();
  });

  it('takes 100 changes a second without moving anything', async (t) => {
    hub.fill(100, 5000);
    await page.addInitScript(observe);
    await open();
    await page.getByRole('button', { name: 'Status' }).click();
    await page.locator('[role=row][aria-rowindex="20"]').waitFor();
    // A click excuses shifts for half a second, so that it would hide some of what is looked for.
    await page.waitForFunction(
      (since) => performance.now() > since + 1000,
      await page.evaluate(() => performance.now()),
    );
    await page.evaluate(() => {
      window.figures.tasks = [];
      window.figures.shift = 0;
    });
    const statuses = ['offline', 'online', 'degraded', 'online'];
    let sent = 0;
    await new Promise((done) => {
      const timer = setInterval(() => {
        hub.deviceTurns((sent * 37) % 5000, statuses[sent % statuses.length]);
        sent += 1;
        if (sent === 1000) {
          clearInterval(timer);
          done();
        }
      }, 10);
    });
    await page.locator(`[role=listitem][title*="number ${hub.seq} "]`).waitFor();
    const { tasks, shift } = await page.evaluate(() => window.figures);
    t.diagnostic(
      `1,000 changes at 100/s: long tasks ${tasks.join(', ') || 'none'} ms; layout shift ${shift.toFixed(5)}`,
    );
    assert.ok(shift < 0.01, `layout shift ${shift}`);
    const wanted = hub.devices.filter((device) => device.status === 'offline').length;
    await page.locator('.chip.offline', { hasText: String(wanted) }).waitFor();
  });

  it('catches up with 900 events at once', async () => {
    hub.fill(10, 1000);
    await open();
    for (let i = 0; i < 900; i += 1) hub.deviceTurns(i, 'degraded');
    await page
      .locator('.chip.degraded', {
        hasText: String(hub.devices.filter((each) => each.status === 'degraded').length),
      })
      .waitFor();
    assert.deepEqual(hub.handshakes.length, 1);
  });
});

/** Runs in the page before its scripts: when the first row came, tasks over 50 ms, and layout shift. */
function observe() {
  const figures = (window.figures = { firstRowAt: 0, tasks: [], shift: 0 });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) figures.tasks.push(Math.round(entry.duration));
  }).observe({ type: 'longtask', buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) figures.shift += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
  new MutationObserver((_, observer) => {
    if (document.querySelector('[role=gridcell]')) {
      requestAnimationFrame(() => (figures.firstRowAt = performance.now()));
      observer.disconnect();
    }
  }).observe(document, { childList: true, subtree: true });
}
