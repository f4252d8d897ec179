import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { completeChecksums, hooks, Queue, verdicts } from './index.ts';
import { type Packet, Pair, pump, skipWithoutRoot } from './testing/namespaces.ts';
import { tcpPayload } from './testing/packets.ts';

const options = { skip: skipWithoutRoot };
const totalBytes = 4 << 20;

/** Bytes of the stream at `offset`, as the sender writes it and as it is changed on the way. */
const senderCode = `
  const bytes = Buffer.alloc(${totalBytes}, 'the stream that is sent ');
  const socket = require('node:net').connect({ port: 80, host: '10.77.0.2' }, () => socket.end(bytes));
  socket.on('error', (error) => console.log(error.code));`;
const receiverCode = `
  const hash = require('node:crypto').createHash('sha256');
  require('node:net').createServer((socket) => {
    socket.on('data', (data) => hash.update(data));
    socket.on('end', () => { socket.end(); console.log(hash.digest('hex')); });
  }).listen(80, () => console.log('ready'));`;

const flip = 0x20;
const expected = () => {
  const bytes = Buffer.alloc(totalBytes, 'the stream that is sent ');
  return createHash('sha256')
    .update(bytes.map((byte) => byte ^ flip))
    .digest('hex');
};

/** Sends the stream from a to b with every payload byte flipped in the queue `at` one of them. */
async function transfer(at: 'a' | 'b', gso: boolean): Promise<Packet[]> {
  using pair = new Pair();
  const chain = at === 'a' ? 'POSTROUTING' : 'PREROUTING';
  pair[at].run(`iptables -w -t mangle -A ${chain} -p tcp --dport 80 -j NFQUEUE --queue-num 3`);
  using queue = new Queue({ number: 3, gso, failOpen: false, maxLength: 4096, netns: pair[at].path });
  const receiver = pair.b.start(receiverCode);
  assert.equal(await receiver.line(), 'ready');
  pair.a.start(senderCode);
  const seen: Packet[] = [];
  const hash = receiver.line();
  const handle = (packet: Packet) => {
    seen.push({ ...packet, bytes: packet.bytes.subarray(0, 40) });
    assert.equal(packet.bytes.readUInt16BE(2), packet.bytes.length);
    const payload = tcpPayload(packet.bytes);
    for (let i = 0; i < payload.length; i++) payload[i]! ^= flip;
    assert.equal(completeChecksums(packet.bytes), true);
    queue.verdict(packet.id, verdicts.accept, { payload: packet.bytes });
  };
  await pump(queue, handle, hash);
  assert.equal(await hash, expected());
  const { overruns, verdictErrors, malformed } = queue.stats();
  assert.deepEqual({ overruns, verdictErrors, malformed }, { overruns: 0, verdictErrors: 0, malformed: 0 });
  return seen;
}

const lengthOf = (packet: Packet): number => packet.bytes.readUInt16BE(2);

test('gso, outgoing: super-segments come whole, and go on with complete checksums', options, async () => {
  const seen = await transfer('a', true);
  const longest = Math.max(...seen.map(lengthOf));
  assert.ok(longest > 30_000, `longest ${longest}`);
  for (const packet of seen) {
    assert.equal(packet.hook, hooks.postrouting);
    assert.notEqual(packet.outIfindex, 0);
    assert.equal(packet.gso, lengthOf(packet) > 1500);
    if (packet.gso) assert.equal(packet.checksumNotReady, true);
    assert.equal(packet.cut, false);
  }
});

test('gso, incoming: the same behind a veth', options, async () => {
  const seen = await transfer('b', true);
  assert.ok(Math.max(...seen.map(lengthOf)) > 30_000);
  for (const packet of seen) assert.equal(packet.gso, lengthOf(packet) > 1500);
});

test('without gso: segments within the MTU, checksums ready', options, async () => {
  const seen = await transfer('a', false);
  for (const packet of seen) {
    assert.ok(lengthOf(packet) <= 1500);
    assert.deepEqual([packet.gso, packet.checksumNotReady], [false, false]);
  }
});

test('without gso, incoming', options, async () => {
  const seen = await transfer('b', false);
  for (const packet of seen) assert.ok(lengthOf(packet) <= 1500);
});
