import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { slabs } from './bytes.ts';

test('arrays of a slab are zeros, as long as was asked, and no two share a byte', () => {
  const lengths = fc.array(fc.nat(200), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(lengths, (wanted) => {
      const take = slabs(256);
      const given = wanted.map((length) => {
        const bytes = take(length);
        assert.equal(bytes.length, length);
        assert.ok(bytes.every((byte) => byte === 0));
        return bytes;
      });
      for (const [i, bytes] of given.entries()) bytes.fill(i + 1);
      for (const [i, bytes] of given.entries()) assert.ok(bytes.every((byte) => byte === i + 1));
    }),
  );
});

test('small arrays share a slab, long ones keep none alive', () => {
  const take = slabs(256);
  assert.equal(take(64).buffer, take(64).buffer);
  assert.equal(take(65).buffer.byteLength, 65);
});
