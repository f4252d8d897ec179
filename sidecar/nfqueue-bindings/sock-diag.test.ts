import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import type { SocketInfo } from '../rewriter/types.ts';
import { parseSockDiag, sockDiag } from './index.ts';
import { Pair, skipWithoutRoot } from './testing/namespaces.ts';
import { addressBytes } from './testing/packets.ts';

const options = { skip: skipWithoutRoot };

/** A dump of one socket, laid out as linux/inet_diag.h has it. */
function dump(family: 4 | 6, local: string, remote: string, attributes = Buffer.alloc(0)): Buffer {
  const body = Buffer.alloc(72);
  body[0] = family === 4 ? 2 : 10;
  body[1] = 1;
  body.writeUInt16BE(80, 4);
  body.writeUInt16BE(65535, 6);
  body.set(addressBytes(local), 8);
  body.set(addressBytes(remote), 24);
  body.writeUInt32LE(77, 60);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + body.length + attributes.length, 0);
  header.writeUInt16LE(20, 4);
  return Buffer.concat([header, body, attributes]);
}

test('RFC 5952: addresses in their one form, IPv4-mapped ones as IPv4', () => {
  const local = (address: string) => parseSockDiag(dump(6, address, '::1'), 6)[0]!.local;
  assert.equal(local('::'), '[::]:80');
  assert.equal(local('::1'), '[::1]:80');
  assert.equal(local('2001:db8::'), '[2001:db8::]:80');
  assert.equal(local('2001:db8:0:1:1:1:1:1'), '[2001:db8:0:1:1:1:1:1]:80');
  assert.equal(local('2001:0:0:1::1'), '[2001:0:0:1::1]:80');
  assert.equal(local('1::0:2:0:0:3'), '[1::2:0:0:3]:80');
  assert.equal(local('fe80::ABCD'), '[fe80::abcd]:80');
  assert.equal(local('::ffff:a4d:2'), '10.77.0.2:80');
  assert.equal(local('::fffe:a4d:2'), '[::fffe:a4d:2]:80');
  assert.deepEqual(parseSockDiag(dump(4, '10.0.0.1', '255.255.255.255'), 4), [
    { local: '10.0.0.1:80', remote: '255.255.255.255:65535', state: 1, sendQueueBytes: 77 },
  ]);
});

test('a socket that is bound to an interface', () => {
  const bound = dump(4, '10.0.0.1', '10.0.0.2');
  bound.writeUInt32LE(3, 16 + 40);
  assert.equal(parseSockDiag(bound, 4)[0]!.boundToInterface, true);
});

test('messages of another family, cut ones and their end', () => {
  const good = dump(4, '10.0.0.1', '10.0.0.2');
  assert.deepEqual(parseSockDiag(good, 6), []);
  assert.equal(parseSockDiag(Buffer.concat([good, good]), 4).length, 2);
  for (let length = 0; length < good.length; length++) {
    assert.deepEqual(parseSockDiag(good.subarray(0, length), 4), []);
  }
});

test('any bytes, and any change to a good dump: never throws', () => {
  const info = Buffer.alloc(4 + 240, 1);
  info.writeUInt16LE(info.length, 0);
  info.writeUInt16LE(2, 2);
  const good = dump(6, 'fd00::1', 'fd00::2', info);
  assert.equal(parseSockDiag(good, 6)[0]!.bytesAcked, Number(0x0101010101010101n));
  const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(change),
      fc.nat(good.length),
      (bytes, changes, cut) => {
        parseSockDiag(bytes, 4);
        const copy = Buffer.from(good);
        for (const { at, value } of changes) copy[at] = value;
        parseSockDiag(copy.subarray(0, cut), 6);
      },
    ),
    { numRuns: 2000 },
  );
});

const serverCode = (host: string): string => `
  require('node:net').createServer((socket) => {
    socket.once('data', () => socket.write(Buffer.alloc(300)));
  }).listen({ port: 80, host: '${host}' }, () => console.log('ready'));`;
const clientCode = (host: string): string => `
  const socket = require('node:net').connect({ port: 80, host: '${host}' }, () => socket.write(Buffer.alloc(1000)));
  let received = 0;
  socket.on('data', (data) => { received += data.length; if (received === 300) console.log('done'); });`;

const list = (family: 4 | 6, netns: string): SocketInfo[] =>
  parseSockDiag(sockDiag({ family, netns }), family);
const established = (sockets: SocketInfo[]): SocketInfo[] => sockets.filter((socket) => socket.state === 1);

for (const [name, family, listen, host, address, peer] of [
  ['IPv4', 4, '0.0.0.0', '10.77.0.2', '10.77.0.2', '10.77.0.1'],
  ['IPv6', 6, '::', 'fd77::2', '[fd77::2]', '[fd77::1]'],
  ['IPv4 on a dual-stack socket', 6, '::', '10.77.0.2', '10.77.0.2', '10.77.0.1'],
] as const) {
  test(`linux/tcp.h: a listener and a connection with its byte counters, ${name}`, options, async () => {
    using pair = new Pair();
    assert.deepEqual(list(family, pair.b.path), []);
    const server = pair.b.start(serverCode(listen));
    assert.equal(await server.line(), 'ready');
    const listener = list(family, pair.b.path);
    assert.equal(listener.length, 1);
    assert.equal(listener[0]!.state, 10);
    assert.equal(listener[0]!.local, family === 4 ? '0.0.0.0:80' : '[::]:80');
    assert.equal(listener[0]!.bytesAcked, undefined);

    assert.equal(await pair.a.start(clientCode(host)).line(), 'done');
    await setTimeout(100);
    const [accepted, ...more] = established(list(family, pair.b.path));
    assert.deepEqual(more, []);
    const port = accepted!.remote.slice(peer.length);
    assert.deepEqual(accepted, {
      local: `${address}:80`,
      remote: `${peer}${port}`,
      state: 1,
      sendQueueBytes: 0,
      bytesAcked: 300,
      bytesReceived: 1000,
      notSentBytes: 0,
    });
    const own = established(list(host === address ? 4 : 6, pair.a.path));
    // An active opener's SYN counts among the bytes acknowledged.
    assert.deepEqual(own, [
      {
        local: `${peer}${port}`,
        remote: `${address}:80`,
        state: 1,
        sendQueueBytes: 0,
        bytesAcked: 1001,
        bytesReceived: 300,
        notSentBytes: 0,
      },
    ]);
  });
}

test('bytes that are not acknowledged stand in the send queue', options, async () => {
  using pair = new Pair();
  const server = pair.b.start(
    `require('node:net').createServer((socket) => socket.pause()).listen(80, () => console.log('ready'));`,
  );
  await server.line();
  const code = `
    const socket = require('node:net').connect({ port: 80, host: '10.77.0.2' }, () => {
      socket.write(Buffer.alloc(8 << 20));
      console.log('written');
    });`;
  assert.equal(await pair.a.start(code).line(), 'written');
  await setTimeout(200);
  const [socket] = established(list(4, pair.a.path));
  assert.ok(socket!.sendQueueBytes > 100_000, `${socket!.sendQueueBytes}`);
});

test('a wrong namespace has a code', options, () => {
  assert.throws(() => sockDiag({ family: 4, netns: '/run/netns/there-is-none' }), {
    code: 'ERR_TCPCRYPT_NETLINK',
  });
});
