/** Runs this folder's tests against a build with the address and undefined-behaviour sanitisers. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const files = ['./plugin.test.ts', './supervisor.test.ts', './probe.test.ts', './reset-encrypted.test.ts'];

test('the sanitisers find nothing', () => {
  const env = { ...process.env, SANITIZE: 'address' };
  execFileSync('sh', [path('../../scripts/build-executable')], { env, stdio: 'pipe' });
  const executable = path('./build/asan/tcpcrypt-node');
  assert.match(execFileSync('ldd', [executable], { encoding: 'utf8' }), /libasan/);
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
  const result = spawnSync(process.execPath, ['--test', '--test-concurrency=1', ...files.map(path)], {
    encoding: 'utf8',
    // Leaks are looked for by ptrace, which not every machine allows; the processes are short.
    env: { ...inherited, TCPCRYPT_TEST_EXECUTABLE: executable, ASAN_OPTIONS: 'detect_leaks=0' },
  });
  assert.equal(result.status, 0, result.stdout + result.stderr);
  assert.doesNotMatch(result.stdout + result.stderr, /Sanitizer|runtime error/);
});
