// What goes over the page's WebSockets, and what the phone tells the test. Imported before a SIP library, so that
// the library finds our WebSocket; the test provides window.report (lib/phone.mjs).

const text = new TextDecoder();

window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    this.addEventListener('message', ({ data }) => log('<', data));
    this.addEventListener('close', ({ code, reason }) => log('-', `closed ${code} ${reason}`));
  }

  send(data) {
    log('>', data);
    super.send(data);
  }
};

function log(direction, data) {
  window.report('wire', { direction, text: typeof data === 'string' ? data : text.decode(data) });
}

/** Tells the test that something happened; `name` is one of the events of lib/phone.mjs. */
export function tell(name, detail = {}) {
  window.report('event', { name, ...detail });
}
