import assert from 'node:assert/strict';
import { test } from 'node:test';
import { monotonicMs } from '../runtime/clock.ts';
import { descriptor, type Poller, Queue, verdicts, wake } from './index.ts';
import { type NativeQueue, native } from './native.ts';
import { client, echoServer, Pair, skipWithoutRoot } from './testing/namespaces.ts';

const options = { skip: skipWithoutRoot };

function queue(netns: string, number: number): Queue {
  return new Queue({ number, gso: false, failOpen: false, maxLength: 64, netns });
}

/** Accepts what `poller` received from the queue with this index. */
function acceptAll(poller: Poller, index: number, from: Queue): number {
  const count = poller.received(index);
  for (let at = 0; at < count * descriptor.stride; at += descriptor.stride) {
    from.verdict(from.descriptors[at + descriptor.id]!, verdicts.accept);
  }
  return count;
}

test('waiting for several queues ends when any has packets', options, async () => {
  using pair = new Pair();
  using first = queue(pair.b.path, 20);
  using second = queue(pair.b.path, 21);
  pair.b.run('iptables -w -t mangle -A PREROUTING -p tcp --syn -j NFQUEUE --queue-num 20');
  pair.b.run('iptables -w -t mangle -A PREROUTING -p tcp ! --syn -j NFQUEUE --queue-num 21');
  const server = pair.b.start(echoServer(80));
  await server.line();
  const echoed = pair.a.start(client(80, 'hello')).line();
  let done = false;
  void echoed.then(() => {
    done = true;
  });
  const counts = [0, 0];
  const poller = Queue.poller([first, second]);
  while (!done) {
    // Nobody but `next` sends the verdicts.
    poller.next(100, Infinity);
    assert.equal(poller.woken, false);
    counts[0]! += acceptAll(poller, 0, first);
    counts[1]! += acceptAll(poller, 1, second);
    await new Promise(setImmediate);
  }
  assert.equal(await echoed, 'hello');
  assert.equal(counts[0], 1);
  assert.ok(counts[1]! >= 2);
});

test('a wake-up for any of them ends it, once; else the time, whichever is first', options, () => {
  using pair = new Pair();
  using first = queue(pair.b.path, 20);
  using second = queue(pair.b.path, 21);
  const poller = Queue.poller([first, second]);
  for (const { wakeFd } of [first, second]) {
    wake(wakeFd);
    poller.next(-1, Infinity);
    assert.equal(poller.woken, true);
    const start = poller.nowMs;
    assert.ok(Math.abs(start - monotonicMs()) < 1000, 'the clock of the runtime');
    for (const [maxWaitMs, dueMs] of [
      [29.5, Infinity],
      [-1, start + 60],
      [60_000, start + 90],
      [30, start + 60_000],
    ] as const) {
      poller.next(maxWaitMs, dueMs);
      assert.equal(poller.woken, false);
      assert.deepEqual([poller.received(0), poller.received(1)], [0, 0]);
    }
    assert.ok(poller.nowMs - start >= 29.5 + 30.5 + 30 + 30 - 1);
    assert.ok(poller.nowMs - start < 10_000);
    // Over already, or no wait at all.
    poller.next(60_000, start);
    poller.next(0, Infinity);
    assert.ok(poller.nowMs - start < 20_000);
  }
});

test('only open queues can be polled, 1 to 16 of them', options, () => {
  using pair = new Pair();
  const closed = queue(pair.b.path, 20);
  closed.close();
  assert.throws(() => Queue.poller([closed]), /closed/);
  assert.throws(() => Queue.poller([]), RangeError);
  using open = queue(pair.b.path, 21);
  assert.throws(() => Queue.poller(new Array(17).fill(open)), RangeError);
  assert.throws(() => Queue.poller([open]).next(Number.NaN, 0));
  const wrong = [undefined, null, 0, {}, [], open, new Proxy({}, {}), Object.create(native.Queue.prototype)];
  for (const value of [...wrong, new native.RawSender(0, undefined)]) {
    assert.throws(() => new native.Poller(value as NativeQueue), TypeError);
  }
  assert.throws(() => native.Poller.prototype.next.call({}, 0, 0));
  class Sub extends native.Queue {}
  const sub = new Sub(22, false, false, 1, 100, 1, 4096, pair.b.path);
  const poller = new native.Poller(sub);
  poller.next(0, 0);
  sub.close();
  assert.throws(() => poller.next(0, 0), /closed/);
});
