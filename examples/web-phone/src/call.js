// One call, from its first ring to its end. Tells "change" whenever something about it has changed, and "end" once.

import JsSIP from 'jssip';

/** Options of JsSIP for calls made and answered. No STUN or TURN server: candidates are this machine's own addresses. */
export const MEDIA = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };

export class Call extends EventTarget {
  #session;
  /** "calling", "incoming", "active" or "ended" */
  state;
  ringing = false;
  muted = false;
  /** "local", "remote", or both: who has put the call on hold */
  heldBy = new Set();
  /** When it was answered, in milliseconds of `performance.now()` */
  since = null;
  /** After the end: what to tell the person */
  farewell = '';

  /** `sound` is the audio element that plays the other side. */
  constructor(session, sound) {
    super();
    this.#session = session;
    this.state = session.direction === 'incoming' ? 'incoming' : 'calling';
    this.#follow(sound);
  }

  /** The other side's user name, or its whole address without one. */
  get peer() {
    const { uri } = this.#session.remote_identity;
    return uri.user ?? uri.toString();
  }

  #follow(sound) {
    const session = this.#session;
    const play = (connection) => connection.addEventListener('track', ({ track }) => {
      sound.srcObject = new MediaStream([track]);
      // A page nobody has touched may not play; answering or calling is a touch.
      sound.play().catch(() => {});
    });
    // For an outgoing call the connection exists by now, for an incoming one it is made when it is answered.
    if (session.connection) play(session.connection);
    session.on('peerconnection', ({ peerconnection }) => play(peerconnection));
    session.on('progress', () => this.#change({ ringing: true }));
    session.on('accepted', () => this.#change({ state: 'active', since: performance.now() }));
    for (const event of ['hold', 'unhold']) {
      session.on(event, ({ originator }) => {
        if (event === 'hold') this.heldBy.add(originator);
        else this.heldBy.delete(originator);
        this.#change({});
      });
    }
    session.on('muted', () => this.#change({ muted: true }));
    session.on('unmuted', () => this.#change({ muted: false }));
    session.on('ended', ({ originator, cause }) => this.#end(farewellToAnswered(originator, cause, this.peer)));
    session.on('failed', ({ originator, cause, message }) => {
      this.#end(farewellToFailed(originator, cause, message?.status_code, this.peer));
    });
    session.on('getusermediafailed', () => {});
  }

  #change(what) {
    Object.assign(this, what);
    this.dispatchEvent(new Event('change'));
  }

  #end(farewell) {
    this.#change({ state: 'ended', farewell });
    this.dispatchEvent(new Event('end'));
  }

  answer() {
    this.#session.answer(MEDIA);
  }

  /** Ends it, whatever it is: CANCEL while it rings there, a refusal while it rings here, BYE in between. */
  hangUp() {
    if (this.state !== 'ended') this.#session.terminate(this.state === 'incoming' ? { status_code: 486 } : {});
  }

  toggleMute() {
    if (this.muted) this.#session.unmute({ audio: true });
    else this.#session.mute({ audio: true });
  }

  /** Does nothing while an earlier re-INVITE is under way. */
  toggleHold() {
    if (this.heldBy.has('local')) this.#session.unhold();
    else this.#session.hold();
  }

  /** Sends a key as INFO (application/dtmf-relay). */
  press(key) {
    this.#session.sendDTMF(key, { transportType: JsSIP.C.DTMF_TRANSPORT.INFO });
  }
}

function farewellToAnswered(originator, cause, peer) {
  const { causes } = JsSIP.C;
  if (cause === causes.RTP_TIMEOUT) return `No way was found for the sound between you and ${peer}.`;
  if (cause === causes.BYE) return originator === 'remote' ? `${peer} has hung up.` : 'You have hung up.';
  return `The call was ended: ${cause}.`;
}

function farewellToFailed(originator, cause, status, peer) {
  const { causes } = JsSIP.C;
  switch (cause) {
    case causes.CANCELED:
      return originator === 'remote' ? `You have missed a call from ${peer}.` : 'You have cancelled the call.';
    case causes.USER_DENIED_MEDIA_ACCESS:
      return 'The browser was not given a microphone: allow it for this page and try again.';
    case causes.REQUEST_TIMEOUT:
      return 'The server does not answer (no response to the INVITE).';
    case causes.CONNECTION_ERROR:
      return 'The connection to the server was lost.';
  }
  if (originator === 'local') return 'You have declined the call.';
  switch (status) {
    case 404:
    case 604:
      return `There is nobody called ${peer} (404 Not Found).`;
    case 480:
    case 430:
      return `${peer} is not registered at the moment (${status}).`;
    case 486:
    case 600:
      return `${peer} is busy, or has declined (${status}).`;
    case 603:
      return `${peer} has declined (603).`;
    default:
      return `The call failed: ${cause}${status ? ` (${status})` : ''}.`;
  }
}
