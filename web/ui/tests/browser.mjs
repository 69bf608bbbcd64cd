// What the browser tests share: one Chromium, one page, and the way in.

import { chromium } from 'playwright-core';

/** How long a test waits for what must happen before it says that it did not. */
export const WAIT_MS = 15_000;

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** A page that fails its test on a script error or a breach of the content security policy. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) page.faults.push(message.text());
  });
  return page;
}

export async function signIn(page, url, email, password) {
  await page.goto(url);
  await page.getByLabel('E-mail').fill(email);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** Waits until the page says that its connection is `kind`: connecting, live, waiting or stopped. */
export function link(page, kind) {
  return page.locator(`[data-link="${kind}"]`).waitFor();
}

export function row(page, name) {
  return page.getByRole('row').filter({ has: page.getByRole('gridcell', { name, exact: true }) });
}
