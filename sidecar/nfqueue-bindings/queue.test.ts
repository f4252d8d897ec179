import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { completeChecksums, hooks, Queue, type QueueOptions, verdicts, wake } from './index.ts';
import {
  acceptAll,
  client,
  echoServer,
  type Packet,
  Pair,
  pump,
  receive,
  skipWithoutRoot,
} from './testing/namespaces.ts';
import { tcpPayload } from './testing/packets.ts';

const options = { skip: skipWithoutRoot };
const defaults = { number: 5, gso: false, failOpen: false, maxLength: 4096 };
const toQueue = 'iptables -w -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num 5';

function open(pair: Pair, changes: Partial<QueueOptions> = {}): Queue {
  return new Queue({ ...defaults, netns: pair.b.path, ...changes });
}

/** A connection from a to an echo server in b: what the client got, and what the server did. */
async function converse(pair: Pair, queue: Queue, handle: (packet: Packet) => void, host = '10.77.0.2') {
  const server = pair.b.start(echoServer(80));
  assert.equal(await server.line(), 'ready');
  const asked = pair.a.start(client(80, 'hello', host)).line();
  await pump(queue, handle, asked);
  return { answer: await asked, received: await server.line() };
}

test('accept: packets come as they are and go on', options, async () => {
  using pair = new Pair();
  pair.b.run(toQueue);
  using queue = open(pair);
  const seen: Packet[] = [];
  const { answer } = await converse(pair, queue, (packet) => {
    seen.push(packet);
    queue.verdict(packet.id, verdicts.accept);
  });
  assert.equal(answer, 'hello');
  for (const [i, packet] of seen.entries()) {
    assert.equal(packet.id, i + 1);
    assert.equal(packet.hook, hooks.prerouting);
    assert.notEqual(packet.inIfindex, 0);
    assert.equal(packet.outIfindex, 0);
    assert.equal(packet.mark, 0);
    assert.equal(packet.bytes.readUInt16BE(2), packet.bytes.length);
    assert.deepEqual([...packet.bytes.subarray(12, 20)], [10, 77, 0, 1, 10, 77, 0, 2]);
    assert.deepEqual([packet.gso, packet.cut, packet.checksumNotReady], [false, false, false]);
  }
  assert.ok(seen.some((packet) => Buffer.from(tcpPayload(packet.bytes)).toString() === 'hello'));
  assert.deepEqual(queue.stats(), { received: seen.length, overruns: 0, verdictErrors: 0, malformed: 0 });
});

test('accept: IPv6', options, async () => {
  using pair = new Pair();
  pair.b.run(`ip6${toQueue.slice(2)}`);
  using queue = open(pair);
  let count = 0;
  const handle = (packet: Packet) => {
    count++;
    assert.equal(packet.bytes[0]! >> 4, 6);
    assert.equal(packet.bytes.readUInt16BE(4) + 40, packet.bytes.length);
    queue.verdict(packet.id, verdicts.accept);
  };
  assert.equal((await converse(pair, queue, handle, 'fd77::2')).answer, 'hello');
  assert.ok(count >= 4);
});

test('drop: a SYN that is dropped comes again', options, async () => {
  using pair = new Pair();
  pair.b.run(toQueue);
  using queue = open(pair);
  let syns = 0;
  const { answer } = await converse(pair, queue, (packet) => {
    const isSyn = packet.bytes[33] === 2;
    queue.verdict(packet.id, isSyn && syns++ === 0 ? verdicts.drop : verdicts.accept);
  });
  assert.equal(answer, 'hello');
  assert.equal(syns, 2);
});

test('modify: the receiver gets the bytes given back', options, async () => {
  using pair = new Pair();
  pair.b.run(toQueue);
  using queue = open(pair);
  const { answer, received } = await converse(pair, queue, (packet) => {
    const text = Buffer.from(tcpPayload(packet.bytes)).toString();
    packet.bytes.write(text.toUpperCase(), packet.bytes.length - text.length);
    assert.equal(completeChecksums(packet.bytes), true);
    queue.verdict(packet.id, verdicts.accept, { payload: packet.bytes });
    packet.bytes.fill(0);
  });
  assert.deepEqual([received, answer], ['HELLO', 'HELLO']);
});

test(
  'modify in place: the receiver gets what the ring holds from where the packet was moved to',
  options,
  async () => {
    using pair = new Pair();
    pair.b.run(toQueue);
    using queue = open(pair);
    const { answer, received } = await converse(pair, queue, (packet) => {
      const text = Buffer.from(tcpPayload(packet.bytes)).toString();
      packet.bytes.write(text.toUpperCase(), packet.bytes.length - text.length);
      assert.equal(completeChecksums(packet.bytes), true);
      // Where the netlink message stood is room.
      const start = packet.offset - 24;
      queue.ring.set(packet.bytes, start);
      queue.acceptInPlace(packet.id, undefined, start, start + packet.bytes.length);
    });
    assert.deepEqual([received, answer], ['HELLO', 'HELLO']);
    assert.equal(queue.verdictErrors, 0);
  },
);

test('repeat: the mark becomes the connmark and the connection passes the queue by', options, async () => {
  using pair = new Pair();
  pair.b.run(`
    iptables -w -t mangle -A PREROUTING -p tcp -m mark ! --mark 0 -j CONNMARK --save-mark
    iptables -w -t mangle -A PREROUTING -p tcp -m mark ! --mark 0 -j MARK --set-mark 0
    iptables -w -t mangle -A PREROUTING -p tcp -m connmark --mark 0x7 -j ACCEPT
    ${toQueue}`);
  using queue = open(pair);
  let count = 0;
  const { answer } = await converse(pair, queue, (packet) => {
    count++;
    queue.verdict(packet.id, verdicts.repeat, { mark: 7, payload: packet.bytes });
  });
  assert.equal(answer, 'hello');
  assert.equal(count, 1);
  assert.match(pair.b.run('conntrack -L -p tcp 2>/dev/null'), /mark=7/);
});

test('a mark comes with the packet', options, async () => {
  using pair = new Pair();
  pair.b.run(`iptables -w -t mangle -A PREROUTING -p tcp -j MARK --set-mark 0xfedcba98; ${toQueue}`);
  using queue = open(pair);
  await converse(pair, queue, (packet) => {
    assert.equal(packet.mark, 0xfedcba98);
    queue.verdict(packet.id, verdicts.accept);
  });
});

test('a packet that is longer than the copy range is marked as cut', options, async () => {
  using pair = new Pair();
  pair.b.run(toQueue);
  using queue = open(pair, { copyRangeBytes: 24 });
  await converse(pair, queue, (packet) => {
    assert.deepEqual([packet.bytes.length, packet.cut], [24, true]);
    queue.verdict(packet.id, verdicts.accept);
  });
});

test('a verdict may come later, and others before it', options, async () => {
  using pair = new Pair();
  pair.b.run(`iptables -w -t mangle -A PREROUTING -p udp -j NFQUEUE --queue-num 5`);
  using queue = open(pair);
  const server = pair.b.start(`
    require('node:dgram').createSocket('udp4').on('message', (data) => console.log(String(data)))
      .bind(9, () => console.log('ready'));`);
  assert.equal(await server.line(), 'ready');
  pair.a.start(`
    const socket = require('node:dgram').createSocket('udp4');
    for (const text of ['first', 'second', 'third']) socket.send(text, 9, '10.77.0.2');
    setTimeout(() => socket.close(), 500);`);
  const held: Packet[] = [];
  await pump(
    queue,
    (packet) => held.push(packet),
    () => held.length === 3,
  );
  await setTimeout(100);
  for (const packet of [held[2]!, held[0]!]) {
    queue.verdict(packet.id, verdicts.accept);
    queue.flush();
  }
  assert.deepEqual([await server.line(), await server.line()], ['third', 'first']);
  queue.verdict(held[1]!.id, verdicts.accept);
  queue.flush();
  assert.equal(await server.line(), 'second');
});

const flood = (count: number, bytes: number): string => `
  const socket = require('node:dgram').createSocket('udp4');
  let left = ${count};
  const next = () => left-- > 0 ? socket.send(Buffer.alloc(${bytes}), 9, '10.77.0.2', next) : socket.close();
  next();`;

test('an overrun is counted, and the queue goes on', options, async () => {
  using pair = new Pair();
  pair.b.run(`iptables -w -t mangle -A PREROUTING -p udp -j NFQUEUE --queue-num 5; ${toQueue}`);
  using queue = open(pair, { receiveBufferBytes: 65536 });
  await pair.a.start(flood(500, 1000)).exited();
  let received = 0;
  for (let count = queue.receive(0); count > 0; count = queue.receive(0)) received += count;
  assert.ok(received > 0 && received < 500, `${received} received`);
  assert.ok(queue.overruns > 0);
  const { answer } = await converse(pair, queue, acceptAll(queue));
  assert.equal(answer, 'hello');
});

test('no packet is lost while the queue is being set up', options, async () => {
  using pair = new Pair();
  pair.b.run('iptables -w -t mangle -A PREROUTING -p udp -j NFQUEUE --queue-num 5');
  const sender = pair.a.start(flood(1e9, 64));
  await setTimeout(500);
  for (let i = 0; i < 200; i++) {
    using queue = open(pair, { batch: 4 });
    const ids = receive(queue, 1000).map((packet) => packet.id);
    assert.equal(ids[0], 1);
  }
  sender.kill();
});

test('fail-open: a full queue lets packets pass', options, async () => {
  using pair = new Pair();
  pair.b.run(toQueue);
  using queue = open(pair, { failOpen: true, maxLength: 1 });
  const server = pair.b.start(echoServer(80));
  await server.line();
  // The first SYN fills the queue and has no verdict; the one sent again passes.
  assert.equal(await pair.a.start(client(80, 'hello')).line(), 'hello');
  assert.equal(receive(queue, 0).length, 1);
});

test('a verdict for a packet that is not there is counted', options, () => {
  using pair = new Pair();
  using queue = open(pair);
  queue.verdict(1234, verdicts.accept);
  queue.verdict(0xffffffff, verdicts.drop);
  queue.flush();
  assert.equal(queue.receive(0), 0);
  assert.equal(queue.verdictErrors, 2);
});

test('a batch of 64 packets of 64 KiB is sent at once, a fuller one by itself', options, () => {
  using pair = new Pair();
  using queue = open(pair);
  const payload = new Uint8Array(65531);
  for (let i = 0; i < 64; i++) queue.verdict(i, verdicts.accept, { payload, mark: i });
  queue.receive(0);
  assert.equal(queue.verdictErrors, 0);
  queue.verdict(64, verdicts.accept, { payload });
  queue.receive(0);
  assert.equal(queue.verdictErrors, 64);
  queue.flush();
  queue.receive(0);
  assert.equal(queue.verdictErrors, 65);
});

test('errors carry a code', options, () => {
  using pair = new Pair();
  using first = open(pair);
  assert.throws(() => open(pair), { code: 'ERR_TCPCRYPT_QUEUE_BUSY' });
  assert.throws(() => open(pair, { netns: '/run/netns/there-is-none' }), {
    code: 'ERR_TCPCRYPT_NETLINK',
    message: /there-is-none: No such file/,
  });
  assert.throws(() => open(pair, { netns: '/etc/hostname' }), { code: 'ERR_TCPCRYPT_NETLINK' });
  assert.throws(() => open(pair, { netns: '/proc/self/ns/uts' }), { code: 'ERR_TCPCRYPT_NETLINK' });
  first.close();
  open(pair).close();
});

test('several queues, in several namespaces; the thread stays in its own', options, () => {
  const before = [readlinkSync('/proc/self/ns/net'), readlinkSync('/proc/thread-self/ns/net')];
  using pair = new Pair();
  using first = open(pair);
  using second = open(pair, { number: 6 });
  using third = open(pair, { netns: pair.a.path });
  assert.deepEqual(
    [first, second, third].map((queue) => queue.receive(0)),
    [0, 0, 0],
  );
  assert.equal(new Set([first.wakeFd, second.wakeFd, third.wakeFd]).size, 3);
  assert.deepEqual([readlinkSync('/proc/self/ns/net'), readlinkSync('/proc/thread-self/ns/net')], before);
});

test('a closed queue throws', options, () => {
  using pair = new Pair();
  const queue = open(pair);
  const { wakeFd } = queue;
  queue.close();
  queue.close();
  const closed = { message: 'the queue is closed' };
  assert.throws(() => queue.receive(0), closed);
  assert.throws(() => queue.verdict(1, verdicts.accept), closed);
  assert.throws(() => queue.flush(), closed);
  assert.throws(() => queue.stats(), closed);
  assert.throws(() => queue.overruns, closed);
  assert.equal(wake(wakeFd), false);
});

test('a queue that is forgotten is closed', options, async () => {
  using pair = new Pair();
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const forget = () => void open(pair);
  forget();
  for (let i = 0; ; i++) {
    collect();
    await setTimeout(10);
    try {
      open(pair).close();
      break;
    } catch (error) {
      if (i === 100) throw error;
    }
  }
});

test('timeouts', options, () => {
  using pair = new Pair();
  using queue = open(pair);
  const start = performance.now();
  assert.equal(queue.receive(0), 0);
  assert.equal(queue.receive(60.5), 0);
  assert.ok(performance.now() - start >= 60);
  for (const timeout of [-1, -Infinity, Infinity, 1e300, 2 ** 53]) {
    assert.equal(wake(queue.wakeFd), true);
    assert.equal(queue.receive(timeout), 0);
  }
});
