// MESSAGE (RFC 3428) between browsers, both ways, with text that is more than ASCII.

import assert from 'node:assert/strict';
import { LIBRARIES, REGISTRATIONS, useWorld } from './lib/world.mjs';

const world = useWorld();

const TEXT = 'Grüße aus dem Browser, 你好 ☎\r\nsecond line';

for (const registration of REGISTRATIONS) {
  for (const from of LIBRARIES) {
    for (const to of LIBRARIES) {
      world.test(`${from} and ${to} write to each other with ${registration}`, async () => {
        const { urls } = world.edges[registration].sipwsd;
        const [alice, bob] = await Promise.all([world.registered('alice', from, urls.wss), world.registered('bob', to, urls.ws)]);
        for (const [writer, reader] of [[alice, bob], [bob, alice]]) {
          await writer.do('message', reader.user, TEXT);
          assert.deepEqual(await reader.saw('message'), { name: 'message', from: writer.user, text: TEXT });
          assert.equal((await writer.saw('sent')).code, 200);
        }
        await alice.do('message', 'nobody', TEXT);
        assert.equal((await alice.saw('sent')).code, 404);
      });
    }
  }
}
