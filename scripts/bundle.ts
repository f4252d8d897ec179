/**
 * Makes what the image runs: each command and the packet thread as one JavaScript module, with what they share beside
 * them, and the native addon: this machine's, or the file given. Node.js then neither strips types nor finds modules at
 * start, which takes 60 MB off every process. Into the folder given, anew, with the licences of the packages whose code
 * is in it.
 */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const [outdir, addon = 'sidecar/nfqueue-bindings/build/nfqueue.node'] = process.argv.slice(2);
if (outdir === undefined) throw new Error('usage: bundle FOLDER [ADDON]');

rmSync(outdir, { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: {
    tcpcrypt: 'sidecar/runtime/cli.ts',
    'packet-thread': 'sidecar/runtime/packet-thread.ts',
    'tcpcrypt-node-agent': 'cni/agent/cli.ts',
    'tcpcrypt-operator': 'operator/cli.ts',
  },
  outdir,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node26',
  minifyWhitespace: true,
  legalComments: 'none',
  // CommonJS packages ask for Node's own modules by `require`, which a module has not.
  banner: {
    js: "#!/usr/bin/node\nimport { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
  },
  metafile: true,
  logLevel: 'warning',
});

const packages = new Set(
  Object.keys(metafile.inputs).flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []),
);
cpSync(addon, join(outdir, 'build/nfqueue.node'));
writeFileSync(join(outdir, 'licences'), [...packages].sort().map(licence).join('\n'));

function licence(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file === undefined ? '' : `\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  return `${name} ${version}: ${license}\n${text}`;
}
