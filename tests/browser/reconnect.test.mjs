// A browser whose network breaks, or whose edge is restarted: it connects again by itself, registers again, and can be called.
// A tab that is closed cannot, and the registrar learns it.

import assert from 'node:assert/strict';
import { startRelay } from './lib/relay.mjs';
import { LIBRARIES, REGISTRATIONS, useWorld } from './lib/world.mjs';
import { hears } from './lib/phone.mjs';

// A call to a flow that is gone is refused with 430, and counted.
const world = useWorld({ provokes: /flow_failed/ });

for (const registration of REGISTRATIONS) {
  for (const library of LIBRARIES) {
    world.test(`a call to the closed tab of ${library} is answered 430 once, then 480, with ${registration}`, async () => {
      const { urls } = world.edges[registration].sipwsd;
      const [alice, bob] = await Promise.all([world.registered('alice', library, urls.ws), world.registered('bob', library, urls.wss)]);
      await bob.close();
      for (const status of [430, 480]) {
        await alice.do('call', bob.user);
        assert.equal((await alice.saw('failed')).code, status);
      }
    });

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

        await calls(alice, bob);
      } finally {
        await cable.close();
      }
    });

    world.test(`${library} comes back after a restart of the edge, then is called, with ${registration}`, async () => {
      const { sipwsd } = world.edges[registration];
      const phones = [await world.registered('alice', library, sipwsd.urls.wss), await world.registered('bob', library, sipwsd.urls.ws)];
      await sipwsd.restart();
      for (const phone of phones) {
        await phone.saw('disconnected');
        assert.equal(phone.messages('-', /^closed 1001 /).length, 1, 'the edge says that it is going away');
        await phone.saw('registered');
      }
      await calls(...phones);
    });
  }
}

/** A call with sound, which rings once. */
async function calls(alice, bob) {
  await alice.do('call', bob.user);
  await bob.saw('incoming');
  await bob.do('answer');
  await Promise.all([alice.saw('answered'), bob.saw('answered')]);
  await Promise.all([hears(alice), hears(bob)]);
  await alice.do('hangUp');
  await bob.saw('ended');
  assert.equal(bob.unseen.includes('incoming'), false, 'the call rings once');
}
