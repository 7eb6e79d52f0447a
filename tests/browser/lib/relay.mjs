// A cable that can be pulled: a TCP relay between a browser and the edge, whose connections the test can break.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/** Relays a port of 127.0.0.1 to `port`. `pull()` resets what is connected and refuses newcomers until `plug()`. */
export async function startRelay(port) {
  const open = new Set();
  let plugged = true;
  const server = createServer((near) => {
    if (!plugged) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(port, '127.0.0.1');
    open.add(near).add(far);
    for (const [socket, other] of [[near, far], [far, near]]) {
      socket.on('error', () => {});
      socket.once('close', () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pull = () => {
    plugged = false;
    for (const socket of open) socket.resetAndDestroy();
  };
  return {
    url: `ws://127.0.0.1:${server.address().port}/`,
    pull,
    plug: () => {
      plugged = true;
    },
    close: async () => {
      pull();
      server.close();
      await once(server, 'close');
    },
  };
}
