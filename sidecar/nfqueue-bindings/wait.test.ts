import assert from 'node:assert/strict';
import { test } from 'node:test';
import { descriptor, Queue, verdicts, wake } from './index.ts';
import { type NativeQueue, native } from './native.ts';
import { client, echoServer, Pair, skipWithoutRoot } from './testing/namespaces.ts';

const options = { skip: skipWithoutRoot };

function queue(netns: string, number: number): Queue {
  return new Queue({ number, gso: false, failOpen: false, maxLength: 64, netns });
}

function acceptAll(from: Queue): number {
  const count = from.receive(0);
  for (let i = 0; i < count; i++) {
    from.verdict(from.descriptors[i * descriptor.stride + descriptor.id]!, verdicts.accept);
  }
  from.flush();
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
  const waiter = Queue.waiter([first, second]);
  while (!done) {
    const ready = waiter.wait(100);
    assert.equal(ready & ~3, 0);
    if (ready & 1) counts[0]! += acceptAll(first);
    if (ready & 2) counts[1]! += acceptAll(second);
    await new Promise(setImmediate);
  }
  assert.equal(await echoed, 'hello');
  assert.equal(counts[0], 1);
  assert.ok(counts[1]! >= 2);
});

test('a wake-up for any of them ends it, once; else the time', options, () => {
  using pair = new Pair();
  using first = queue(pair.b.path, 20);
  using second = queue(pair.b.path, 21);
  const waiter = Queue.waiter([first, second]);
  for (const { wakeFd } of [first, second]) {
    wake(wakeFd);
    assert.equal(waiter.wait(-1), 0);
    const start = performance.now();
    assert.equal(waiter.wait(29.5), 0);
    assert.ok(performance.now() - start >= 29.5);
  }
});

test('only open queues can be waited for, 1 to 16 of them', options, () => {
  using pair = new Pair();
  const closed = queue(pair.b.path, 20);
  closed.close();
  assert.throws(() => Queue.waiter([closed]), /closed/);
  assert.throws(() => Queue.waiter([]), RangeError);
  using open = queue(pair.b.path, 21);
  assert.throws(() => Queue.waiter(new Array(17).fill(open)), RangeError);
  assert.throws(() => Queue.waiter([open]).wait(Number.NaN));
  const wrong = [undefined, null, 0, {}, [], open, new Proxy({}, {}), Object.create(native.Queue.prototype)];
  for (const value of [...wrong, new native.RawSender(0, undefined)]) {
    assert.throws(() => new native.Waiter(value as NativeQueue), TypeError);
  }
  assert.throws(() => native.Waiter.prototype.wait.call({}, 0));
  class Sub extends native.Queue {}
  const sub = new Sub(22, false, false, 1, 100, 1, 4096, pair.b.path);
  const waiter = new native.Waiter(sub);
  assert.equal(waiter.wait(0), 0);
  sub.close();
  assert.throws(() => waiter.wait(0), /closed/);
});
