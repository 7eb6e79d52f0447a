// Free ports of 127.0.0.1 for peers that cannot pick one themselves and say which (Kamailio, SIPp).

import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { once } from 'node:events';

const given = new Set();

/** A port free for TCP and UDP alike, and not handed out before by this process. */
export async function freePort() {
  for (;;) {
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const { port } = tcp.address();
    const udp = createSocket('udp4').bind(port, '127.0.0.1');
    const free = await Promise.race([once(udp, 'listening').then(() => true), once(udp, 'error').then(() => false)]);
    udp.close();
    tcp.close();
    await once(tcp, 'close');
    if (free && !given.has(port)) {
      given.add(port);
      return port;
    }
  }
}
