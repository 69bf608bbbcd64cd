// The pages of notifications in a real browser, against a hub that does as it is told.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';

import { launch, link, newPage } from './browser.mjs';
import { FakeHub, ORG } from './fake-hub.mjs';
import { delivery, turn } from './fake-notify.mjs';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser;
let page;
let hub;

before(async () => {
  browser = await launch();
});
after(() => browser.close());

beforeEach(async () => {
  hub = await new FakeHub().start();
  hub.fill(2, 60);
  hub.signedIn = true;
  page = await newPage(browser);
});
afterEach(async () => {
  assert.deepEqual(page.faults, []);
  await page.context().close();
  await hub.stop();
});

async function open(tab) {
  await page.goto(`${hub.url}/o/${ORG}/${tab}`);
  await link(page, 'live');
}

const button = (name, where = page) => where.getByRole('button', { name });
const dialog = () => page.getByRole('dialog').last();
/** Takes the pointer and the focus off the list, or puts the pointer on it. */
async function look(isReading) {
  if (isReading) return page.locator('tbody').first().hover();
  await page.locator('main').focus();
  return page.mouse.move(5, 5);
}
const asked = (method, path) =>
  hub.asked.filter((each) => each.method === method && each.path === path).at(-1);

describe('channels', () => {
  it('are made, with faults at their fields and a secret that is shown once', async () => {
    await open('channels');
    await button('New channel').click();
    await dialog().getByText('Webhook', { exact: true }).click();
    await button('Create', dialog()).click();
    await dialog().getByText('must be a URL').waitFor();
    const url = dialog().getByLabel('URL', { exact: true });
    assert.equal(await url.getAttribute('aria-invalid'), 'true');
    await dialog().getByLabel('Name').fill('new one');
    await url.fill('https://receiver.example.org/new');
    await dialog().getByLabel('Headers').fill('X-Team: network');
    await dialog().getByLabel('Waits between attempts').fill('soon');
    await button('Create', dialog()).click();
    await dialog().getByText('no wait such as').waitFor();
    await dialog().getByLabel('Waits between attempts').fill('30 s, 5 min');
    await button('Create', dialog()).click();
    assert.equal(await dialog().getByLabel('Secret').inputValue(), 'whsec_c2VjcmV0');
    assert.deepEqual(asked('POST', 'channels').body, {
      name: 'new one',
      kind: 'webhook',
      config: { url: 'https://receiver.example.org/new', headers: { 'X-Team': 'network' } },
      enabled: true,
      retry_schedule_s: [30, 300],
    });
    await button('I have kept it').click();
    await page.getByText('new one', { exact: true }).waitFor();
    assert.equal(await page.getByText('whsec_').count(), 0);
  });

  it('are tested, and say what the receiver answered', async () => {
    await open('channels');
    await button('Test pager').click();
    await page.getByText('answered 200 in 42 ms').waitFor();
    await page.getByText('thank you').waitFor();
    await button('Test ticket system').click();
    await page.getByText('answered 503 in 31 ms').waitFor();
    await page.getByText('gone fishing').waitFor();
  });

  it('are changed without a word of what is secret, enabled, given a secret, deleted', async () => {
    await open('channels');
    await button('Edit ticket system').click();
    await dialog().getByLabel('Name').fill('tickets');
    await button('Save', dialog()).click();
    await page.getByText('tickets is saved').waitFor();
    const { body } = hub.asked.findLast(({ method }) => method === 'PATCH');
    assert.deepEqual(body.config.headers, { 'X-Team': '********' });
    await button('Enable old receiver').click();
    await page.getByText('old receiver delivers again').waitFor();
    await button('Edit pager').click();
    await button('New signing secret', dialog()).click();
    await button('Make a new secret', dialog()).click();
    assert.equal(await dialog().getByLabel('Secret').inputValue(), 'whsec_bmV3');
    await page.keyboard.press('Escape');
    await button('Edit pager').click();
    await button('Delete channel', dialog()).click();
    await button('Delete', dialog()).click();
    await page.getByText('pager is deleted').waitFor();
    await button('Test pager').waitFor({ state: 'detached' });
  });

  it('follow what happens to them', async () => {
    await open('channels');
    hub.tell('channel.degraded', {
      channel_id: hub.channels[0].id,
      name: 'pager',
      previous: 'healthy',
      current: 'degraded',
      reason: 'answered 503',
      failing_since: new Date(Date.now() - 600_000).toISOString(),
    });
    const row = page.getByRole('listitem').filter({ hasText: 'pager' });
    await row.getByText('failing for 10 min').waitFor();
  });
});

describe('rules', () => {
  it('are made, with a preview of what they would have told', async () => {
    await open('rules');
    await button('New rule').click();
    await dialog().getByLabel('Name', { exact: true }).fill('Printers');
    await dialog().getByText('pager', { exact: true }).click();
    const find = dialog().getByRole('searchbox');
    await find.fill('switch 1');
    await find.press('Enter');
    await button('Remove device switch 1', dialog()).waitFor();
    await dialog().getByRole('spinbutton', { name: 'Only when wrong for' }).fill('2');
    await dialog().getByText('Keep still at night').click();
    await dialog().getByLabel('Time zone').fill('Europe/Berlin');
    await button('Preview', dialog()).click();
    await dialog().getByText('held back 1, of 1,234 events').waitFor();
    await dialog().getByText('told of within the cooldown').waitFor();
    assert.equal(asked('POST', 'rules/preview').body.min_duration_s, 120);
    await button('Create', dialog()).click();
    await page.getByText('Printers is saved').waitFor();
    const { body } = asked('POST', 'rules');
    assert.deepEqual(body.channel_ids, [hub.channels[0].id]);
    assert.deepEqual(body.filters, { device_ids: [hub.devices[0].id] });
    assert.deepEqual(body.quiet_hours, {
      from: '22:00',
      to: '06:00',
      timezone: 'Europe/Berlin',
      days: [],
    });
    assert.equal(body.escalation, null);
  });

  it('are switched off in the list, and followed when somebody else changes them', async () => {
    await open('rules');
    const toggle = page.getByRole('switch', { name: 'Anything offline is applied' });
    await toggle.click();
    await page.getByText('Anything offline is off').waitFor();
    assert.equal(hub.rules[0].enabled, false);
    hub.rules[1].name = 'Renamed elsewhere';
    hub.tell('org.updated', {
      org_id: ORG,
      name: 'Acme',
      status: 'active',
      changed: 'rule_updated',
    });
    await page.getByText('Renamed elsewhere').waitFor();
  });
});

describe('deliveries', () => {
  it('show their attempts, and follow what happens', async () => {
    await open('deliveries');
    await button(/attempts of device.offline of switch 1 to pager/).click();
    await page.getByText('upstream is not there').first().waitFor();
    await page.getByText('no answer within 15,000 ms').waitFor();
    await button(/attempts of device.offline of switch 1 to pager/).click();
    await look(false);
    const retrying = hub.deliveries.find((each) => each.state === 'retrying');
    turn(hub, retrying, 'delivered', { attempts: 2 });
    await page
      .locator('tbody')
      .getByText('Retrying', { exact: true })
      .waitFor({ state: 'detached' });
    const fresh = delivery(99, 'queued', 0, 'brand new');
    hub.deliveries.unshift(fresh);
    turn(hub, fresh, 'queued');
    await page.getByText('brand new', { exact: true }).waitFor();
  });

  it('put nothing above what somebody reads', async () => {
    await open('deliveries');
    await button(/attempts of device.offline of switch 1 to pager/).click();
    const fresh = delivery(99, 'queued', 0, 'brand new');
    hub.deliveries.unshift(fresh);
    turn(hub, fresh, 'queued');
    await button('Newer ones: show').click();
    await page.getByText('brand new', { exact: true }).waitFor();
    await button(/attempts of device.offline of switch 1 to pager/).click();
    await look(true);
    const newer = delivery(98, 'queued', 0, 'newer still');
    hub.deliveries.unshift({ ...newer, id: `${newer.id.slice(0, -3)}100` });
    turn(hub, hub.deliveries[0], 'queued');
    await button('Newer ones: show').waitFor();
    assert.equal(await page.getByText('newer still', { exact: true }).count(), 0);
    await look(false);
    await page.getByText('newer still', { exact: true }).waitFor();
  });

  it('are replayed and discarded, one and all', async () => {
    await open('deliveries?state=dead');
    const dead = hub.deliveries.find((each) => each.state === 'dead');
    hub.deliveries.push({ ...dead, id: `${dead.id.slice(0, -2)}00` });
    await page.reload();
    await button(/^Replay device/)
      .first()
      .click();
    await page.getByText('will be sent again').waitFor();
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
    await button('Replay all…').click();
    await button('Replay all', dialog()).click();
    await page.getByText('No dead letters').waitFor();
    assert.deepEqual(asked('POST', 'deliveries/replay').body, { state: 'dead' });
    await button('All', page).click();
    await button(/^Discard device/)
      .first()
      .click();
    await page.locator('tbody').getByText('Discarded', { exact: true }).waitFor();
  });

  it('are searched, and the search is in the address', async () => {
    await open('deliveries');
    await page.getByRole('searchbox').fill('switch 13');
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
    await page.getByLabel('Channel').selectOption({ label: 'on call' });
    await page.waitForFunction(() => location.search.includes('channel='));
    await page.reload();
    await page.getByText('switch 13', { exact: true }).waitFor();
    assert.equal(asked('GET', 'deliveries').params.q, 'switch 13');
    await page.getByRole('searchbox').fill('no such thing');
    await button('Show all').click();
    await page.waitForFunction(() => document.querySelectorAll('tbody tr').length > 1);
  });
});

describe('alerts', () => {
  it('are acknowledged, and come and go by themselves', async () => {
    await open('alerts');
    await button(/^Acknowledge access point 4/).click();
    await page.getByText('taken by kim@example.org').waitFor();
    const [first] = hub.alerts;
    Object.assign(first, { state: 'resolved' });
    hub.deviceTurns(3, 'online');
    // Nothing moves under somebody's pointer.
    await button('Changed: show').waitFor();
    await page.getByText('4 open').waitFor();
    await look(false);
    await page.getByText('3 open').waitFor();
  });
});

describe('maintenance windows', () => {
  it('are planned on the wall clock of their time zone', async () => {
    await open('maintenance');
    await button('New window').click();
    await dialog().getByLabel('Name').fill('Cabling');
    await dialog().getByLabel('Time zone').fill('Europe/Berlin');
    await dialog().getByLabel('Begins').fill('2030-07-01T22:00');
    await dialog().getByLabel('Ends').fill('2030-07-01T21:00');
    await button('Create', dialog()).click();
    await dialog().getByText('must end after it begins').waitFor();
    await dialog().getByLabel('Ends').fill('2030-07-02T01:30');
    await dialog().getByLabel('Comes back').selectOption('weekly');
    await dialog().getByLabel('Mon').check();
    await button('Create', dialog()).click();
    await page.getByText('Cabling is saved').waitFor();
    assert.deepEqual(asked('POST', 'maintenance-windows').body, {
      name: 'Cabling',
      filters: {},
      starts_at: '2030-07-01T20:00:00.000Z',
      ends_at: '2030-07-01T23:30:00.000Z',
      timezone: 'Europe/Berlin',
      recurrence: 'weekly',
      days: [1],
      until: null,
    });
    await button('Edit Cabling').click();
    await button('Delete', dialog()).click();
    await button('Delete', dialog()).click();
    await page.getByText('Cabling is deleted').waitFor();
  });
});

describe('mails', () => {
  it('are listed and replayed, and say when none can be sent', async () => {
    await open('mail');
    await button('Replay Trial expiring to kim@example.org').click();
    await page.getByText('will be sent again').waitFor();
    Object.assign(hub.mails[0], { state: 'suppressed', suppressed_by: 'mail_not_configured' });
    await page.reload();
    await page.getByText('has no way to send mail').waitFor();
  });
});

describe('for everyone', () => {
  it('who only looks, nothing is offered that the hub would refuse', async () => {
    hub.orgs[0].role = 'viewer';
    for (const [tab, sign] of [
      ['alerts', '4 open'],
      ['deliveries', 'switch 13'],
      ['rules', 'Anything offline'],
      ['channels', 'night shift'],
      ['maintenance', 'Nightly backup'],
      ['mail', 'Owners and administrators'],
    ]) {
      await open(tab);
      await page.locator('main').getByText(sign).first().waitFor();
      const offered = button(/^(Acknowledge|Replay|Discard|New|Edit|Test|Enable|Delete)/);
      assert.equal(await offered.count(), 0, tab);
      assert.equal(await page.getByRole('switch').count(), 0, tab);
      assert.equal(await page.getByRole('link', { name: 'Mail' }).count(), 0, tab);
    }
  });

  it('an empty org is told what to do first', async () => {
    Object.assign(hub, { channels: [], rules: [], deliveries: [], alerts: [] });
    await open('channels');
    await page.getByText('No channel yet: alerts reach nobody').waitFor();
    await open('rules');
    await page.getByRole('link', { name: 'make one' }).click();
    await button('Make the first one').click();
    await dialog().getByLabel('Name').waitFor();
  });

  it('dialogs keep the focus, and give it back', async () => {
    await open('channels');
    await button('Edit pager').focus();
    await page.keyboard.press('Enter');
    await dialog().waitFor();
    for (let i = 0; i < 12; i += 1) {
      await page.keyboard.press('Tab');
      const inside = await page.evaluate(
        () =>
          document.activeElement === document.body || !!document.activeElement.closest('dialog'),
      );
      assert.ok(inside, `after ${i + 1} tabs`);
    }
    await page.keyboard.press('Escape');
    await dialog().waitFor({ state: 'detached' });
    const label = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    assert.equal(label, 'Edit pager');
  });

  it('no dialog breaks a rule of accessibility or is wider than a phone', async () => {
    const violations = [];
    await page.setViewportSize({ width: 380, height: 800 });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const [tab, name] of [
        ['channels', 'New channel'],
        ['channels', 'Edit ticket system'],
        ['rules', 'Edit Degraded by day'],
        ['maintenance', 'Edit Nightly backup'],
        ['deliveries', /attempts of device.offline of switch 1 to pager/],
      ]) {
        await open(tab);
        await button(name).click();
        if (tab === 'rules') {
          await button('Preview', dialog()).click();
          await dialog().getByText('1,234 events').waitFor();
        }
        if (tab === 'deliveries') await page.getByText('upstream is not there').first().waitFor();
        const overflow = await page.evaluate(() =>
          Math.max(
            document.documentElement.scrollWidth - innerWidth,
            ...[...document.querySelectorAll('dialog .body')].map(
              (body) => body.scrollWidth - body.clientWidth,
            ),
          ),
        );
        assert.ok(overflow <= 0, `${tab}: ${overflow} px too wide`);
        // Playwright evaluates outside of the page's content security policy.
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run());
        violations.push(
          ...found.violations.map(
            ({ id, nodes }) => `${tab} ${colorScheme}: ${id} ${nodes.map((n) => n.html).join(' ')}`,
          ),
        );
      }
    }
    assert.deepEqual(violations, []);
  });
});
