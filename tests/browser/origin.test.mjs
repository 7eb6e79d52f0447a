// Which pages may connect: those of the origins in the configuration, and no other page that a user happens to have open.

import assert from 'node:assert/strict';
import { TRANSPORTS, useWorld } from './lib/world.mjs';

const world = useWorld({ registrations: ['path'], provokes: /"(origin|subprotocol)"/ });

for (const transport of TRANSPORTS) {
  world.test(`a page of another origin cannot connect over ${transport}`, async () => {
    const { urls } = world.edges.path.sipwsd;
    const page = await world.browser.newPage();
    try {
      // The same server by its other name is another origin.
      await page.goto(world.pages.origin.replace('127.0.0.1', 'localhost') + '/jssip/phone.html').catch(() => {});
      assert.equal(new URL(page.url()).hostname, 'localhost');
      assert.equal(await opens(page, urls[transport], 'sip'), false);
    } finally {
      await page.close();
    }
  });

  world.test(`a WebSocket without the subprotocol "sip" is refused over ${transport}`, async () => {
    const { urls } = world.edges.path.sipwsd;
    const page = await world.browser.newPage();
    try {
      await page.goto(world.pages.origin + '/jssip/phone.html');
      assert.equal(await opens(page, urls[transport], 'chat'), false);
      assert.equal(await opens(page, urls[transport], 'sip'), true);
    } finally {
      await page.close();
    }
  });
}

/** Whether a WebSocket opens in `page`. */
function opens(page, url, protocol) {
  return page.evaluate(([address, name]) => new Promise((resolve) => {
    const socket = new WebSocket(address, name);
    socket.onopen = () => {
      resolve(true);
      socket.close();
    };
    socket.onerror = () => resolve(false);
  }), [url, protocol]);
}
