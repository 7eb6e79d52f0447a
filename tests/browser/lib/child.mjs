// Programs that a test starts: their log is kept, and they are stopped by their process id.

import { spawn } from 'node:child_process';
import { Hopeless, until, within } from './wait.mjs';

const KEPT_LINES = 4000;

// A test file that ends by an error of its own leaves nothing running either.
const running = new Set();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class Child {
  #process;
  #lines = [];
  #unfinished = '';
  #exit;

  /** Starts `command`. `name` is what logs and errors call it. */
  constructor(name, command, args, options = {}) {
    this.name = name;
    this.#process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    running.add(this.#process);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => this.#keep(text));
    }
    this.#exit = new Promise((resolve) => {
      this.#process.once('error', (error) => resolve({ code: null, signal: null, error }));
      this.#process.once('close', (code, signal) => resolve({ code, signal }));
    });
    this.#exit.then((how) => {
      this.ended = how;
      running.delete(this.#process);
    });
  }

  /** How it ended: `{ code, signal, error }`, once it has. */
  get exit() {
    return this.#exit;
  }

  get pid() {
    return this.#process.pid;
  }

  #keep(text) {
    const lines = (this.#unfinished + text).split('\n');
    this.#unfinished = lines.pop();
    this.#lines.push(...lines);
    if (this.#lines.length > KEPT_LINES) this.#lines.splice(0, this.#lines.length - KEPT_LINES);
  }

  /** The last `count` lines of what it wrote. */
  tail(count = 80) {
    return [...this.#lines, this.#unfinished].slice(-count).join('\n');
  }

  /** Throws, with the end of its log, if it is no longer running. */
  mustRun() {
    if (this.ended) {
      const { code, signal, error } = this.ended;
      throw new Hopeless(`${this.name} ended by itself (${error ?? `exit ${code ?? signal}`}):\n${this.tail(40)}`);
    }
  }

  /** Waits until `condition` holds; if it does not, the program is stopped and the error has the end of its log. */
  async ready(what, condition) {
    try {
      await until(`${this.name} ${what}`, () => {
        this.mustRun();
        return condition();
      }, { state: () => `its log ends\n${this.tail(20)}` });
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** SIGTERM, and SIGKILL if it has not ended `deadline` milliseconds later, which is an error. */
  async stop(deadline = 15_000) {
    if (this.ended) return this.ended;
    this.#process.kill('SIGTERM');
    try {
      return await within(`${this.name} to end after SIGTERM`, this.#exit, deadline);
    } catch (error) {
      this.#process.kill('SIGKILL');
      await this.#exit;
      throw error;
    }
  }
}
