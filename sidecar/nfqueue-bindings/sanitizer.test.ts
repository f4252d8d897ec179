/** Runs the tests of the transforms, and those that throw wrong bytes and arguments at the addon, under the address sanitiser. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const files = [
  './hostile.test.ts',
  './hostile-queue.test.ts',
  './parse.test.ts',
  './checksum.test.ts',
  './suites.test.ts',
  './key-exchange.test.ts',
];

test('the address sanitiser finds nothing', () => {
  const build = { env: { ...process.env, SANITIZE: 'address' }, stdio: 'pipe' } as const;
  execFileSync('sh', [path('../../scripts/build-native')], build);
  const addon = path('./build/asan/nfqueue.node');
  // The build is one with the sanitiser: it will not load without its library.
  const bare = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', addon], { encoding: 'utf8' });
  assert.match(bare.stderr, /ASan runtime does not come first/);
  const library = execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const result = spawnSync(process.execPath, ['--test', '--test-concurrency=1', ...files.map(path)], {
    encoding: 'utf8',
    env: {
      ...env,
      TCPCRYPT_NATIVE_ADDON: addon,
      LD_PRELOAD: library,
      // Node.js frees nothing at its end; leaks are not what is looked for.
      ASAN_OPTIONS: 'detect_leaks=0',
    },
  });
  assert.equal(result.status, 0, result.stdout + result.stderr);
  assert.doesNotMatch(result.stdout + result.stderr, /AddressSanitizer/);
});
