// Waiting for conditions, never for luck: everything that waits has a deadline and says what it waited for.

import { setTimeout as pause } from 'node:timers/promises';

/** An error that waiting longer does not mend. */
export class Hopeless extends Error {}

/**
 * Asks `condition` again and again until what it returns is truthy, and returns that.
 * After `deadline` milliseconds it throws an error that names `what` and, where given, what `state` says.
 * An error that `condition` throws counts as "not yet", unless it is `Hopeless`.
 */
export async function until(what, condition, { deadline = 10_000, every = 50, state } = {}) {
  const end = Date.now() + deadline;
  let trouble;
  for (;;) {
    try {
      const found = await condition();
      if (found) return found;
      trouble = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      trouble = error;
    }
    if (Date.now() >= end) {
      const seen = state ? `; ${await state()}` : '';
      throw new Error(`waited ${deadline} ms in vain for ${what}${seen}`, { cause: trouble });
    }
    await pause(every);
  }
}

/** `promise`, or an error that names `what` after `deadline` milliseconds. */
export async function within(what, promise, deadline = 10_000) {
  const timer = new AbortController();
  const late = pause(deadline, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`waited ${deadline} ms in vain for ${what}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

export { pause };
