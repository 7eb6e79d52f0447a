// The page's start: makes the phone, and ties what the person does to it and what it does to what the person sees.

import { chooseAccount, loadConfig } from './account.js';
import { MessageLog } from './log.js';
import { Phone } from './phone.js';
import { ring } from './ring.js';
import { showDuration } from './timer.js';
import { isKey, makeKeypad, showCall, showKeypad, showPressed, showRegistration } from './view.js';

const $ = (id) => document.getElementById(id);

const log = new MessageLog($('messages'), $('log-empty'), $('clear'));
const phone = new Phone($('sound'), (direction, text) => log.add(direction, text));
let config = { accounts: [] };

phone.addEventListener('change', () => {
  showRegistration(phone);
  if (!phone.call) showCall(null, phone);
});

phone.addEventListener('call', ({ call }) => {
  let rung;
  const draw = () => {
    const ended = call.state === 'ended';
    showCall(ended ? null : call, phone, call.farewell);
    showDuration($('timer'), ended ? null : call.since);
    if (rung !== call.state) ring((rung = call.state));
  };
  call.addEventListener('change', draw);
  draw();
});

$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  phone.register({ ...config, user: $('user').value.trim(), password: $('password').value });
});
$('user').addEventListener('input', () => {
  const known = config.accounts.find(({ user }) => user === $('user').value);
  if (known) $('password').value = known.password;
});
$('unregister').addEventListener('click', () => phone.stop());

$('dial').addEventListener('submit', (event) => {
  event.preventDefault();
  if ($('call').disabled) return;
  try {
    phone.dial($('target').value.trim());
  } catch (error) {
    showCall(null, phone, error.message);
  }
});
$('answer').addEventListener('click', () => phone.call?.answer());
$('decline').addEventListener('click', () => phone.call?.hangUp());
$('hang-up').addEventListener('click', () => phone.call?.hangUp());
$('mute').addEventListener('click', () => phone.call?.toggleMute());
$('hold').addEventListener('click', () => phone.call?.toggleHold());
$('keypad').addEventListener('click', () => showKeypad($('keys').hidden));

function press(key) {
  phone.call.press(key);
  showPressed(key);
}
makeKeypad(press);
document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement || event.ctrlKey || event.altKey || event.metaKey;
  if (typing || phone.call?.state !== 'active' || !isKey(event.key)) return;
  showKeypad(true);
  press(event.key);
});

// A tab that closes hangs up. It asks to be unregistered too, but is gone when a registrar with digest asks who it is:
// that binding runs out by itself.
window.addEventListener('pagehide', () => phone.stop());

try {
  config = await loadConfig();
  const account = await chooseAccount(config, new URLSearchParams(location.search));
  const others = config.accounts.map(({ user }) => user).filter((user) => user !== account.user);
  $('user').value = account.user;
  $('password').value = account.password;
  $('domain').textContent = config.domain;
  $('server').textContent = config.server;
  $('target').value = others[0] ?? '';
  $('people').replaceChildren(...others.map((user) => Object.assign(document.createElement('option'), { value: user })));
  $('account').open = !account.password || window.matchMedia('(min-width: 56rem)').matches;
  phone.stop();
  if (account.password) phone.register({ ...config, ...account });
} catch (error) {
  showCall(null, phone, `The page cannot start: ${error.message}`);
}
