/**
 * Arguments of every wrong kind to the addon itself, below the types of index.ts: it answers or throws, and
 * never reads or writes outside what it was given. sanitizer.test.ts runs this under the address sanitiser.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum, Queue, RawSender, verdicts } from './index.ts';
import { type NativeQueue, native } from './native.ts';
import { Pair, skipWithoutRoot } from './testing/namespaces.ts';
import { referenceSum } from './testing/packets.ts';

const options = { skip: skipWithoutRoot };
const queueOptions = { number: 5, gso: true, failOpen: false, maxLength: 16 };

function detached(): Uint8Array {
  const bytes = new Uint8Array(64);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** A view over memory that shrank or grew under it. */
function resized(from: number, to: number, length?: number): Uint8Array {
  const buffer = new ArrayBuffer(from, { maxByteLength: 100_000 });
  const view = new Uint8Array(buffer, 16, length);
  buffer.resize(to);
  return view;
}

class Sub extends Uint8Array {
  override get length(): number {
    return 1e9;
  }
  override get byteLength(): number {
    return 1e9;
  }
}

function lying(): Uint8Array {
  const bytes = new Uint8Array(10);
  Object.defineProperty(bytes, 'length', { value: 1e9 });
  Object.defineProperty(bytes, 'byteOffset', { value: -1e9 });
  Object.defineProperty(bytes, 'buffer', { value: new ArrayBuffer(1e6) });
  return bytes;
}

/** Made anew each time, for some are used up. */
const bufferMakers: (() => unknown)[] = [
  () => new Uint8Array(0),
  () => new Uint8Array(1),
  () => Buffer.alloc(20, 0x45),
  () => Buffer.alloc(65531, 0x60),
  () => Buffer.alloc(65532, 0x4f),
  () => Buffer.alloc(100_000, 0xff),
  detached,
  () => resized(64, 16),
  () => resized(64, 20),
  () => resized(64, 20, 48),
  () => resized(64, 0),
  () => resized(64, 100_000),
  () => resized(64, 100_000, 48),
  () => new Sub(8),
  lying,
  () => new Proxy(new Uint8Array(8), {}),
  () => Object.create(Uint8Array.prototype),
  () => new Uint8Array(new SharedArrayBuffer(64)),
  () => new Uint8Array(new SharedArrayBuffer(64, { maxByteLength: 128 })),
  () => new Uint8ClampedArray(8),
  () => new Int8Array(8),
  () => new Uint16Array(8),
  () => new Float64Array(8),
  () => new BigInt64Array(8),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => ({ length: 8, byteLength: 8, buffer: new ArrayBuffer(8) }),
  () => [1, 2, 3],
];

const buffers = (): unknown[] => bufferMakers.map((make) => make());

const numbers: unknown[] = [
  0,
  -0,
  1,
  4,
  6,
  1.5,
  -1,
  64,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  2 ** 64,
  1e300,
  Number.NaN,
  Infinity,
  -Infinity,
  5e-324,
];

const things: unknown[] = [
  undefined,
  null,
  true,
  '',
  '1',
  'a\0b',
  7n,
  Symbol('x'),
  {},
  () => {},
  { valueOf: () => 1 },
];

/** Any argument; buffers are made when they are used. */
const argument = fc.oneof(
  fc.constantFrom(...numbers).map((value) => () => value),
  fc.constantFrom(...things).map((value) => () => value),
  fc.constantFrom(...bufferMakers),
  fc.anything().map((value) => () => value),
);
const argumentLists = fc.array(argument, { maxLength: 5 });

/** Calls, and takes any error of JavaScript's. */
function attempt(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    assert.ok(error instanceof Error);
    return undefined;
  }
}

type AnyFunction = (...args: unknown[]) => unknown;

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

test('constructors take any arguments', options, () => {
  using pair = new Pair();
  const queueArguments = [
    fc.constantFrom(5, 6, 65535),
    fc.boolean(),
    fc.boolean(),
    fc.constantFrom(1, 1 << 20),
    fc.constantFrom(1, 65535),
    fc.constantFrom(1, 2),
    fc.constantFrom(1, 4096, 1 << 30),
    fc.constant(pair.b.path),
  ].map((good) =>
    fc.oneof({ weight: 6, arbitrary: good }, { weight: 1, arbitrary: argument.map((make) => make()) }),
  );
  let opened = 0;
  fc.assert(
    fc.property(fc.tuple(...queueArguments), (list) => {
      // The last argument is the namespace: none would be this process's own.
      const args = [...list.slice(0, 7), list[7] ?? pair.b.path];
      attempt(() => {
        const queue = Reflect.construct(native.Queue, args) as NativeQueue;
        opened++;
        queue.receive(0);
        queue.close();
      });
    }),
    { numRuns: 500 },
  );
  assert.ok(opened > 0);
  fc.assert(
    fc.property(argument, argument, (mark, netns) => {
      attempt(() => new native.RawSender(mark() as number, (netns() ?? pair.b.path) as string).close());
    }),
    { numRuns: 500 },
  );
});

test('a queue takes any arguments', options, () => {
  using pair = new Pair();
  const queue = new native.Queue(5, true, false, 16, 65535, 2, 65536, pair.b.path);
  fc.assert(
    fc.property(
      fc.constantFrom('verdict', 'receive', 'flush', 'stats', 'wake') as fc.Arbitrary<keyof NativeQueue>,
      argumentLists,
      (method, list) => {
        queue.wake();
        attempt(() => (queue[method] as AnyFunction)(...list.map((make) => make())));
        attempt(() => (queue.verdict as AnyFunction)(1, 1, undefined, list[0]?.()));
      },
    ),
    { numRuns: 3000 },
  );
  for (const payload of buffers()) {
    for (const id of numbers) attempt(() => queue.verdict(id as number, 1, undefined, payload as Uint8Array));
    for (const mark of numbers) attempt(() => queue.verdict(1, 4, mark as number, payload as Uint8Array));
  }
  queue.flush();
  queue.close();
});

test('a sender takes any arguments', options, () => {
  using pair = new Pair();
  const sender = new native.RawSender(1, pair.b.path);
  fc.assert(
    fc.property(argumentLists, (list) => {
      attempt(() => (sender.send as AnyFunction)(...list.map((make) => make())));
    }),
    { numRuns: 3000 },
  );
  for (const packet of buffers())
    for (const at of numbers) attempt(() => sender.send(packet as Buffer, at as number));
  sender.close();
});

test('verdicts and payloads out of range are refused', options, () => {
  using pair = new Pair();
  using queue = new Queue({ ...queueOptions, netns: pair.b.path });
  const verdict = (id: unknown, which: unknown, extra?: object) => () =>
    queue.verdict(id as number, which as 0, extra as object);
  for (const id of [-1, 2 ** 32, 1.5]) assert.throws(verdict(id, 1), RangeError);
  for (const id of [Number.NaN, '1', null, undefined]) assert.throws(verdict(id, 1), TypeError);
  for (const which of [2, 3, 5, 6, 0x10001]) assert.throws(verdict(1, which), RangeError);
  assert.throws(verdict(1, 1, { payload: new Uint8Array(65532) }), RangeError);
  assert.throws(verdict(1, 1, { payload: new Uint8Array(0) }), RangeError);
  assert.throws(verdict(1, 1, { payload: detached() }), RangeError);
  assert.throws(verdict(1, 1, { payload: new Uint8Array(new SharedArrayBuffer(8)) }), TypeError);
  assert.throws(verdict(1, 1, { mark: 2 ** 32 }), RangeError);
  queue.flush();
  queue.receive(0);
  assert.equal(queue.verdictErrors, 0);
  // The longest message there is, in a batch that holds but one.
  using small = new Queue({ ...queueOptions, number: 6, batch: 1, netns: pair.b.path });
  for (let i = 0; i < 3; i++) small.verdict(i, 4, { payload: new Uint8Array(65531), mark: 0xffffffff });
  small.flush();
  small.receive(0);
  assert.equal(small.verdictErrors, 3);
});

test('a getter that closes the queue or detaches the payload', options, () => {
  using pair = new Pair();
  const queue = new Queue({ ...queueOptions, netns: pair.b.path });
  const payload = new Uint8Array(64);
  assert.throws(
    () =>
      queue.verdict(1, verdicts.accept, {
        payload,
        get mark() {
          structuredClone(payload.buffer, { transfer: [payload.buffer] });
          return 1;
        },
      }),
    RangeError,
  );
  const closing = {
    get mark() {
      queue.close();
      return 1;
    },
  };
  assert.throws(() => queue.verdict(1, verdicts.accept, closing), { message: 'the queue is closed' });
});

test('a ring or descriptors that were moved elsewhere are not written to', options, () => {
  using pair = new Pair();
  for (const part of ['ring', 'descriptors'] as const) {
    using queue = new Queue({ ...queueOptions, netns: pair.b.path });
    (queue[part].buffer as ArrayBuffer).transfer(8);
    assert.throws(() => queue.receive(0), { message: /detached/ });
  }
});

test('the ring outlives its queue', options, () => {
  using pair = new Pair();
  const queue = new Queue({ ...queueOptions, netns: pair.b.path });
  const { ring, descriptors } = queue;
  queue.close();
  ring.fill(1);
  descriptors.fill(1);
  assert.equal(ring.at(-1), 1);
});

test('a method with another receiver throws', options, () => {
  using pair = new Pair();
  using queue = new Queue({ ...queueOptions, netns: pair.b.path });
  using sender = new RawSender({ mark: 1, netns: pair.b.path });
  const own = new native.Queue(6, true, false, 16, 65535, 2, 65536, pair.b.path);
  const receivers = [
    {},
    null,
    undefined,
    1,
    queue,
    sender,
    new native.RawSender(1, pair.b.path),
    Object.create(own),
  ];
  for (const receiver of [...receivers, Reflect.construct(Object, [], native.Queue as never)]) {
    for (const method of ['receive', 'verdict', 'flush', 'stats', 'close', 'wake'] as const) {
      assert.throws(() => (native.Queue.prototype[method] as AnyFunction).call(receiver, 0));
    }
  }
  assert.throws(() => (native.RawSender.prototype.send as AnyFunction).call(own, Buffer.alloc(40)));
  assert.throws(() =>
    (native.Queue as unknown as AnyFunction)(5, true, false, 16, 65535, 2, 65536, pair.b.path),
  );
  own.close();
});

test('a subclass that meddles while it is being made', options, () => {
  using pair = new Pair();
  class Meddling extends native.Queue {
    override set ring(_: ArrayBuffer) {
      this.close();
    }
  }
  class Throwing extends native.Queue {
    override set descriptors(_: ArrayBuffer) {
      throw new Error('no');
    }
  }
  const args = [5, true, false, 16, 65535, 2, 65536, pair.b.path] as const;
  const queue = new Meddling(...args);
  assert.throws(() => queue.receive(0), { message: 'the queue is closed' });
  assert.throws(() => new Throwing(...args), { message: 'no' });
  new native.Queue(...args).close();
});
