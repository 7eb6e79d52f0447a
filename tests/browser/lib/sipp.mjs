// The gateway behind the SIP system: SIPp over UDP, one call each, with a scenario of tests/peers/sipp.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { Child } from './child.mjs';
import { DOMAIN } from './kamailio.mjs';
import { within } from './wait.mjs';

/**
 * Runs the scenario `name` ("answer" or "call") as the gateway of `kamailio`, in the empty folder `folder`, while `play`
 * does the browser's part. Both must end well. `user`: whom the gateway calls.
 */
export async function withGateway(folder, name, kamailio, { user = 'gateway' }, play) {
  const scenario = fileURLToPath(new URL(`../../peers/sipp/${name}.xml`, import.meta.url));
  const gateway = new Child(`SIPp (${name})`, process.env.SIPP ?? 'sipp', [
    `127.0.0.1:${kamailio.port}`,
    ...['-sf', scenario, '-s', user, '-key', 'domain', DOMAIN],
    ...['-i', '127.0.0.1', '-p', String(kamailio.gatewayPort), '-t', 'u1'],
    ...['-m', '1', '-nostdin', '-timeout', '20s', '-timeout_error', '-trace_err', '-error_file', `${name}-errors.log`],
  ], { cwd: folder });
  try {
    await play();
    const { code, signal, error } = await within(`${gateway.name} to finish its call`, gateway.exit, 20_000);
    assert.equal(error ?? code ?? signal, 0, `${gateway.name} failed:\n${gateway.tail()}`);
  } finally {
    await gateway.stop();
  }
}
