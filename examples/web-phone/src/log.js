// The list of SIP messages: one line each, the whole message when it is opened.

const KEPT = 200;

export class MessageLog {
  #list;
  #empty;

  constructor(list, empty, clear) {
    this.#list = list;
    this.#empty = empty;
    clear.addEventListener('click', () => {
      list.replaceChildren();
      empty.hidden = false;
    });
  }

  /** Adds a message; `direction` is "sent" or "received". */
  add(direction, text) {
    const [line] = text.split('\r\n', 1);
    // Keep-alive: an empty line, nothing to read.
    if (!line) return;
    const now = new Date();
    const details = element('details', { className: direction }, [
      element('summary', {}, [
        element('span', { className: 'direction', textContent: direction === 'sent' ? '→' : '←', ariaLabel: direction, role: 'img' }),
        element('time', { dateTime: now.toISOString(), textContent: now.toLocaleTimeString([], { hour12: false }) }),
        element('span', { className: 'line', textContent: `${line}${methodOf(line, text)}` }),
      ]),
      element('pre', { textContent: text.trimEnd() }),
    ]);
    details.addEventListener('toggle', () => details.open && details.scrollIntoView({ block: 'nearest' }));
    const atEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 8;
    this.#list.append(element('li', {}, [details]));
    if (this.#list.children.length > KEPT) this.#list.firstChild.remove();
    this.#empty.hidden = true;
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

/** For a response: what it answers, which its first line does not say. */
function methodOf(line, text) {
  if (!line.startsWith('SIP/2.0')) return '';
  const method = /^CSeq:\s*\d+\s+(\S+)/im.exec(text)?.[1];
  return method ? ` (${method})` : '';
}

function element(name, properties, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
