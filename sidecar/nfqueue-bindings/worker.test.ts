import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Queue, wake } from './index.ts';
import { client, echoServer, Pair, skipWithoutRoot } from './testing/namespaces.ts';

const options = { skip: skipWithoutRoot };

/** A worker that sleeps in `receive` without a limit, accepts what comes and ends when it is woken. */
const worker = (netns: string, number: number): Worker =>
  new Worker(
    `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.index).then(({ Queue, descriptor, verdicts }) => {
      const { netns, number } = workerData;
      const queue = new Queue({ number, gso: true, failOpen: false, maxLength: 1024, netns });
      parentPort.postMessage(queue.wakeFd);
      for (;;) {
        const count = queue.receive(-1);
        if (count === 0) break;
        for (let i = 0; i < count; i++) queue.verdict(queue.descriptors[i * descriptor.stride], verdicts.accept);
        queue.flush();
      }
      parentPort.postMessage(queue.stats().received);
      if (workerData.number !== 7) queue.close();
    });`,
    { eval: true, workerData: { index: new URL('./index.ts', import.meta.url).href, netns, number } },
  );

test('a worker sleeps in receive and another thread wakes it', options, async () => {
  using pair = new Pair();
  pair.b.run('iptables -w -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num 5');
  const thread = worker(pair.b.path, 5);
  const [wakeFd] = await once(thread, 'message');
  const server = pair.b.start(echoServer(80));
  await server.line();
  assert.equal(await pair.a.start(client(80, 'hello')).line(), 'hello');
  assert.equal(wake(wakeFd), true);
  const [received] = await once(thread, 'message');
  assert.ok(received >= 4);
  await once(thread, 'exit');
  assert.equal(wake(wakeFd), false);
});

test('a worker that ends with its queue open leaves it closed', options, async () => {
  using pair = new Pair();
  const thread = worker(pair.b.path, 7);
  const [wakeFd] = await once(thread, 'message');
  wake(wakeFd);
  await once(thread, 'exit');
  new Queue({ number: 7, gso: false, failOpen: false, maxLength: 1, netns: pair.b.path }).close();
  assert.equal(wake(wakeFd), false);
});

test('several workers, a queue each, beside one of the main thread', options, async () => {
  using pair = new Pair();
  using own = new Queue({ number: 1, gso: false, failOpen: false, maxLength: 1, netns: pair.b.path });
  const threads = [10, 11, 12].map((number) => worker(pair.b.path, number));
  const fds = await Promise.all(threads.map(async (thread) => (await once(thread, 'message'))[0] as number));
  assert.equal(new Set([own.wakeFd, ...fds]).size, 4);
  await setTimeout(20);
  const exits = threads.map((thread) => once(thread, 'exit'));
  for (const fd of fds) assert.equal(wake(fd), true);
  await Promise.all(exits);
  assert.equal(own.receive(0), 0);
});

test('a wake-up before receive is not lost, and two are one', options, () => {
  using pair = new Pair();
  using queue = new Queue({ number: 5, gso: false, failOpen: false, maxLength: 1, netns: pair.b.path });
  wake(queue.wakeFd);
  wake(queue.wakeFd);
  assert.equal(queue.receive(-1), 0);
  const start = performance.now();
  assert.equal(queue.receive(30), 0);
  assert.ok(performance.now() - start >= 30);
});

test('only a descriptor of an open queue can be woken', () => {
  for (const fd of [0, 1, 2, 3, 500, 0x7fffffff]) assert.equal(wake(fd), false);
  for (const fd of [-1, 2 ** 31, 1.5, Number.NaN, Infinity, '1', null, undefined, {}, 1n]) {
    assert.throws(() => wake(fd as number), /fd must be a/);
  }
});
