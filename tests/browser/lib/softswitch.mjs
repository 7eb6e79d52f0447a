// The other server under test: c-softswitch (examples/), PJSIP with WebSocket by libsipws_pjsip, where phones over UDP are
// registered beside browsers.

import assert from 'node:assert/strict';
import { access, constants, mkdtemp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from './child.mjs';
import { DOMAIN } from './kamailio.mjs';
import { freePort } from './ports.mjs';
import { withGateway } from './sipp.mjs';
import { until, within } from './wait.mjs';

/** Where scripts/test-c.sh builds it. */
const BUILT = fileURLToPath(new URL('../../../target/c-build/examples/c-softswitch/c-softswitch', import.meta.url));
const REGISTER = fileURLToPath(new URL('../../examples/sipp/register.xml', import.meta.url));
const SCHEMES = ['ws', 'wss', 'udp'];

// As seen from where the person stands, not from where npm has gone.
const given = process.env.SIPWS_SOFTSWITCH;
const binary = given ? path.resolve(process.env.INIT_CWD ?? '', given) : BUILT;

/** Why the tests of it are to be skipped; `false` where it can be started. */
export const softswitchMissing = await access(binary, constants.X_OK).then(
  () => false,
  () => `c-softswitch is not at ${binary}: scripts/test-c.sh builds it, SIPWS_SOFTSWITCH names another`,
);

/** Starts it in `folder` on ports of its own choice, for pages of `origins`. */
export async function startSoftswitch(folder, origins) {
  const file = path.join(folder, 'c-softswitch.toml');
  const listen = (scheme) => `[[listen]]\nurl = "${scheme}://127.0.0.1:0/"\norigins = ${JSON.stringify(origins)}\n`;
  await writeFile(file, listen('ws') + listen('wss'));
  const child = new Child('c-softswitch', binary, ['--config', file, '--domain', DOMAIN, 'udp://127.0.0.1:0']);
  await child.ready('to be ready', () => /^ready$/m.test(child.tail()));
  const ports = Object.fromEntries(SCHEMES.map((scheme) => {
    const port = new RegExp(`^listening on ${scheme}://127\\.0\\.0\\.1:(\\d+)$`, 'm').exec(child.tail())?.[1];
    assert.ok(port, `c-softswitch does not say that it listens on ${scheme}:\n${child.tail()}`);
    return [scheme, Number(port)];
  }));
  return new Softswitch(child, ports, folder);
}

class Softswitch {
  #folder;

  constructor(child, ports, folder) {
    this.child = child;
    this.urls = { ws: `ws://127.0.0.1:${ports.ws}/`, wss: `wss://127.0.0.1:${ports.wss}/` };
    this.udp = ports.udp;
    this.#folder = folder;
  }

  /** Whether it has printed a line that begins with `words`. */
  hasSaid(words) {
    return this.child.tail(Infinity).split('\n').some((line) => `${line} `.startsWith(`${words} `));
  }

  /** Waits until it has. */
  said(words) {
    return until(`c-softswitch to say "${words}"`, () => {
      this.child.mustRun();
      return this.hasSaid(words);
    }, { state: () => `its log ends\n${this.child.tail()}` });
  }

  /**
   * Plays `play` while SIPp, a phone on UDP, plays the scenario `name` ("answer" or "call") of tests/peers/sipp. Both must end
   * well. `user`: who SIPp is registered as, where it is to be called. `callee`: whom it calls.
   */
  async withUdpPhone(name, { user, callee }, play) {
    const folder = await mkdtemp(path.join(this.#folder, 'sipp-'));
    const gatewayPort = await freePort();
    await withGateway(folder, name, { port: this.udp, gatewayPort }, { user: callee }, async () => {
      if (user) await this.#register(folder, user, gatewayPort);
      await play();
    });
  }

  /** SIPp registers `user` at a port where another SIPp is: one scenario of it has one Call-ID. */
  async #register(folder, user, port) {
    const sipp = new Child('SIPp (register)', process.env.SIPP ?? 'sipp', [
      `127.0.0.1:${this.udp}`,
      ...['-sf', REGISTER, '-s', user, '-key', 'contact_port', String(port)],
      ...['-i', '127.0.0.1', '-p', String(await freePort()), '-t', 'u1'],
      ...['-m', '1', '-nostdin', '-timeout', '10s', '-timeout_error', '-trace_err', '-error_file', 'register-errors.log'],
    ], { cwd: folder });
    try {
      const { code, signal, error } = await within('SIPp to register', sipp.exit, 12_000);
      assert.equal(error ?? code ?? signal, 0, `SIPp could not register:\n${sipp.tail()}`);
    } finally {
      await sipp.stop();
    }
  }

  /** Ends it with SIGTERM, and is content with exit code 0 alone. */
  async stop() {
    const { code, signal } = await this.child.stop();
    assert.equal(code, 0, `c-softswitch ended with ${code ?? signal} after SIGTERM:\n${this.child.tail()}`);
  }
}
