// The edge under test: sipwsd, the binary that the environment variable SIPWSD names.

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Child } from './child.mjs';
import { freePort } from './ports.mjs';
import { until } from './wait.mjs';

/**
 * Starts it in `folder`, in front of the SIP server `upstream`, for pages of `origin`.
 * `registration`: "path" or "rewrite". `pages`: folder of static files for its admin server.
 */
export async function startSipwsd(folder, { registration, upstream, origins = [], pages }) {
  const binary = process.env.SIPWSD;
  if (!binary) throw new Error('SIPWSD is not set: it names the sipwsd binary, for example target/release/sipwsd');
  const [ws, wss, sip, admin] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const listen = [`ws://127.0.0.1:${ws}/`, `wss://127.0.0.1:${wss}/`];
  const configuration = [
    ...listen.map((url) => `[[listen]]\nurl = "${url}"\norigins = ${JSON.stringify(origins)}`),
    `[sip]\nlisten = ["tcp://127.0.0.1:${sip}"]\nregistration = "${registration}"`,
    `[[upstream]]\nuri = "${upstream}"`,
    `[admin]\nlisten = "127.0.0.1:${admin}"${pages ? `\npages = ${JSON.stringify(pages)}` : ''}`,
    `[log]\nlevel = "${process.env.SIPWSD_LOG ?? 'info,sipws=debug'}"`,
    `[runtime]\nthreads = 1\ndrain = "2s"`,
  ];
  const file = path.join(folder, `sipwsd-${registration}.toml`);
  await writeFile(file, configuration.join('\n'));
  const child = new Child(`sipwsd (${registration})`, binary, ['--config', file]);
  const page = `http://127.0.0.1:${admin}/`;
  await until(`${child.name} to be ready`, async () => {
    child.mustRun();
    return (await fetch(`${page}readyz`)).ok;
  }, { state: () => child.tail(20) });
  return {
    child,
    page,
    sipPort: sip,
    ports: { ws, wss },
    urls: { ws: listen[0], wss: listen[1] },
    metrics: async () => parseMetrics(await (await fetch(`${page}metrics`)).text()),
  };
}

/** Prometheus text as a list of `{ name, labels, value }`. */
export function parseMetrics(text) {
  return text.split('\n').flatMap((line) => {
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    return sample ? [{ name: sample[1], labels: sample[2] ?? '', value: Number(sample[3]) }] : [];
  });
}
