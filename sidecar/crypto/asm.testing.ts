/** What every implementation of `Asm` must do: run over the suites of crypto/ and over the addon's. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { onesComplementSum } from '../wire/checksum.ts';
import { BAD_CHECKSUM, BAD_TAG, type SegmentInPlace, type Suite, UNCHECKED } from './asm.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
export const directionKey = Uint8Array.from({ length: 32 }, (_, i) => i);
export const fill = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 151 + 3) & 0xff);

/** Stream offsets: any, and those where a counter's word or an implementation's limit ends. */
export const offsets = fc.oneof(
  fc.constantFrom(0, 1, 2 ** 32 - 7, 2 ** 32, 2 ** 36 - 5, 2 ** 36, 2 ** 38 - 100, 2 ** 45 + 1),
  fc.integer({ min: 0, max: 2 ** 53 - 4096 }),
);

/** A segment with tag space and data in the middle of a buffer. */
export function segmentOf(data: Uint8Array, assoc: Uint8Array, offset: number, ackOffset: number) {
  const bytes = new Uint8Array(40 + data.length + 8).fill(0xaa);
  bytes.set(data, 40);
  const segment: SegmentInPlace = {
    bytes,
    tagAt: 20,
    dataAt: 40,
    end: 40 + data.length,
    assoc,
    assocBytes: assoc.length,
    offset,
    ackOffset,
  };
  return segment;
}

const dataOf = ({ bytes, dataAt, end }: SegmentInPlace) => bytes.subarray(dataAt, end);
const sumOf = (bytes: Uint8Array) => onesComplementSum(bytes, 0, bytes.length);
/** The sum of the rest of a segment whose checksum is right. */
const restFor = (bytes: Uint8Array) => 0xffff - sumOf(bytes);

export function testSuite(suite: Suite): void {
  describe(`${suite.name}, wire.md section 5`, () => {
    const asm = suite.asm(directionKey);

    test('crypt undoes itself, cut anywhere, in any order', () => {
      fc.assert(
        fc.property(offsets, fc.uint8Array({ maxLength: 400 }), fc.nat(400), (offset, plaintext, cut) => {
          const at = Math.min(cut, plaintext.length);
          const data = plaintext.slice();
          asm.crypt(offset, data);
          asm.crypt(offset + at, data.subarray(at));
          asm.crypt(offset, data.subarray(0, at));
          assert.deepEqual(data, plaintext);
        }),
      );
    });

    test('another offset is another keystream', () => {
      const seen = new Set<string>();
      const from = [0, 1, 16, 64, 2 ** 32, 2 ** 32 + 1, 2 ** 36, 2 ** 38, 2 ** 40, 2 ** 48, 2 ** 53 - 64];
      for (const offset of from) {
        const data = new Uint8Array(32);
        asm.crypt(offset, data);
        seen.add(hex(data));
      }
      assert.equal(seen.size, from.length);
    });

    test('the tag depends on every bit of ciphertext, associated data and ACK offset', () => {
      const ciphertext = fill(37);
      const assoc = fill(52);
      const ackOffset = 2 ** 40 + 12345;
      const tags = new Set([hex(asm.tag(ciphertext, assoc, ackOffset))]);
      let changes = 1;
      for (const input of [ciphertext, assoc]) {
        for (let bit = 0; bit < input.length * 8; bit++) {
          input[bit >> 3] ^= 1 << (bit & 7);
          tags.add(hex(asm.tag(ciphertext, assoc, ackOffset)));
          input[bit >> 3] ^= 1 << (bit & 7);
          changes++;
        }
      }
      for (let bit = 0n; bit < 53n; bit++) {
        tags.add(hex(asm.tag(ciphertext, assoc, Number(BigInt(ackOffset) ^ (1n << bit)))));
        changes++;
      }
      assert.equal(tags.size, changes);
    });

    test('tag is a pure function of 16 bytes, for empty data too', () => {
      const first = asm.tag(new Uint8Array(0), fill(24), 0);
      assert.equal(first.length, asm.macBytes);
      const kept = hex(first);
      asm.tag(fill(2000), fill(24), 2 ** 53);
      assert.equal(hex(first), kept, 'a later call does not write into an earlier tag');
      assert.equal(hex(asm.tag(new Uint8Array(0), fill(24), 0)), kept);
      assert.equal(hex(suite.asm(directionKey).tag(new Uint8Array(0), fill(24), 0)), kept);
    });

    test('the ACK MAC is the one term of the XOR that the ACK offset enters', () => {
      const differences = [fill(10), fill(20)].map((ciphertext) => {
        const a = asm.tag(ciphertext, fill(24), 1);
        const b = asm.tag(ciphertext, fill(24), 2 ** 33);
        return hex(a.map((byte, i) => byte ^ b[i]));
      });
      assert.equal(differences[0], differences[1]);
    });

    test('seal is crypt and tag in one, and touches nothing else', () => {
      fc.assert(
        fc.property(
          offsets,
          fc.uint8Array({ maxLength: 300 }),
          fc.uint8Array({ maxLength: 60 }),
          offsets,
          (offset, plaintext, assoc, ackOffset) => {
            const segment = segmentOf(plaintext, assoc, offset, ackOffset);
            const sum = asm.seal(segment);
            const expected = plaintext.slice();
            asm.crypt(offset, expected);
            const whole = segmentOf(expected, assoc, offset, ackOffset).bytes;
            whole.set(asm.tag(expected, assoc, ackOffset), 20);
            assert.equal(hex(segment.bytes), hex(whole));
            assert.equal(sum, sumOf(expected));
          },
        ),
      );
    });

    test('open takes what seal made, and nothing that differs in one bit', () => {
      fc.assert(
        fc.property(
          offsets,
          fc.uint8Array({ maxLength: 100 }),
          fc.uint8Array({ minLength: 1, maxLength: 60 }),
          offsets,
          fc.nat(),
          (offset, plaintext, assoc, ackOffset, where) => {
            const segment = segmentOf(plaintext, assoc, offset, ackOffset);
            asm.seal(segment);
            const sealed = segment.bytes.slice();
            assert.equal(asm.open(segment, restFor(dataOf(segment))), sumOf(plaintext));
            assert.deepEqual(dataOf(segment), plaintext);

            const bit = where % ((16 + plaintext.length + assoc.length) * 8);
            const byte = bit >> 3;
            segment.bytes.set(sealed);
            const wrongAssoc = assoc.slice();
            if (byte < 16) segment.bytes[20 + byte] ^= 1 << (bit & 7);
            else if (byte < 16 + plaintext.length) segment.bytes[40 + byte - 16] ^= 1 << (bit & 7);
            else wrongAssoc[byte - 16 - plaintext.length] ^= 1 << (bit & 7);
            const before = segment.bytes.slice();
            const rest = restFor(dataOf(segment));
            assert.equal(asm.open({ ...segment, assoc: wrongAssoc }, rest), BAD_TAG);
            assert.deepEqual(segment.bytes, before);
          },
        ),
      );
    });

    test('open looks at the checksum first', () => {
      const segment = segmentOf(fill(30), fill(24), 1, 1);
      asm.seal(segment);
      const before = segment.bytes.slice();
      const rest = restFor(dataOf(segment));
      assert.equal(asm.open(segment, rest ^ 1), BAD_CHECKSUM);
      assert.deepEqual(segment.bytes, before);
      assert.ok(asm.open(segment, rest) >= 0);
      segment.bytes.set(before);
      assert.equal(asm.open(segment, UNCHECKED), sumOf(fill(30)));
    });

    test('after destroy any use throws; other contexts live on', () => {
      const doomed = suite.asm(directionKey);
      const segment = segmentOf(fill(20), fill(24), 5, 5);
      doomed.destroy();
      doomed.destroy();
      assert.throws(() => doomed.crypt(5, fill(20)), /destroyed/);
      assert.throws(() => doomed.tag(fill(20), fill(24), 5), /destroyed/);
      assert.throws(() => doomed.seal(segment), /destroyed/);
      assert.throws(() => doomed.open(segment, restFor(dataOf(segment))), /destroyed/);
      asm.seal(segment);
      assert.ok(asm.open(segment, restFor(dataOf(segment))) >= 0);
    });

    test("the direction key stays the caller's", () => {
      const mine = directionKey.slice();
      suite.asm(mine).destroy();
      assert.deepEqual(mine, directionKey);
    });
  });
}
