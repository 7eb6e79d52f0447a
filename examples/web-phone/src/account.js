// Who this page is: config.json beside the page, the query string, and which of the demonstration's accounts is still free.

/** Reads config.json: `{ server, domain, accounts: [{ user, password }] }`, made for a demonstration on one machine. */
export async function loadConfig() {
  const response = await fetch('config.json', { cache: 'no-store' });
  if (!response.ok) throw new Error(`config.json: the web server answers ${response.status}`);
  return { accounts: [], ...(await response.json()) };
}

/**
 * The account for this tab: the one that `?user=` names, or the first that no other tab of this browser has taken.
 * Without any: an empty one, for the person to fill in.
 */
export async function chooseAccount({ accounts }, query) {
  const named = query.get('user');
  if (named) {
    take(named);
    return { user: named, password: accounts.find(({ user }) => user === named)?.password ?? '' };
  }
  for (const account of accounts) {
    if (await take(account.user)) return account;
  }
  return { user: '', password: '' };
}

/** Takes the account for as long as this tab lives: the browser frees a Web Lock when its tab goes. */
function take(user) {
  return new Promise((resolve) => {
    navigator.locks.request(`sipws-web-phone-${user}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    });
  });
}

/**
 * The UUID by which a registrar knows this browser's phone of `user` (RFC 5626): kept, so that a page that is loaded again
 * takes the place of its own earlier registration.
 */
export function instanceOf(user) {
  const key = `sipws-web-phone-instance-${user}`;
  const known = localStorage.getItem(key);
  if (known) return known;
  const made = crypto.randomUUID();
  localStorage.setItem(key, made);
  return made;
}
