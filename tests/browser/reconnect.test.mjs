// A browser whose network breaks: it connects again by itself, registers again, and can be called.

import assert from 'node:assert/strict';
import { startRelay } from './lib/relay.mjs';
import { LIBRARIES, REGISTRATIONS, useWorld } from './lib/world.mjs';
import { hears } from './lib/phone.mjs';

const world = useWorld();

for (const registration of REGISTRATIONS) {
  for (const library of LIBRARIES) {
    world.test(`${library} reconnects and registers again after its cable was pulled, then is called, with ${registration}`, async () => {
      const { ports, urls } = world.edges[registration].sipwsd;
      const cable = await startRelay(ports.ws);
      try {
        const [alice, bob] = await Promise.all([world.registered('alice', library, urls.ws), world.registered('bob', library, cable.url)]);
        cable.pull();
        await bob.saw('disconnected');
        cable.plug();
        await bob.saw('connected');
        await bob.saw('registered');

        await alice.do('call', bob.user);
        await bob.saw('incoming');
        await bob.do('answer');
        await Promise.all([alice.saw('answered'), bob.saw('answered')]);
        await Promise.all([hears(alice), hears(bob)]);
        await alice.do('hangUp');
        await bob.saw('ended');
        assert.deepEqual(bob.unseen.filter((name) => name === 'incoming'), [], 'the call rings once');
      } finally {
        await cable.close();
      }
    });
  }
}
