// What the person sees: the state of the phone and of its call, drawn anew whenever one of them has changed.

const $ = (id) => document.getElementById(id);

const KEYS = [
  ['1', ''], ['2', 'ABC'], ['3', 'DEF'],
  ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'],
  ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'],
  ['*', ''], ['0', '+'], ['#', ''],
];
const SPOKEN = { '*': 'star', '#': 'hash' };

/** Makes the keypad's buttons; `press(key)` is called for each press. */
export function makeKeypad(press) {
  for (const [key, letters] of KEYS) {
    const button = document.createElement('button');
    const small = document.createElement('small');
    small.textContent = letters;
    small.ariaHidden = 'true';
    button.type = 'button';
    button.ariaLabel = SPOKEN[key] ?? key;
    button.append(key, small);
    button.addEventListener('click', () => press(key));
    $('keys').append(button);
  }
}

export const isKey = (key) => KEYS.some(([name]) => name === key);

/** Draws the registration's state. */
export function showRegistration(phone) {
  const pill = $('registration');
  pill.dataset.state = phone.registration;
  if (pill.textContent !== phone.detail) pill.textContent = phone.detail;
  const online = phone.registration === 'registered';
  $('call').disabled = !online;
  $('unregister').disabled = phone.registration === 'offline';
  document.title = phone.user && online ? `${phone.user} · Web phone` : 'Web phone';
}

/** Draws the call, or without one the idle phone with `farewell` to the last. */
export function showCall(call, phone, farewell) {
  const state = call?.state === 'active' && call.heldBy.size > 0 ? 'held' : (call?.state ?? 'none');
  const name = call?.peer ?? phone.user;
  $('phone').dataset.call = state;
  $('avatar').textContent = name.slice(0, 1) || '?';
  $('peer').textContent = name || 'Who are you?';
  const line = call ? describe(call) : farewell || idleLine(phone);
  // A live region is read again when it is written again.
  if ($('state').textContent !== line) $('state').textContent = line;

  const focused = document.activeElement;
  $('dial').hidden = call !== null;
  $('incoming').hidden = call?.state !== 'incoming';
  $('ongoing').hidden = !call || call.state === 'incoming';
  for (const id of ['mute', 'hold', 'keypad']) $(id).disabled = call?.state !== 'active';
  setPressed('mute', call?.muted ?? false);
  setPressed('hold', call?.heldBy.has('local') ?? false);
  if (!call) showKeypad(false);
  keepFocus(focused, call);
}

/** The button that had the focus may be gone now: the next thing that one would do gets it. So does a call that comes in. */
function keepFocus(focused, call) {
  const nowhere = focused === document.body;
  if (nowhere ? call?.state !== 'incoming' : focused.checkVisibility()) return;
  const next = !call ? 'target' : call.state === 'incoming' ? 'answer' : 'hang-up';
  $(next).focus({ preventScroll: true });
}

function describe(call) {
  switch (call.state) {
    case 'calling':
      return call.ringing ? 'Ringing…' : 'Calling…';
    case 'incoming':
      return `${call.peer} is calling you`;
    default:
      if (call.heldBy.has('local')) return 'On hold: you have stopped the sound';
      if (call.heldBy.has('remote')) return `On hold by ${call.peer}`;
      return call.muted ? 'In a call, your microphone is muted' : 'In a call';
  }
}

const idleLine = (phone) => (phone.registration === 'registered' ? 'Ready to call and to be called' : 'Register to call and to be called');

const setPressed = (id, on) => {
  $(id).ariaPressed = String(on);
};

export function showKeypad(open) {
  $('keys').hidden = !open;
  $('keypad').ariaExpanded = String(open);
  if (!open) {
    $('pressed').hidden = true;
    $('pressed').textContent = '';
  }
}

export function showPressed(key) {
  $('pressed').hidden = false;
  $('pressed').textContent += key;
}
