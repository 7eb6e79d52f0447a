// The edge under test: sipwsd, the binary that the environment variable SIPWSD names.

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Child } from './child.mjs';
import { freePort } from './ports.mjs';

/**
 * Starts it in `folder`, in front of the SIP server `upstream`, for pages of `origins` and its own.
 * `registration`: "path" or "rewrite". `pages(urls)`: makes a folder of static files for its admin server, and returns it.
 */
export async function startSipwsd(folder, { registration, upstream, origins = [], pages }) {
  if (!process.env.SIPWSD) throw new Error('SIPWSD is not set: it names the sipwsd binary, for example target/release/sipwsd');
  // As seen from where the person stands, not from where npm has gone.
  const binary = path.resolve(process.env.INIT_CWD ?? '', process.env.SIPWSD);
  const [ws, wss, sip, admin] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const urls = { ws: `ws://127.0.0.1:${ws}/`, wss: `wss://127.0.0.1:${wss}/` };
  const page = `http://127.0.0.1:${admin}/`;
  const own = await pages?.(urls);
  const allowed = JSON.stringify([...origins, new URL(page).origin]);
  const configuration = [
    ...Object.values(urls).map((url) => `[[listen]]\nurl = "${url}"\norigins = ${allowed}`),
    `[sip]\nlisten = ["tcp://127.0.0.1:${sip}"]\nregistration = "${registration}"`,
    `[[upstream]]\nuri = "${upstream}"`,
    `[admin]\nlisten = "127.0.0.1:${admin}"${own ? `\npages = ${JSON.stringify(own)}` : ''}`,
    // Tokens outlive a restart, as they should in earnest: what they lead to is gone, but they are known to be genuine.
    `[cluster]\nsecret = "what the browser tests sign flow tokens with"`,
    `[log]\nlevel = "${process.env.SIPWSD_LOG ?? 'info,sipws=debug'}"`,
    `[runtime]\nthreads = 1\ndrain = "2s"`,
  ];
  const file = path.join(folder, `sipwsd-${registration}.toml`);
  await writeFile(file, configuration.join('\n'));
  const run = async () => {
    const child = new Child(`sipwsd (${registration})`, binary, ['--config', file]);
    await child.ready('to be ready', async () => (await fetch(`${page}readyz`)).ok);
    return child;
  };
  const sipwsd = {
    child: await run(),
    page,
    ports: { ws, wss },
    urls,
    /** Ends it with SIGTERM, which drains it, and is content with exit code 0 alone. */
    stop: async () => {
      const { child } = sipwsd;
      const { code, signal } = await child.stop();
      if (code !== 0) throw new Error(`${child.name} ended with ${code ?? signal} after SIGTERM:\n${child.tail()}`);
    },
    /** Ends it and starts it again, at the same addresses. */
    restart: async () => {
      await sipwsd.stop();
      sipwsd.child = await run();
    },
    metrics: async () => parseMetrics(await (await fetch(`${page}metrics`)).text()),
  };
  return sipwsd;
}

/** Prometheus text as a list of `{ name, labels, value }`. */
export function parseMetrics(text) {
  return text.split('\n').flatMap((line) => {
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    return sample ? [{ name: sample[1], labels: sample[2] ?? '', value: Number(sample[3]) }] : [];
  });
}
