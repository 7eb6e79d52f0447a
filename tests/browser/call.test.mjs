// Calls between browsers: both libraries as caller and as callee, over ws and wss, both ways of registration.

import { LIBRARIES, REGISTRATIONS, TRANSPORTS, useWorld } from './lib/world.mjs';
import { hears, hearsNothing } from './lib/phone.mjs';

const world = useWorld({ forgets: true });

// Every pair of libraries on every transport and registration; who holds and who hangs up changes from one to the next.
let turn = 0;
for (const registration of REGISTRATIONS) {
  for (const transport of TRANSPORTS) {
    for (const from of LIBRARIES) {
      for (const to of LIBRARIES) {
        const callerHolds = turn % 2 === 0;
        const callerHangsUp = (turn >> 2) % 2 === (turn >> 1) % 2;
        turn += 1;
        const title = `${from} calls ${to} over ${transport} with ${registration}: sound, hold by ${callerHolds ? 'caller' : 'callee'}, DTMF, hang-up by ${callerHangsUp ? 'caller' : 'callee'}`;
        world.test(title, () => call({ registration, transport, from, to, callerHolds, callerHangsUp }));
      }
    }
  }
}

async function call({ registration, transport, from, to, callerHolds, callerHangsUp }) {
  const { urls } = world.edges[registration].sipwsd;
  const [alice, bob] = await Promise.all([
    world.registered('alice', from, urls[transport]),
    world.registered('bob', to, urls[transport]),
  ]);

  await alice.do('call', bob.user);
  await bob.saw('incoming');
  await alice.saw('ringing');
  await bob.do('answer');
  await Promise.all([alice.saw('answered'), bob.saw('answered')]);
  await Promise.all([hears(alice), hears(bob)]);

  const [holder, held] = callerHolds ? [alice, bob] : [bob, alice];
  await holder.do('hold');
  await held.saw('held');
  await hearsNothing(holder);
  await holder.do('resume');
  await held.saw('resumed');
  await Promise.all([hears(alice), hears(bob)]);

  for (const [presser, listener] of [[alice, bob], [bob, alice]]) {
    await presser.do('dtmf', '7');
    const { tone } = await listener.saw('dtmf');
    if (tone !== '7') throw new Error(`${listener.name} heard the tone ${tone}, not 7`);
  }

  const [quitter, left] = callerHangsUp ? [alice, bob] : [bob, alice];
  await quitter.do('hangUp');
  const { by } = await left.saw('ended');
  if (by !== 'remote') throw new Error(`${left.name} thinks that the call was ended by ${by}`);
  await quitter.saw('ended');
}
