// Builds the phone into dist/: what a web server, or sipwsd itself (admin.pages), hands out. Nothing else is loaded.

import { cp, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

await rm(here('dist'), { recursive: true, force: true });
await cp(here('static'), here('dist'), { recursive: true });
await build({
  entryPoints: [here('src/main.js')],
  outfile: here('dist/main.js'),
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  // JsSIP is MIT: its notice goes along.
  legalComments: 'eof',
  logLevel: 'warning',
});
