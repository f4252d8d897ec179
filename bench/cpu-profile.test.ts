import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CpuProfile, hasFile, selfTime } from './cpu-profile.ts';

const frame = (functionName: string, url: string, lineNumber: number) => ({ functionName, url, lineNumber });
const profile: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame('(idle)', '', -1) },
    { id: 2, callFrame: frame('seal', 'file:///repo/sidecar/rewriter/seal.ts', 60) },
    { id: 3, callFrame: frame('', 'file:///repo/sidecar/rewriter/seal.ts', 9) },
    { id: 4, callFrame: frame('update', 'node:internal/crypto/cipher', 184) },
    { id: 5, callFrame: frame('memcpy', '', -1) },
    // The same function, called from elsewhere.
    { id: 6, callFrame: frame('seal', 'file:///repo/sidecar/rewriter/seal.ts', 60) },
  ],
  startTime: 1000,
  samples: [1, 2, 3, 4, 5, 6, 1],
  timeDeltas: [100, 200, 100, 300, 100, 100, 100],
};

test('self time by function: calls from different places are one function', () => {
  assert.deepEqual(selfTime(profile, 'function', '/repo/'), [
    { name: 'seal sidecar/rewriter/seal.ts:61', share: 0.3 },
    { name: 'update node:internal/crypto/cipher:185', share: 0.3 },
    { name: '(idle)', share: 0.2 },
    { name: '(anonymous) sidecar/rewriter/seal.ts:10', share: 0.1 },
    { name: 'memcpy', share: 0.1 },
  ]);
});

test('self time by file', () => {
  assert.deepEqual(selfTime(profile, 'file', '/repo/'), [
    { name: 'sidecar/rewriter/seal.ts', share: 0.4 },
    { name: 'node:internal/crypto/cipher', share: 0.3 },
    { name: '(idle)', share: 0.2 },
    { name: '(native)', share: 0.1 },
  ]);
});

test('only the window counts', () => {
  // Samples end at 1100, 1300, 1400, 1700, 1800, 1900, 2000.
  const shares = selfTime(profile, 'function', '/repo/', 1400, 1800);
  assert.deepEqual(
    shares.map(({ name }) => name.split(' ')[0]),
    ['update', '(anonymous)', 'memcpy'],
  );
  assert.ok(Math.abs(shares[0].share - 0.6) < 1e-9);
  assert.deepEqual(selfTime(profile, 'function', '/repo/', 5000), []);
});

test('hasFile', () => {
  assert.equal(hasFile(profile, '/rewriter/seal.ts'), true);
  assert.equal(hasFile(profile, '/packet-thread.ts'), false);
});
