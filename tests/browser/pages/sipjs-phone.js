// The tests' phone with SIP.js inside. Its window.phone has the same methods and tells the same events as jssip-phone.js.

import { tell } from './wire.js';
import { Inviter, Messager, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';
import { measure, play } from './media.js';

let userAgent;
let registerer;
let session;
let failedWith;
let domain;
let stopping = false;

const address = (user) => UserAgent.makeURI(`sip:${user}@${domain}`);
const held = (sdp) => /^a=(sendonly|inactive)\r?$/m.test(sdp);

function watch(next) {
  session = next;
  let over = false;
  const failed = (code) => {
    if (!over) tell('failed', { code });
    over = true;
  };
  const ended = (by) => {
    if (!over) tell('ended', { by });
    over = true;
  };
  next.delegate = {
    onSessionDescriptionHandler: (handler) => play(handler.peerConnection),
    onCancel: () => failed(487),
    onBye(bye) {
      bye.accept();
      ended('remote');
    },
    onInvite(request, response, status) {
      if (status === 200) tell(held(request.body) ? 'held' : 'resumed');
    },
    onInfo(info) {
      info.accept();
      tell('dtmf', { tone: /Signal=\s*(\S)/.exec(info.request.body)?.[1] });
    },
  };
  let confirmed = false;
  next.stateChange.addListener((state) => {
    if (state === SessionState.Established) {
      confirmed = true;
      tell('answered');
    }
    if (state === SessionState.Terminated && confirmed) ended('local');
  });
  failedWith = failed;
}

/** The Registerer's state stays "registered" while the connection is down, so the answer is what counts. */
async function register() {
  await registerer.register({
    requestDelegate: {
      onAccept: () => tell('registered'),
      onReject: ({ message }) => tell('registrationFailed', { code: message.statusCode }),
    },
  });
}

async function reconnect() {
  while (!stopping) {
    try {
      await userAgent.reconnect();
      await register();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** Settled when the re-INVITE is answered: until then no other may be sent. */
function hold(on) {
  session.sessionDescriptionHandlerOptionsReInvite = { hold: on };
  return new Promise((resolve, reject) => {
    const onReject = ({ message }) => reject(new Error(`re-INVITE answered ${message.statusCode}`));
    session.invite({ requestDelegate: { onAccept: () => resolve(), onReject } }).catch(reject);
  });
}

window.phone = {
  async start(options) {
    domain = options.domain;
    userAgent = new UserAgent({
      uri: address(options.user),
      authorizationUsername: options.user,
      authorizationPassword: options.password,
      transportOptions: { server: options.url },
      // The default asks a STUN server on the Internet.
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
      logBuiltinEnabled: false,
      delegate: {
        onConnect: () => tell('connected'),
        onDisconnect(error) {
          tell('disconnected', { reason: error?.message });
          if (error) reconnect();
        },
        onInvite(invitation) {
          watch(invitation);
          tell('incoming', { from: invitation.remoteIdentity.uri.user });
        },
        onMessage(message) {
          message.accept();
          tell('message', { from: message.request.from.uri.user, text: message.request.body });
        },
      },
    });
    registerer = new Registerer(userAgent, { expires: options.expires });
    registerer.stateChange.addListener((state) => {
      if (state === RegistererState.Unregistered) tell('unregistered');
    });
    await userAgent.start();
  },
  async stop() {
    stopping = true;
    await userAgent.stop();
  },
  register,
  async unregister() {
    await registerer.unregister();
  },
  async call(user) {
    const inviter = new Inviter(userAgent, address(user));
    watch(inviter);
    const failed = failedWith;
    await inviter.invite({
      requestDelegate: {
        onProgress: ({ message }) => message.statusCode > 100 && tell('ringing'),
        onReject: ({ message }) => failed(message.statusCode),
      },
    });
  },
  answer: () => session.accept(),
  async reject(code) {
    await session.reject({ statusCode: code });
    failedWith(code);
  },
  cancel: () => session.cancel(),
  async hangUp() {
    await session.bye();
  },
  hold: () => hold(true),
  resume: () => hold(false),
  async dtmf(tone) {
    const content = `Signal=${tone}\r\nDuration=160\r\n`;
    const body = { contentDisposition: 'render', contentType: 'application/dtmf-relay', content };
    await session.info({ requestOptions: { body } });
  },
  async message(user, text) {
    await new Messager(userAgent, address(user), text).message({
      requestDelegate: {
        onAccept: ({ message }) => tell('sent', { code: message.statusCode }),
        onReject: ({ message }) => tell('sent', { code: message.statusCode }),
      },
    });
  },
  sound: () => measure(session.sessionDescriptionHandler.peerConnection),
};
