// Browsers and a SIP system's other side: SIPp, over UDP behind Kamailio, calls a browser and is called by one.

import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { withGateway } from './lib/sipp.mjs';
import { LIBRARIES, REGISTRATIONS, useWorld } from './lib/world.mjs';

const world = useWorld();

for (const registration of REGISTRATIONS) {
  for (const library of LIBRARIES) {
    const transport = library === 'jssip' ? 'wss' : 'ws';

    world.test(`a SIP gateway calls ${library} over ${transport} with ${registration}, and hangs up`, async () => {
      const { kamailio, sipwsd } = world.edges[registration];
      const bob = await world.registered('bob', library, sipwsd.urls[transport]);
      await withGateway(await folder(), 'call', kamailio, { user: bob.user }, async () => {
        assert.equal((await bob.saw('incoming')).from, '9001');
        await bob.do('answer');
        await bob.saw('answered');
        assert.equal((await bob.saw('ended')).by, 'remote');
      });
    });

    world.test(`${library} over ${transport} calls a SIP gateway with ${registration}, and hangs up`, async () => {
      const { kamailio, sipwsd } = world.edges[registration];
      const alice = await world.registered('alice', library, sipwsd.urls[transport]);
      await withGateway(await folder(), 'answer', kamailio, {}, async () => {
        await alice.do('call', '9001');
        await alice.saw('answered');
        await alice.do('hangUp');
        await alice.saw('ended');
      });
    });
  }
}

const folder = () => mkdtemp(path.join(world.folder, 'sipp-'));
