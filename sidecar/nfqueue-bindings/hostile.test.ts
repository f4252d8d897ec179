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
  argument,
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
    native.hmac,
    native.encapsulate,
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

/** offset, ackOffset, transform, tagAt, dataAt, end, assocBytes, rest: as suites.ts lays a segment out. */
function described(places: readonly number[]): Uint8Array {
  const segment = new Uint8Array(104);
  new Float64Array(segment.buffer, 0, 3).set(places.slice(0, 3));
  new Uint32Array(segment.buffer, 24, 4).set(places.slice(3, 7));
  new Int32Array(segment.buffer, 40, 1).set(places.slice(7));
  return segment;
}

test('transforms take any arguments, and stay within their buffers', () => {
  const ids = [0x100, 0x300, 0x400, 0x500, 0x600];
  const transforms = ids.map((id) => native.makeTransform(id, new Uint8Array(32)));
  const functions = [native.crypt, native.tag, native.seal, native.open] as AnyFunction[];
  fc.assert(
    fc.property(argumentLists, (list) => {
      attempt(() => (native.makeTransform as AnyFunction)(...list.map((each) => each())));
      attempt(() => (native.makeTransform as AnyFunction)(0x600, ...list.map((each) => each())));
    }),
    { numRuns: 1000 },
  );
  const longLists = fc.array(argument, { minLength: 6, maxLength: 10 });
  fc.assert(
    fc.property(
      fc.constantFrom(...transforms),
      fc.constantFrom(...functions),
      fc.oneof(argumentLists, longLists),
      (transform, call, list) => {
        attempt(() => call(...list.map((make) => make())));
        attempt(() => call(transform, ...list.map((make) => make())));
      },
    ),
    { numRuns: 3000 },
  );
  // Buffers and numbers of the right kinds: positions decide.
  const places = fc.array(fc.constantFrom(...numbers.slice(0, 12), 20, 40, 60, 61, 63), {
    minLength: 7,
    maxLength: 7,
  });
  fc.assert(
    fc.property(
      fc.oneof(fc.constantFrom(...transforms), fc.constantFrom(...(numbers as number[]))),
      fc.nat(20),
      fc.nat(20),
      places,
      (transform, one, two, places) => {
        const list = buffers();
        const [offset, ackOffset, ...others] = places as number[];
        for (const segment of [described([offset!, ackOffset!, transform, ...others]), list[two]]) {
          attempt(() => (native.seal as AnyFunction)(list[one], segment));
          attempt(() => (native.open as AnyFunction)(list[one], segment));
        }
      },
    ),
    { numRuns: 5000 },
  );
  fc.assert(
    fc.property(argumentLists, (list) => {
      attempt(() => (native.destroyTransform as AnyFunction)(...list.map((each) => each())));
    }),
    { numRuns: 1000 },
  );
  for (const transform of transforms) {
    native.destroyTransform(transform);
    assert.throws(() => native.crypt(transform, 0, new Uint8Array(1)), /destroyed/);
  }
});

test('PrivateKey takes any arguments', () => {
  const make = native.PrivateKey as unknown as new (...args: unknown[]) => unknown;
  const key = new native.PrivateKey(false, new Uint8Array(32), new Uint8Array(32));
  fc.assert(
    fc.property(argumentLists, (list) => {
      attempt(() => new make(...list.map((each) => each())));
      attempt(() =>
        (key.agree as AnyFunction).apply(
          key,
          list.map((each) => each()),
        ),
      );
    }),
    { numRuns: 1000 },
  );
  for (const other of [{}, undefined, new native.RawSender(0, undefined)])
    for (const method of ['agree', 'destroy'] as const)
      attempt(() => (key[method] as AnyFunction).call(other));
  key.destroy();
  assert.throws(() => key.agree(new Uint8Array(32), new Uint8Array(32)), /destroyed/);
});

test('a segment: tag and data must be in order and whole', () => {
  const transform = native.makeTransform(0x600, new Uint8Array(32));
  const seal = (bytes: Uint8Array, tagAt: number, dataAt: number, end: number, assocBytes = 20, rest = 0) =>
    native.seal(bytes, described([1, 1, transform, tagAt, dataAt, end, assocBytes, rest]));
  assert.ok(seal(new Uint8Array(32), 0, 16, 32) > 0);
  assert.equal(seal(new Uint8Array(16), 0, 16, 16), 0);
  assert.throws(() => seal(new Uint8Array(32), 0, 16, 33), RangeError);
  assert.throws(() => seal(new Uint8Array(32), 1, 16, 32), RangeError);
  assert.throws(() => seal(new Uint8Array(32), 20, 16, 32), RangeError);
  assert.throws(() => seal(new Uint8Array(32), 0, 17, 16), RangeError);
  assert.ok(seal(new Uint8Array(32), 0, 16, 32, 60) > 0);
  assert.throws(() => seal(new Uint8Array(32), 0, 16, 32, 61), RangeError);
  assert.throws(() => seal(new Uint8Array(32), 0, 16, 32, 20, -2), RangeError);
  assert.equal(seal(new Uint8Array(32), 0, 16, 32, 20, -1), 0);
  assert.throws(() => native.seal(new Uint8Array(32), new Uint8Array(103)), RangeError);
  assert.throws(() => seal(detached(), 0, 16, 32), RangeError);
});
