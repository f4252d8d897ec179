import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemRandom } from './random.ts';

test('bytes of any length come once, and may be overwritten', () => {
  const seen = new Set<string>();
  const given: Uint8Array[] = [];
  for (let i = 0; i < 500; i++) {
    const length = [16, 32, 64, 900, 1024, 1025, 5000][i % 7]!;
    const bytes = systemRandom(length);
    assert.equal(bytes.length, length);
    seen.add(Buffer.from(bytes.subarray(0, 16)).toString('hex'));
    given.push(bytes);
    bytes.fill(i);
  }
  assert.equal(seen.size, 500);
  for (const [i, bytes] of given.entries()) assert.ok(bytes.every((byte) => byte === (i & 0xff)));
});
