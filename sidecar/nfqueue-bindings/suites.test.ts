/** The addon's suites: what every implementation must do, and the same bytes as the TypeScript ones for any input. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { offsets, segmentOf, testSuite } from '../crypto/asm.testing.ts';
import { type Asm, suites } from '../crypto/asm.ts';
import { native } from './native.ts';
import { nativeHmac, nativeSuites } from './suites.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });
/** Short ones of every remainder, and one super-segment now and then. */
const data = fc.oneof(
  { weight: 20, arbitrary: fc.uint8Array({ maxLength: 1600 }) },
  { weight: 1, arbitrary: fc.nat(65_535).map((length) => new Uint8Array(length).fill(length & 0xff)) },
);

for (const suite of nativeSuites.values()) testSuite(suite);

for (const [id, suite] of suites) {
  describe(`${suite.name}: native against TypeScript`, () => {
    const other = nativeSuites.get(id)!;

    test('ids and names', () => {
      assert.deepEqual({ ...other, asm: null }, { ...suite, asm: null });
    });

    test('crypt and tag', () => {
      fc.assert(
        fc.property(
          keys,
          offsets,
          data,
          fc.nat(),
          fc.uint8Array({ maxLength: 60 }),
          offsets,
          (key, ...rest) => {
            const [offset, plaintext, cut, assoc, ackOffset] = rest;
            const [expected, actual] = [suite.asm(key), other.asm(key)];
            const [a, b] = [plaintext.slice(), plaintext.slice()];
            expected.crypt(offset, a);
            const at = cut % (plaintext.length + 1);
            if (offset + at <= 2 ** 53) {
              actual.crypt(offset + at, b.subarray(at));
              actual.crypt(offset, b.subarray(0, at));
              assert.ok(Buffer.compare(a, b) === 0);
            }
            assert.equal(hex(actual.tag(a, assoc, ackOffset)), hex(expected.tag(a, assoc, ackOffset)));
            for (const asm of [expected, actual]) asm.destroy();
          },
        ),
      );
    });

    test('many packets under one key, sealed by one and opened by the other', () => {
      const key = new Uint8Array(32).fill(id & 0xff);
      const pair: [Asm, Asm] = [suite.asm(key), other.asm(key)];
      fc.assert(
        fc.property(offsets, data, fc.uint8Array({ maxLength: 60 }), offsets, (offset, plain, assoc, ack) => {
          const sealed = pair.map((asm) => {
            const segment = segmentOf(plain, assoc, offset, ack);
            const sum = asm.seal(segment);
            return { segment, sum };
          });
          assert.equal(Buffer.compare(sealed[0]!.segment.bytes, sealed[1]!.segment.bytes), 0);
          assert.equal(sealed[0]!.sum, sealed[1]!.sum);
          const rest = 0xffff - sealed[0]!.sum;
          const opened = sealed.map(({ segment }, i) => pair[1 - i]!.open(segment, rest));
          assert.equal(opened[0], opened[1]);
          for (const { segment } of sealed) {
            const found = segment.bytes.subarray(segment.dataAt, segment.end);
            assert.equal(Buffer.compare(found, plain), 0);
          }
        }),
      );
    });
  });
}

test('keys of a wrong length, and what is no suite, are refused', () => {
  const bytes = (length: number) => new Uint8Array(length);
  assert.throws(() => native.makeTransform(0x200, bytes(32)), RangeError);
  assert.throws(() => native.makeTransform(0x100, bytes(33)), RangeError);
  assert.throws(() => nativeSuites.get(0x100)!.asm(bytes(31)), RangeError);
});

test('more transforms than there are contexts, of every suite, take turns', () => {
  const all = [...suites.keys()].flatMap((id) =>
    Array.from({ length: 8 }, (_, i) => {
      const key = new Uint8Array(32).fill(id ^ i);
      return { expected: suites.get(id)!.asm(key), actual: nativeSuites.get(id)!.asm(key) };
    }),
  );
  const pick = fc.array(fc.nat(all.length - 1), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(pick, offsets, fc.uint8Array({ maxLength: 100 }), (turns, offset, plain) => {
      for (const i of turns) {
        const { expected, actual } = all[i]!;
        const assoc = Uint8Array.of(i);
        const [a, b] = [segmentOf(plain, assoc, offset, i), segmentOf(plain, assoc, offset, i)];
        expected.seal(a);
        actual.seal(b);
        assert.equal(Buffer.compare(a.bytes, b.bytes), 0);
      }
    }),
  );
  // Some end, and others go on where those were.
  for (const [i, { actual }] of all.entries()) if (i % 3 > 0) actual.destroy();
  const late = Array.from({ length: 40 }, () => nativeSuites.get(0x601)!.asm(new Uint8Array(32)));
  for (const asm of late) asm.tag(new Uint8Array(5), new Uint8Array(5), 1);
  for (const { expected, actual } of all.filter((_, i) => i % 3 === 0)) {
    const [a, b] = [new Uint8Array(40), new Uint8Array(40)];
    expected.crypt(7, a);
    actual.crypt(7, b);
    assert.deepEqual(b, a);
    assert.equal(hex(actual.tag(b, a, 9)), hex(expected.tag(a, b, 9)));
  }
});

test('a transform that is destroyed is gone, once and for all, and others stay', () => {
  // Under the sanitiser one that is freed twice, or used afterwards, ends the process.
  const before = native.countTransforms();
  const made = Array.from({ length: 5000 }, (_, i) =>
    nativeSuites.get(0x601)!.asm(new Uint8Array(32).fill(i)),
  );
  assert.equal(native.countTransforms(), before + 5000);
  for (const asm of made.filter((_, i) => i % 3 > 0)) {
    asm.destroy();
    asm.destroy();
    assert.throws(() => asm.crypt(0, new Uint8Array(1)), /destroyed/);
  }
  const rest = made.filter((_, i) => i % 3 === 0);
  assert.equal(native.countTransforms(), before + rest.length);
  for (const asm of rest) {
    asm.crypt(0, new Uint8Array(1));
    asm.destroy();
  }
  assert.equal(native.countTransforms(), before);
});

test('HMAC-SHA-256 is the one of node:crypto, for keys below and above a block', () => {
  const bytes = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(bytes, bytes, (key, message) => {
      const out = new Uint8Array(32);
      nativeHmac(key, message, out);
      assert.equal(hex(out), createHmac('sha256', key).update(message).digest('hex'));
    }),
  );
  assert.throws(() => nativeHmac(new Uint8Array(1), new Uint8Array(1), new Uint8Array(31)), RangeError);
});
