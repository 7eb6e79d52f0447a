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

/** Gauges of sipwsd that are at zero when all pages are closed. */
const AT_REST = ['sipws_connections', 'sipws_handshaking', 'sipws_outbox_bytes', 'sipws_upstream_queue_bytes'];
/** Remembers answered INVITEs for 32 s, as RFC 6026 wants, and then nothing. */
const MEMORY = 'sipws_requests_in_flight';
/** Counters, with labels, that stay at zero as long as everybody behaves. */
const TROUBLE = [
  /^sipws_(refusals|path_ignored|failovers|upstream_failures)_total/,
  /^sipws_handshakes_total\{outcome="(?!ok")/,
  /^sipws_closed_total\{reason="(?!client"|lost")/,
];

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

  /**
   * A test: `play` has the world's phones to itself. They must have answers to all their requests after it, and are closed.
   * Its failure prints the world's report.
   */
  test(title, play, { timeout = 40_000 } = {}) {
    test(title, { timeout }, async () => {
      try {
        await play();
        await Promise.all(this.#phones.map((phone) => phone.settled()));
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

  /**
   * Each sipwsd must have let go of everything, and must have counted no trouble but what `provokes` matches.
   * `forgets`: its memory of calls must be empty too.
   */
  async leavesNothing({ provokes = /^$/, forgets = false }) {
    for (const { sipwsd } of Object.values(this.edges)) {
      sipwsd.child.mustRun();
      const names = forgets ? [...AT_REST, MEMORY] : AT_REST;
      let left;
      await until(`${sipwsd.child.name} to let go of everything`, async () => {
        const samples = await sipwsd.metrics();
        const missing = names.find((wanted) => !samples.some(({ name }) => name === wanted));
        if (missing) throw new Error(`there is no metric ${missing}`);
        left = samples.filter(({ name, value }) => names.includes(name) && value !== 0);
        return left.length === 0;
      }, { deadline: forgets ? 40_000 : 10_000, state: () => JSON.stringify(left) });
      const trouble = (await sipwsd.metrics())
        .map(({ name, labels, value }) => ({ text: labels ? `${name}{${labels}}` : name, value }))
        .filter(({ text, value }) => value > 0 && TROUBLE.some((kind) => kind.test(text)) && !provokes.test(text));
      if (trouble.length > 0) throw new Error(`${sipwsd.child.name} counted trouble: ${JSON.stringify(trouble)}`);
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
 * `provokes`: counters (name and labels) that the file's tests raise on purpose. `forgets`: waits at the end until the
 * daemons have forgotten even the calls that were answered. `pages(folder, urls)`: makes, in `folder`, a folder of files for
 * the admin server of a sipwsd with these WebSocket URLs, and returns its path.
 */
export function useWorld({ registrations = REGISTRATIONS, provokes, forgets, pages } = {}) {
  const world = new World();
  let started = false;
  before(async () => {
    await world.start(registrations, pages);
    started = true;
  }, { timeout: 60_000 });
  after(async () => {
    try {
      if (started) await world.leavesNothing({ provokes, forgets });
    } catch (error) {
      console.error(world.report());
      throw error;
    } finally {
      await world.stop();
    }
  }, { timeout: 120_000 });
  return world;
}
