// Browsers at c-softswitch, PJSIP with libsipws_pjsip: they register there, call a phone on UDP, are called by it, and call
// each other.

import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { hears } from './lib/phone.mjs';
import { softswitchMissing, startSoftswitch } from './lib/softswitch.mjs';
import { until } from './lib/wait.mjs';
import { LIBRARIES, TRANSPORTS, useWorld } from './lib/world.mjs';

// In a suite, whose hooks run one after the other.
describe('browsers at c-softswitch', { skip: softswitchMissing }, () => {
  const world = useWorld({ registrations: [] });
  let softswitch;
  before(async () => {
    softswitch = await startSoftswitch(world.folder, [world.pages.origin]);
  }, { timeout: 20_000 });
  after(() => softswitch?.stop(), { timeout: 20_000 });

  for (const transport of TRANSPORTS) {
    for (const library of LIBRARIES) {
      const other = TRANSPORTS.find((one) => one !== transport);
      const atSoftswitch = (title, play) => testOfSoftswitch(`${library} over ${transport} ${title}`, play);

      atSoftswitch('calls a phone on UDP, and hangs up', async (phone) => {
        const alice = await phone('alice', library, transport);
        await softswitch.withUdpPhone('answer', { user: '9001' }, async () => {
          await alice.do('call', '9001');
          await alice.saw('ringing');
          await alice.saw('answered');
          await softswitch.said(`answered ${alice.user} -> 9001`);
          await alice.do('hangUp');
          await alice.saw('ended');
        });
        await alice.settled();
        assert.deepEqual(answers(alice, '<', 'INVITE'), [200]);
        assert.deepEqual(answers(alice, '<', 'BYE'), [200]);
      });

      atSoftswitch('is called by a phone on UDP, which hangs up', async (phone) => {
        const bob = await phone('bob', library, transport);
        await softswitch.withUdpPhone('call', { callee: bob.user }, async () => {
          assert.equal((await bob.saw('incoming')).from, '9001');
          await bob.do('answer');
          await bob.saw('answered');
          assert.equal((await bob.saw('ended')).by, 'remote');
        });
        assert.deepEqual(answers(bob, '>', 'INVITE'), [200]);
        assert.deepEqual(answers(bob, '>', 'BYE'), [200]);
      });

      for (const [there, hangsUp] of [[transport, 'caller'], [other, 'callee']]) {
        atSoftswitch(`is called by a browser over ${there}: sound both ways, hold and hang-up by ${hangsUp}`, async (phone) => {
          const [alice, bob] = await Promise.all([phone('alice', 'jssip', there), phone('bob', library, transport)]);
          await alice.do('call', bob.user);
          await bob.saw('incoming');
          await alice.saw('ringing');
          await bob.do('answer');
          await Promise.all([alice.saw('answered'), bob.saw('answered')]);
          await Promise.all([hears(alice), hears(bob)]);
          const [quitter, left] = hangsUp === 'caller' ? [alice, bob] : [bob, alice];
          await quitter.do('hold');
          await left.saw('held');
          await quitter.do('resume');
          await left.saw('resumed');
          await Promise.all([hears(alice), hears(bob)]);
          await quitter.do('hangUp');
          assert.equal((await left.saw('ended')).by, 'remote');
          await quitter.saw('ended');
          await Promise.all([alice.settled(), bob.settled()]);
          // The call was longer than the 500 ms after which a server repeats a 200 that it takes for lost.
          const sent = messagesOf(bob, '>', /^SIP\/2\.0 200 /, 'INVITE');
          const got = messagesOf(alice, '<', /^SIP\/2\.0 200 /, 'INVITE');
          assert.equal(got.length, sent.length, 'the softswitch repeats no 200 of its own accord (RFC 6026)');
        });
      }

      atSoftswitch('registers again, which is one registration, and unregisters', async (phone) => {
        const [alice, bob] = await Promise.all([phone('alice', library, other), phone('bob', library, transport)]);
        await bob.do('register');
        await until('the second REGISTER to be answered', () => messagesOf(bob, '<', /^SIP\/2\.0 200 /, 'REGISTER').length === 2);
        const [, again] = messagesOf(bob, '<', /^SIP\/2\.0 200 /, 'REGISTER');
        assert.equal(again.match(/^Contact:/gim)?.length, 1, again);
        await bob.do('unregister');
        await bob.saw('unregistered');
        await softswitch.said(`unregistered ${bob.user}`);
        await alice.do('call', bob.user);
        assert.equal((await alice.saw('failed')).code, 404);
      });

      atSoftswitch('is no longer registered when its tab is closed', async (phone) => {
        const [alice, bob] = await Promise.all([phone('alice', library, other), phone('bob', library, transport)]);
        await bob.close();
        await softswitch.said(`unregistered ${bob.user}`);
        await alice.do('call', bob.user);
        assert.equal((await alice.saw('failed')).code, 404);
      });
    }
  }

  /** A test whose phones are registered at the softswitch, and unregister at its end. Its failure prints the softswitch's log. */
  function testOfSoftswitch(title, play) {
    world.test(title, async () => {
      const phones = [];
      try {
        await play(async (name, library, transport) => {
          const phone = await world.registered(name, library, softswitch.urls[transport]);
          phones.push(phone);
          return phone;
        });
        for (const phone of phones.filter(({ user }) => !softswitch.hasSaid(`unregistered ${user}`))) {
          await phone.do('unregister');
          await phone.saw('unregistered');
          await softswitch.said(`unregistered ${phone.user}`);
        }
      } catch (error) {
        console.error(`\n===== c-softswitch: end of its log\n${softswitch.child.tail()}`);
        throw error;
      }
    });
  }

  /** What went over the phone's WebSocket of the transactions of `method`, where the start line matches `pattern`. */
  function messagesOf(phone, direction, pattern, method) {
    const cseq = new RegExp(`^CSeq: \\d+ ${method}\\r$`, 'im');
    return phone.messages(direction, pattern).map(({ text }) => text).filter((text) => cseq.test(text));
  }

  /** The final answers to `method`, each status once however often it was sent. */
  function answers(phone, direction, method) {
    const finals = messagesOf(phone, direction, /^SIP\/2\.0 [2-6]/, method);
    return [...new Set(finals.map((text) => Number(text.slice('SIP/2.0 '.length).slice(0, 3))))];
  }
});
