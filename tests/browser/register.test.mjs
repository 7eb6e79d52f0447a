// Registration: digest, refresh by hand and by itself, unregistering, a wrong password; each library, over ws and wss.

import assert from 'node:assert/strict';
import { LIBRARIES, REGISTRATIONS, TRANSPORTS, useWorld } from './lib/world.mjs';
import { until } from './lib/wait.mjs';

const world = useWorld();

for (const registration of REGISTRATIONS) {
  for (const transport of TRANSPORTS) {
    for (const library of LIBRARIES) {
      world.test(`${library} registers, refreshes and unregisters over ${transport} with ${registration}`, async () => {
        const url = world.edges[registration].sipwsd.urls[transport];
        const [alice, bob] = await Promise.all([world.registered('alice', library, url), world.registered('bob', library, url)]);
        const answers = (status) => alice.messages('<', new RegExp(`^SIP/2.0 ${status} `)).filter(({ text }) => /CSeq: \d+ REGISTER/i.test(text)).length;
        assert.equal(answers(401), 1, 'the first REGISTER is challenged, once');
        assert.equal(answers(200), 1);

        await alice.do('register');
        await until('the refresh to be answered', () => answers(200) === 2);
        await called(bob, alice);

        await alice.do('unregister');
        await alice.saw('unregistered');
        await bob.do('call', alice.user);
        assert.equal((await bob.saw('failed')).code, 480, 'a user who has unregistered is unavailable');
      });
    }
  }
}

/** `callee` is reachable: a call from `caller` rings there. */
async function called(caller, callee) {
  await caller.do('call', callee.user);
  await callee.saw('incoming');
  await callee.do('reject', 486);
  assert.equal((await caller.saw('failed')).code, 486);
  await callee.saw('failed');
}

for (const library of LIBRARIES) {
  world.test(`${library} refreshes its registration by itself before it expires`, async () => {
    const alice = await world.registered('alice', library, world.edges.path.sipwsd.urls.ws, { expires: 10 });
    const sent = () => alice.messages('>', /^REGISTER /).length;
    const before = sent();
    await until('another REGISTER', () => sent() > before, { deadline: 12_000, every: 200 });
  }, { timeout: 20_000 });

  world.test(`${library} with a wrong password is not registered`, async () => {
    const { urls } = world.edges.path.sipwsd;
    const mallory = await world.connected('alice', library, urls.ws, { password: 'wrong' });
    await mallory.do('register');
    assert.equal((await mallory.saw('registrationFailed')).code, 401);
    const bob = await world.registered('bob', library, urls.ws);
    await bob.do('call', mallory.user);
    assert.equal((await bob.saw('failed')).code, 480);
  });
}

world.test('jssip with the edge as its preloaded route registers, calls and is called', async () => {
  const { urls } = world.edges.path.sipwsd;
  const options = { preloadedRoute: true };
  const [alice, bob] = await Promise.all([
    world.registered('alice', 'jssip', urls.ws, options),
    world.registered('bob', 'jssip', urls.wss, options),
  ]);
  assert.match(alice.messages('>', /^REGISTER /)[0].text, /^Route: <sip:127\.0\.0\.1:\d+;transport=ws;lr>/im);
  await called(alice, bob);
  await called(bob, alice);
});
