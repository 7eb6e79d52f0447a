// The user agent: the connection to the edge, the registration, and the calls. Tells "change" and, for a new one, "call".

import JsSIP from 'jssip';
import { instanceOf } from './account.js';
import { Call, MEDIA } from './call.js';
import { ObservedSocket } from './socket.js';

export class Phone extends EventTarget {
  #ua = null;
  #sound;
  #observer;
  /** "offline", "working", "registered" or "failed" */
  registration = 'offline';
  /** What there is to say about it. */
  detail = '';
  user = '';
  domain = '';
  /** The call there is, or null. One at a time: whoever calls meanwhile hears that we are busy. */
  call = null;

  /** `sound` is the audio element for calls, `observer(direction, text)` sees every SIP message. */
  constructor(sound, observer) {
    super();
    this.#sound = sound;
    this.#observer = observer;
  }

  /** Connects to `server` (ws:// or wss://) and registers there as `user` of `domain`. */
  register({ server, domain, user, password }) {
    this.stop();
    const uri = JsSIP.URI.parse(`sip:${user}@${domain}`);
    if (!uri) {
      this.#change('failed', `"${user}" cannot be a user name`);
      return;
    }
    Object.assign(this, { user, domain });
    const ua = new JsSIP.UA({
      sockets: [new ObservedSocket(server, this.#observer)],
      uri: uri.toString(),
      password,
      instance_id: instanceOf(user),
      register_expires: 600,
      user_agent: 'sipws web phone',
    });
    this.#ua = ua;
    // JsSIP goes on reconnecting, and registers again when it is connected.
    ua.on('connected', () => this.#change('working', 'Registering…'));
    ua.on('disconnected', () => this.#ua === ua && this.#change('failed', `No connection to ${server}, trying again`));
    ua.on('registered', () => this.#change('registered', `Registered as ${user}`));
    ua.on('registrationFailed', ({ response, cause }) => {
      this.#change('failed', `Not registered: ${response ? `${response.status_code} ${response.reason_phrase}` : cause}`);
    });
    ua.on('newRTCSession', ({ session, originator }) => this.#meet(session, originator === 'remote'));
    this.#change('working', 'Connecting…');
    ua.start();
  }

  /** Ends the call, unregisters and disconnects. */
  stop() {
    this.call?.hangUp();
    const ua = this.#ua;
    this.#ua = null;
    ua?.stop();
    this.#change('offline', 'Not registered');
  }

  /** Calls a user of our domain, or any sip: address. */
  dial(target) {
    const address = JsSIP.URI.parse(/^sips?:/i.test(target) ? target : `sip:${target.includes('@') ? target : `${target}@${this.domain}`}`);
    if (!address) throw new Error(`"${target}" is not an address that can be called`);
    this.#ua.call(address.toString(), MEDIA);
  }

  #meet(session, incoming) {
    if (this.call) {
      if (incoming) session.terminate({ status_code: 486 });
      return;
    }
    const call = new Call(session, this.#sound);
    this.call = call;
    call.addEventListener('end', () => {
      this.call = null;
    });
    this.dispatchEvent(Object.assign(new Event('call'), { call }));
  }

  #change(registration, detail) {
    Object.assign(this, { registration, detail });
    this.dispatchEvent(new Event('change'));
  }
}
