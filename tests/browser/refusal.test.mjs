// Calls that come to nothing: cancelled, refused, to nobody, to somebody who is away.

import assert from 'node:assert/strict';
import { LIBRARIES, REGISTRATIONS, useWorld } from './lib/world.mjs';

const world = useWorld();

for (const registration of REGISTRATIONS) {
  for (const from of LIBRARIES) {
    for (const to of LIBRARIES) {
      // The caller's transport and the callee's differ, which the edge must not mix up.
      const [near, far] = from === to ? ['ws', 'wss'] : ['wss', 'ws'];
      world.test(`${from} over ${near} calls ${to} over ${far} with ${registration}: cancelled, then refused`, async () => {
        const { urls } = world.edges[registration].sipwsd;
        const [alice, bob] = await Promise.all([world.registered('alice', from, urls[near]), world.registered('bob', to, urls[far])]);

        await alice.do('call', bob.user);
        await bob.saw('incoming');
        await alice.saw('ringing');
        await alice.do('cancel');
        assert.equal((await bob.saw('failed')).code, 487, 'the CANCEL reaches the callee');
        assert.equal((await alice.saw('failed')).code, 487);

        for (const status of [486, 603]) {
          await alice.do('call', bob.user);
          await bob.saw('incoming');
          await bob.do('reject', status);
          assert.equal((await alice.saw('failed')).code, status);
          await bob.saw('failed');
        }
      });
    }
    world.test(`${from} calls nobody, and somebody who is away, with ${registration}`, async () => {
      const alice = await world.registered('alice', from, world.edges[registration].sipwsd.urls.ws);
      for (const [user, status] of [['nobody', 404], ['dave-away', 480]]) {
        await alice.do('call', user);
        assert.equal((await alice.saw('failed')).code, status);
      }
    });
  }
}
