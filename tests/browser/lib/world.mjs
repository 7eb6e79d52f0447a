// What a test file needs, started once for it: a Kamailio and a sipwsd for each way of registration, and one Chromium.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { startChromium } from './chromium.mjs';
import { startKamailio } from './kamailio.mjs';
import { servePages } from './pages.mjs';
import { Phone } from './phone.mjs';
import { startSipwsd } from './sipwsd.mjs';
import { until } from './wait.mjs';

const PAGES = fileURLToPath(new URL('../pages/', import.meta.url));

export const REGISTRATIONS = ['path', 'rewrite'];
export const TRANSPORTS = ['ws', 'wss'];
export const LIBRARIES = ['jssip', 'sipjs'];

/** Counters of sipwsd that stay at zero as long as everybody behaves; a test may say that it provokes one. */
const TROUBLE = /refus|reject|drop|deni|strike|invalid|unmatched|overflow|slow|timeout|error|missing/;
/** Gauges that are back at zero when all pages are closed. */
const EMPTY_AT_THE_END = /^sipws_(connections|flows|requests_in_flight|in_flight|handshakes)$/;

class World {
  edges = {};
  #stops = [];
  #phones = [];
  #numbers = new Map();

  async start(registrations, pages) {
    this.folder = await mkdtemp(path.join(tmpdir(), 'sipws-browser-'));
    this.#stops.push(() => rm(this.folder, { recursive: true }));
    this.pages = await servePages({ folder: PAGES, made: await bundledPages() });
    this.#stops.push(() => this.pages.close());
    for (const registration of registrations) {
      const kamailio = await startKamailio(this.folder, registration);
      this.#stops.push(() => kamailio.child.stop());
      const { uri: upstream } = kamailio;
      const origins = [this.pages.origin];
      const sipwsd = await startSipwsd(this.folder, { registration, upstream, origins, pages: pages?.bind(null, this.folder) });
      this.#stops.push(() => sipwsd.stop());
      this.edges[registration] = { kamailio, sipwsd };
    }
    this.browser = await startChromium();
    this.#stops.push(() => this.browser.close());
  }

  /** A phone with an account that no test has used before, connected; `name` is alice, bob, carol or dave. */
  async connected(name, library, url, options) {
    const number = (this.#numbers.get(name) ?? 0) + 1;
    this.#numbers.set(name, number);
    const phone = new Phone(`${name}-${number}`, library);
    this.#phones.push(phone);
    await phone.open(this.browser, this.pages.origin);
    await phone.connect(url, options);
    return phone;
  }

  /** The same, and registered. */
  async registered(name, library, url, options) {
    const phone = await this.connected(name, library, url, options);
    await phone.register();
    return phone;
  }

  /** A test: `play` has the world's phones to itself, they are closed after it, and its failure prints the world's report. */
  test(title, play, { timeout = 40_000 } = {}) {
    test(title, { timeout }, async () => {
      try {
        await play();
      } catch (error) {
        console.error(`\n##### ${title}\n${this.report()}\n`);
        throw error;
      } finally {
        await this.closePhones();
      }
    });
  }

  /** Closes all phones' pages, as a user closes a tab. */
  async closePhones() {
    await Promise.all(this.#phones.splice(0).map((phone) => phone.close()));
  }

  /** What to read when a test has failed. */
  report() {
    const logs = Object.values(this.edges)
      .flatMap(({ sipwsd, kamailio }) => [sipwsd.child, kamailio.child])
      .map((child) => `===== ${child.name}: end of its log\n${child.tail()}`);
    return [...this.#phones.map((phone) => phone.transcript()), ...logs].join('\n');
  }

  /** Each sipwsd must have let go of everything, and must have refused nothing but what `expected` matches. */
  async leavesNothing(expected = /^$/) {
    for (const { sipwsd } of Object.values(this.edges)) {
      sipwsd.child.mustRun();
      let left;
      await until(`${sipwsd.child.name} to let go of every connection and request`, async () => {
        const samples = await sipwsd.metrics();
        if (!samples.some(({ name }) => name === 'sipws_connections')) throw new Error('no metric sipws_connections');
        left = samples.filter(({ name, value }) => EMPTY_AT_THE_END.test(name) && value !== 0);
        return left.length === 0;
      }, { state: () => JSON.stringify(left) });
      const refused = (await sipwsd.metrics())
        .map(({ name, labels, value }) => ({ text: labels ? `${name}{${labels}}` : name, name, value }))
        .filter(({ name, text, value }) => name.endsWith('_total') && value > 0 && TROUBLE.test(text) && !expected.test(text));
      if (refused.length > 0) throw new Error(`${sipwsd.child.name} counted trouble: ${JSON.stringify(refused)}`);
    }
  }

  /** Stops what was started, last first; what fails to stop does not keep the others running. */
  async stop() {
    const failures = [];
    for (const stop of this.#stops.splice(0).reverse()) await stop().catch((error) => failures.push(error));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'));
  }
}

/** The pages of both libraries, each bundled with its own. */
async function bundledPages() {
  const page = await readFile(path.join(PAGES, 'phone.html'));
  const made = {};
  for (const library of LIBRARIES) {
    const entry = path.join(PAGES, `${library}-phone.js`);
    const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, logLevel: 'error' });
    made[`/${library}/phone.js`] = outputFiles[0].text;
    made[`/${library}/phone.html`] = page;
  }
  return made;
}

/**
 * Starts a world before the tests of a file and stops it after them, and checks at the end that the daemons are clean.
 * `provokes`: counters (name and labels) that the file's tests raise on purpose. `pages(folder, urls)`: makes, in `folder`,
 * a folder of files for the admin server of a sipwsd with these WebSocket URLs, and returns its path.
 */
export function useWorld({ registrations = REGISTRATIONS, provokes, pages } = {}) {
  const world = new World();
  let started = false;
  before(async () => {
    await world.start(registrations, pages);
    started = true;
  }, { timeout: 60_000 });
  after(async () => {
    try {
      if (started) await world.leavesNothing(provokes);
    } catch (error) {
      console.error(world.report());
      throw error;
    } finally {
      await world.stop();
    }
  }, { timeout: 60_000 });
  return world;
}
