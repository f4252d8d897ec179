/**
 * Arguments of every wrong kind to the addon's functions, below the types of index.ts: it answers or throws,
 * and never reads or writes outside what it was given. sanitizer.test.ts runs this under the address
 * sanitiser.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum } from './index.ts';
import { native } from './native.ts';
import {
  type AnyFunction,
  argumentLists,
  attempt,
  buffers,
  detached,
  lying,
  numbers,
  Sub,
} from './testing/hostile.ts';
import { referenceSum } from './testing/packets.ts';

test('functions take any arguments', () => {
  const functions = [
    native.wake,
    native.checksum,
    native.completeChecksums,
    native.parseForTest,
    native.sockDiag,
  ];
  fc.assert(
    fc.property(fc.constantFrom(...functions), argumentLists, (call, list) => {
      attempt(() => (call as AnyFunction)(...list.map((make) => make())));
    }),
    { numRuns: 3000 },
  );
});

test('checksum stays within the buffer, whatever start and end are', () => {
  for (const buffer of buffers()) {
    for (const start of numbers) {
      for (const end of numbers) {
        const sum = attempt(() => native.checksum(buffer as Uint8Array, start as number, end as number));
        if (sum === undefined) continue;
        if (start === end) {
          assert.equal(sum, 0);
          continue;
        }
        const bytes = Uint8Array.prototype.subarray.call(
          buffer as Uint8Array,
          start as number,
          end as number,
        );
        if (!(buffer instanceof Sub)) assert.equal(sum, referenceSum(bytes));
      }
    }
  }
});

test('shared and detached memory', () => {
  assert.throws(() => checksum(new Uint8Array(new SharedArrayBuffer(8)), 0, 8), TypeError);
  assert.equal(checksum(detached(), 0, 0), 0);
  assert.throws(() => checksum(detached(), 0, 1), RangeError);
  assert.equal(checksum(new Sub(8), 0, 8), 0);
  assert.throws(() => checksum(new Sub(8), 0, 9), RangeError);
  assert.throws(() => checksum(lying(), 0, 11), RangeError);
});

test('completeChecksums writes nothing outside the packet', () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 120 });
  fc.assert(
    fc.property(
      bytes,
      fc.nat(20),
      fc.constantFrom(0x40, 0x45, 0x4f, 0x60),
      fc.boolean(),
      (seed, at, first, fits) => {
        const whole = Buffer.alloc(at + seed.length + 20, 0xaa);
        const packet = whole.subarray(at, at + seed.length);
        packet.set(seed);
        packet[0] = first;
        // Lengths and protocols that get past the first checks.
        if (fits && packet.length > 20) {
          packet.writeUInt16BE(
            first === 0x60 ? Math.max(0, packet.length - 40) : packet.length,
            first === 0x60 ? 4 : 2,
          );
          packet[first === 0x60 ? 6 : 9] = [6, 0, 43, 60][seed[0]! & 3]!;
          packet.writeUInt16BE(first === 0x60 ? packet.readUInt16BE(6) : 0, 6);
        }
        native.completeChecksums(packet);
        // A copy in memory of its own, for the sanitiser.
        native.completeChecksums(Uint8Array.from(packet));
        assert.ok(whole.subarray(0, at).every((byte) => byte === 0xaa));
        assert.ok(whole.subarray(at + seed.length).every((byte) => byte === 0xaa));
      },
    ),
    { numRuns: 3000 },
  );
});
