/**
 * Arguments of every wrong kind to the addon's classes, below the types of index.ts: it answers or throws,
 * and never reads or writes outside what it was given. sanitizer.test.ts runs this under the address
 * sanitiser.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Queue, RawSender, verdicts } from './index.ts';
import { type NativeQueue, native } from './native.ts';
import {
  type AnyFunction,
  argument,
  argumentLists,
  attempt,
  buffers,
  detached,
  numbers,
} from './testing/hostile.ts';
import { Pair, skipWithoutRoot } from './testing/namespaces.ts';

const options = { skip: skipWithoutRoot };
const queueOptions = { number: 5, gso: true, failOpen: false, maxLength: 16 };

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
  const poller = new native.Poller(queue);
  for (const wait of numbers)
    for (const due of numbers) {
      queue.wake();
      attempt(() => poller.next(wait as number, due as number));
    }
  fc.assert(
    fc.property(
      fc.constantFrom('verdict', 'acceptAll', 'receive', 'flush', 'stats', 'wake') as fc.Arbitrary<
        keyof NativeQueue
      >,
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
  const entries = new Uint32Array(queue.acceptances);
  const words = [0, 1, 66_559, 66_560, 2 * 66_560, 2 * 66_560 + 1, 2 ** 31, 2 ** 32 - 1];
  for (const start of words)
    for (const end of words)
      for (const count of numbers) {
        const words = [count as number, 1, start, end, 1, 7, 2, 0, 40, start, end];
        entries.set(words);
        attempt(() => queue.acceptAll());
        entries.set(words);
        attempt(() => queue.flush());
        entries.set(words);
        attempt(() => poller.next(0, 0));
      }
  structuredClone(poller.state, { transfer: [poller.state] });
  assert.throws(() => poller.next(0, 0), /detached/);
  structuredClone(queue.acceptances, { transfer: [queue.acceptances] });
  for (const call of [() => queue.acceptAll(), () => queue.flush(), () => poller.next(0, 0)])
    assert.throws(call, /detached/);
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
  const room = queue.ring.length;
  const wrong: [number, number][] = [
    [0, 65_532],
    [5, 5],
    [6, 5],
    [room - 1, room + 1],
    [room, 2 ** 32 - 1],
  ];
  for (const [start, end] of wrong) {
    queue.acceptInPlace(1, undefined, start, end);
    assert.throws(() => queue.flush(), RangeError);
  }
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
    for (const method of ['receive', 'verdict', 'acceptAll', 'flush', 'stats', 'close', 'wake'] as const) {
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
