// A phone in a browser tab, seen from the test: what it is told to do, what it says happened, what went over its WebSocket.

import { until } from './wait.mjs';
import { DOMAIN, passwordOf } from './kamailio.mjs';

const KEPT_MESSAGES = 400;

export class Phone {
  #page;
  #context;
  #events = [];
  wire = [];

  /** `user` is its account; `library` is "jssip" or "sipjs" and says which page it is. */
  constructor(user, library) {
    this.user = user;
    this.library = library;
    this.name = `${user} (${library})`;
  }

  async open(browser, origin) {
    this.#context = await browser.newContext();
    this.#page = await this.#context.newPage();
    this.#page.on('pageerror', (error) => this.#events.push({ name: 'pageerror', message: String(error) }));
    await this.#page.exposeFunction('report', (kind, detail) => {
      if (kind === 'event') this.#events.push(detail);
      else if (this.wire.push({ at: new Date().toISOString().slice(11, 23), ...detail }) > KEPT_MESSAGES) this.wire.shift();
    });
    await this.#page.goto(`${origin}/${this.library}/phone.html`);
  }

  /** Connects to the edge at `url`, not yet registered. */
  async connect(url, options = {}) {
    const { user } = this;
    await this.do('start', { url, user, domain: DOMAIN, password: passwordOf(user), expires: 600, ...options });
    await this.saw('connected');
  }

  async register() {
    await this.do('register');
    await this.saw('registered');
  }

  /** Calls a method of the page's window.phone. */
  do(method, ...args) {
    return this.#page.evaluate(([name, list]) => window.phone[name](...list), [method, args]);
  }

  /** Waits for the event `name`; each event is seen once. Returns its detail. */
  saw(name, { deadline = 10_000 } = {}) {
    return until(`${this.name} to see "${name}"`, () => {
      const index = this.#events.findIndex((event) => event.name === name);
      return index >= 0 && this.#events.splice(index, 1)[0];
    }, { deadline, every: 20, state: () => `it saw ${JSON.stringify(this.#events)}` });
  }

  /** Events told but not waited for. */
  get unseen() {
    return this.#events.map(({ name }) => name);
  }

  sound() {
    return this.do('sound');
  }

  /** Messages of its WebSocket, sent (">") or received ("<"), whose start line `pattern` matches. */
  messages(direction, pattern) {
    return this.wire.filter((message) => message.direction === direction && pattern.test(message.text.split('\r\n', 1)[0]));
  }

  /** Waits until each request that went over its WebSocket, either way, has its final response. */
  settled() {
    return until(`every request of ${this.name} to be answered`, () => this.#unanswered().length === 0, {
      state: () => `without an answer: ${this.#unanswered().join(', ')}`,
    });
  }

  #unanswered() {
    const open = new Map();
    // What was under way when a connection was lost gets no answer any more.
    const lost = this.wire.findLastIndex(({ direction }) => direction === '-');
    for (const { direction, text } of this.wire.slice(lost + 1)) {
      const transaction = `${/^Call-ID:\s*(\S+)/im.exec(text)?.[1]} ${/^CSeq:\s*(.+?)\r$/im.exec(text)?.[1]}`;
      const status = /^SIP\/2\.0 (\d+)/.exec(text)?.[1];
      if (status >= 200) open.delete(`${direction === '<' ? '>' : '<'} ${transaction}`);
      else if (!status && /^[A-Z]+ /.test(text) && !text.startsWith('ACK ')) open.set(`${direction} ${transaction}`);
    }
    return [...open.keys()];
  }

  async close() {
    this.wire.push({ at: new Date().toISOString().slice(11, 23), direction: '-', text: 'the page is closed' });
    await this.#context.close();
  }

  /** Everything, for a person who reads why a test failed. */
  transcript() {
    const wire = this.wire.map(({ at, direction, text }) => `${at} ${direction} ${text.trimEnd()}`);
    return [`===== ${this.name}: WebSocket`, ...wire, `===== ${this.name}: events not waited for`, JSON.stringify(this.#events)].join('\n');
  }
}

/** Waits until `phone` hears sound: packets arrive, and what they carry is not silence. */
export async function hears(phone, deadline = 10_000) {
  const before = await phone.sound();
  let now = before;
  await until(`${phone.name} to hear sound`, async () => {
    now = await phone.sound();
    return now.packetsReceived >= before.packetsReceived + 20 && now.energy > before.energy;
  }, { deadline, every: 100, state: () => `before ${JSON.stringify(before)}, now ${JSON.stringify(now)}` });
}

/** Waits until nothing more arrives at `phone`: a time in which twenty packets would have come brings none. */
export async function hearsNothing(phone, deadline = 10_000) {
  let before = (await phone.sound()).packetsReceived;
  await until(`the sound at ${phone.name} to stop`, async () => {
    const now = (await phone.sound()).packetsReceived;
    const silent = now === before;
    before = now;
    return silent;
  }, { deadline, every: 400 });
}
