// The SIP system behind the edge: Kamailio with tests/peers/kamailio.cfg.

import { connect } from 'node:net';
import { mkdir } from 'node:fs/promises';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from './child.mjs';
import { freePort } from './ports.mjs';

const CONFIGURATION = fileURLToPath(new URL('../../peers/kamailio.cfg', import.meta.url));

export const DOMAIN = 'sipws.test';

/** The password that kamailio.cfg expects of an account. */
export const passwordOf = (user) => `secret-${user}`;

/** Starts it in `folder`. `registration`: "path", or "rewrite" for a registrar that knows no Path. */
export async function startKamailio(folder, registration) {
  const runtime = path.join(folder, `kamailio-${registration}`);
  await mkdir(runtime);
  const port = await freePort();
  const gatewayPort = await freePort();
  const defines = [`SIP_PORT=${port}`, `GATEWAY_PORT=${gatewayPort}`, `SIP_DOMAIN="${DOMAIN}"`];
  if (registration === 'path') defines.push('WITH_PATH');
  const child = new Child(`Kamailio (${registration})`, process.env.KAMAILIO ?? 'kamailio', [
    ...['-f', CONFIGURATION, '-DD', '-E', '-m', '64', '-M', '8', '-Y', runtime, '-w', runtime],
    ...defines.flatMap((define) => ['-A', define]),
  ]);
  await child.ready('to listen', () => answers(port));
  return { child, port, gatewayPort, uri: `sip:127.0.0.1:${port};transport=tcp` };
}

async function answers(port) {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } finally {
    socket.destroy();
  }
}
