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
  while (!done) {
    Queue.wait([first, second], 100);
    counts[0]! += acceptAll(first);
    counts[1]! += acceptAll(second);
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
  for (const { wakeFd } of [first, second]) {
    wake(wakeFd);
    Queue.wait([first, second], -1);
    const start = performance.now();
    Queue.wait([first, second], 30);
    assert.ok(performance.now() - start >= 30);
  }
});

test('only open queues can be waited for, 1 to 16 of them', options, () => {
  using pair = new Pair();
  const closed = queue(pair.b.path, 20);
  closed.close();
  assert.throws(() => Queue.wait([closed], 0), /closed/);
  assert.throws(() => Queue.wait([], 0), RangeError);
  using open = queue(pair.b.path, 21);
  assert.throws(() => Queue.wait(new Array(17).fill(open), 0), RangeError);
  assert.throws(() => Queue.wait([open], Number.NaN));
  const wrong = [undefined, null, 0, {}, [], open, new Proxy({}, {}), Object.create(native.Queue.prototype)];
  for (const value of [...wrong, new native.RawSender(0, undefined)]) {
    assert.throws(() => native.wait(0, value as NativeQueue), TypeError);
  }
  class Sub extends native.Queue {}
  const sub = new Sub(22, false, false, 1, 100, 1, 4096, pair.b.path);
  native.wait(0, sub);
  sub.close();
  assert.throws(() => native.wait(0, sub), /closed/);
});
