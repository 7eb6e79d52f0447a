// The example's web phone, as its users meet it: two tabs, handed out by sipwsd itself, under its content security policy.
// Pictures of it go to the folder SCREENSHOTS, or to sipws-web-phone-<user id> in the system's temporary folder.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DOMAIN, passwordOf } from './lib/kamailio.mjs';
import { until } from './lib/wait.mjs';
import { useWorld } from './lib/world.mjs';

const PHONE = fileURLToPath(new URL('../../examples/web-phone/', import.meta.url));
const PICTURES = process.env.SCREENSHOTS ?? path.join(tmpdir(), `sipws-web-phone-${userInfo().uid}`);
const PATIENCE = { timeout: 10_000 };
const SIZES = { desk: { width: 1280, height: 800 }, hand: { width: 390, height: 844 } };

// A tab that closes asks to be unregistered, and is gone when the registrar's 401 arrives.
const world = useWorld({ registrations: ['path'], pages: built, provokes: /flow_gone/ });

/** Builds the phone and lays it, with a configuration for this sipwsd, into `folder`. */
async function built(folder, urls) {
  await promisify(execFile)(process.execPath, ['build.mjs'], { cwd: PHONE }).catch((error) => {
    throw new Error("the web phone cannot be built; has 'npm ci' been run in examples/web-phone, as 'npm test' does?", { cause: error });
  });
  const pages = path.join(folder, 'web-phone');
  await cp(path.join(PHONE, 'dist'), pages, { recursive: true });
  const accounts = ['', '-2', '-3', '-4'].flatMap((suffix) => [`alice${suffix}`, `bob${suffix}`]).map((user) => ({ user, password: passwordOf(user) }));
  await writeFile(path.join(pages, 'config.json'), JSON.stringify({ server: urls.ws, domain: DOMAIN, accounts }));
  return pages;
}

/** A browser with a tab for each of `queries`; `play` gets the tabs, and nothing may go wrong in them meanwhile. */
async function withTabs(queries, play) {
  const context = await world.browser.newContext({ viewport: SIZES.desk });
  const wrong = [];
  try {
    const tabs = [];
    for (const query of queries) {
      const tab = await context.newPage();
      tab.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
      tab.on('pageerror', (error) => wrong.push(String(error)));
      await tab.goto(world.edges.path.sipwsd.page + query);
      await says(tab, '#registration', /^Registered as/);
      tabs.push(tab);
    }
    await play(...tabs);
    assert.deepEqual(wrong, [], 'nothing is wrong in the console, such as a breach of the content security policy');
  } catch (error) {
    for (const [number, tab] of context.pages().entries()) await picture(tab, `failed-${number}`).catch(() => {});
    if (wrong.length > 0) console.error('console:', wrong);
    throw error;
  } finally {
    await context.close();
  }
}

const text = async (tab, selector) => (await tab.locator(selector).textContent()).trim();

const says = (tab, selector, pattern) =>
  until(`${selector} to say ${pattern}`, async () => pattern.test(await text(tab, selector)), {
    state: async () => `it says "${await text(tab, selector)}"`,
  });

/** Presses a button in `tab`, which comes to the front: Chromium draws the others once a second only. */
async function press(tab, name) {
  await tab.bringToFront();
  await button(tab, name).click(PATIENCE);
}

const button = (tab, name) => tab.getByRole('button', { name, exact: true });

async function picture(tab, name) {
  await mkdir(PICTURES, { recursive: true });
  await tab.screenshot({ path: path.join(PICTURES, `${name}.png`), animations: 'disabled' });
}

/** Pictures of `tab` in both sizes: light on the desk, dark in the hand, or both everywhere where SCREENSHOTS is set. */
async function pictures(tab, name) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await tab.setViewportSize(viewport);
    const themes = process.env.SCREENSHOTS ? ['light', 'dark'] : [size === 'desk' ? 'light' : 'dark'];
    for (const colorScheme of themes) {
      await tab.emulateMedia({ colorScheme });
      await picture(tab, `${name}-${size}-${colorScheme}`);
    }
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    assert.equal(wide, false, `the page "${name}" needs no sideways scrolling in the size "${size}"`);
  }
  await tab.emulateMedia({ colorScheme: null });
  await tab.setViewportSize(SIZES.desk);
}

world.test('two tabs of the web phone are alice and bob, and call each other', () => withTabs(['', ''], async (alice, bob) => {
  await says(alice, '#peer', /^alice$/);
  await says(bob, '#peer', /^bob$/);
  await pictures(alice, 'idle');

  assert.equal(await alice.getByLabel('Call whom?').inputValue(), 'bob');
  await press(alice, 'Call');
  await says(alice, '#state', /^Ringing/);
  await says(bob, '#state', /^alice is calling you$/);
  await pictures(bob, 'incoming');
  await pictures(alice, 'calling');
  await press(bob, 'Answer');
  for (const tab of [alice, bob]) await says(tab, '#state', /^In a call$/);
  await until('sound to be played', () => bob.evaluate(() => document.querySelector('audio').currentTime > 0));
  await says(alice, '#timer', /^00:0[1-9]$/);

  await press(alice, 'Mute');
  await says(alice, '#state', /muted/);
  await press(alice, 'Mute');
  await says(alice, '#state', /^In a call$/);

  await press(alice, 'Hold');
  await says(bob, '#state', /^On hold by alice$/);
  await says(alice, '#state', /^On hold: /);
  await pictures(bob, 'held');
  await press(alice, 'Hold');
  await says(bob, '#state', /^In a call$/);

  await press(alice, 'Keypad');
  await press(alice, '5');
  await alice.keyboard.press('#');
  await says(alice, '#pressed', /^5#$/);
  await bob.locator('.received .line', { hasText: /^INFO / }).nth(1).waitFor(PATIENCE);
  await pictures(alice, 'active');

  await press(bob, 'Hang up');
  await says(alice, '#state', /^bob has hung up\.$/);
  await says(bob, '#state', /^You have hung up\.$/);
  await alice.bringToFront();
  await alice.locator('.received .line', { hasText: /^BYE / }).click(PATIENCE);
  await pictures(alice, 'ended');
}), { timeout: 60_000 });

world.test('the web phone needs no mouse', () => withTabs(['?user=alice-2', '?user=bob-2'], async (alice, bob) => {
  await alice.bringToFront();
  await alice.getByLabel('Call whom?').fill('bob-2');
  await alice.keyboard.press('Enter');
  await says(bob, '#state', /^alice-2 is calling you$/);
  await bob.bringToFront();
  assert.equal(await text(bob, ':focus'), 'Answer', 'a call that comes in has the focus on its answer');
  await bob.keyboard.press('Enter');
  await says(bob, '#state', /^In a call$/);
  await says(alice, '#state', /^In a call$/);
  assert.equal(await text(bob, ':focus'), 'Hang up');
  await bob.keyboard.press('7');
  await says(bob, '#pressed', /^7$/);
  await bob.keyboard.press('Enter');
  await says(alice, '#state', /^bob-2 has hung up\.$/);
}));

world.test('the web phone says why a call came to nothing', () => withTabs(['?user=alice-3', '?user=bob-3'], async (alice, bob) => {
  await alice.getByLabel('Call whom?').fill('nobody');
  await press(alice, 'Call');
  await says(alice, '#state', /404/);

  await alice.getByLabel('Call whom?').fill('bob-3');
  await press(alice, 'Call');
  await says(bob, '#state', /calling you/);
  await press(bob, 'Decline');
  await says(alice, '#state', /486/);
  await says(bob, '#state', /^You have declined/);

  await press(alice, 'Call');
  await says(bob, '#state', /calling you/);
  await press(alice, 'Hang up');
  await says(alice, '#state', /^You have cancelled/);
  await says(bob, '#state', /^You have missed a call from alice-3/);
}));

world.test('the web phone unregisters, and says what is wrong with a wrong password', () => withTabs(['?user=alice-4'], async (alice) => {
  await press(alice, 'Unregister');
  await says(alice, '#registration', /^Not registered$/);
  assert.equal(await button(alice, 'Call').isDisabled(), true);
  await alice.getByLabel('Password').fill('wrong');
  await press(alice, 'Register');
  await says(alice, '#registration', /^Not registered: 401/);
  await pictures(alice, 'refused');
}));
