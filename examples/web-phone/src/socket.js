// JsSIP's WebSocket, with a listener for every message that passes.

import JsSIP from 'jssip';

export class ObservedSocket extends JsSIP.WebSocketInterface {
  #observer;
  #receiver;

  /** `observer(direction, text)` is called with "sent" or "received" and the whole SIP message. */
  constructor(url, observer) {
    super(url);
    this.#observer = observer;
  }

  send(message) {
    this.#observer('sent', String(message));
    return super.send(message);
  }

  // JsSIP's transport sets `ondata` and the socket calls it.
  get ondata() {
    return (data) => {
      this.#observer('received', typeof data === 'string' ? data : new TextDecoder().decode(data));
      this.#receiver(data);
    };
  }

  set ondata(receiver) {
    this.#receiver = receiver;
  }
}
