// The tests' phone with JsSIP inside. Its window.phone has the same methods and tells the same events as sipjs-phone.js.

import { tell } from './wire.js';
import JsSIP from 'jssip';
import { measure, play } from './media.js';

let ua;
let session;
let domain;

const audioOnly = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
const address = (user) => `sip:${user}@${domain}`;

function watch(next) {
  session = next;
  const incoming = next.direction === 'incoming';
  if (next.connection) play(next.connection);
  next.on('peerconnection', ({ peerconnection }) => play(peerconnection));
  next.on('progress', () => !incoming && tell('ringing'));
  next.on('confirmed', () => tell('answered'));
  next.on('ended', ({ originator }) => tell('ended', { by: originator }));
  next.on('failed', ({ message, cause }) => {
    tell('failed', { code: cause === JsSIP.C.causes.CANCELED ? 487 : message?.status_code, cause });
  });
  next.on('hold', ({ originator }) => originator === 'remote' && tell('held'));
  next.on('unhold', ({ originator }) => originator === 'remote' && tell('resumed'));
  next.on('newDTMF', ({ originator, dtmf }) => originator === 'remote' && tell('dtmf', { tone: dtmf.tone }));
}

/** Settled when the re-INVITE is answered: until then no other may be sent. */
const reoffer = (method) => new Promise((resolve, reject) => {
  if (!session[method]({}, resolve)) reject(new Error(`JsSIP is not ready to ${method}`));
});

window.phone = {
  start(options) {
    domain = options.domain;
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(options.url)],
      uri: address(options.user),
      password: options.password,
      register: false,
      register_expires: options.expires,
      use_preloaded_route: options.preloadedRoute ?? false,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 2,
    });
    let wanted = false;
    ua.on('connected', () => {
      tell('connected');
      // JsSIP does this by itself only with `register: true`.
      if (wanted) ua.register();
    });
    ua.on('disconnected', ({ code }) => tell('disconnected', { code }));
    ua.on('registered', () => {
      wanted = true;
      tell('registered');
    });
    ua.on('unregistered', () => tell('unregistered'));
    ua.on('registrationFailed', ({ response }) => tell('registrationFailed', { code: response?.status_code }));
    ua.on('newRTCSession', ({ originator, session: next }) => {
      watch(next);
      if (originator === 'remote') tell('incoming', { from: next.remote_identity.uri.user });
    });
    ua.on('newMessage', ({ originator, message, request }) => {
      if (originator !== 'remote') return;
      message.accept();
      tell('message', { from: request.from.uri.user, text: request.body });
    });
    ua.start();
  },
  stop: () => ua.stop(),
  register: () => ua.register(),
  unregister: () => ua.unregister(),
  call: (user) => void ua.call(address(user), audioOnly),
  answer: () => void session.answer(audioOnly),
  reject: (code) => void session.terminate({ status_code: code }),
  cancel: () => void session.terminate(),
  hangUp: () => void session.terminate(),
  hold: () => reoffer('hold'),
  resume: () => reoffer('unhold'),
  dtmf: (tone) => void session.sendDTMF(tone, { transportType: 'INFO' }),
  message(user, text) {
    ua.sendMessage(address(user), text, {
      eventHandlers: {
        succeeded: ({ response }) => tell('sent', { code: response.status_code }),
        failed: ({ response }) => tell('sent', { code: response?.status_code }),
      },
    });
  },
  sound: () => measure(session.connection),
};
