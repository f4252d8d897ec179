import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completeChecksums, Queue, RawSender, verdicts } from './index.ts';
import { acceptAll, echoServer, type Packet, Pair, pump, skipWithoutRoot } from './testing/namespaces.ts';
import { type TcpFields, tcpOffset, tcpPacket } from './testing/packets.ts';

const options = { skip: skipWithoutRoot };
const mark = 0x00c0ffee;
const families = [
  { name: 'IPv4', iptables: 'iptables -w', a: '10.77.0.1', b: '10.77.0.2' },
  { name: 'IPv6', iptables: 'ip6tables -w', a: 'fd77::1', b: 'fd77::2' },
];

function packet(fields: TcpFields): Buffer {
  const bytes = tcpPacket(fields);
  assert.equal(completeChecksums(bytes), true);
  return bytes;
}

for (const { name, iptables, a, b } of families) {
  test(
    `${name}, to the network: the packet leaves with the mark and arrives as it was`,
    options,
    async () => {
      using pair = new Pair();
      pair.a.run(
        `${iptables} -t mangle -A POSTROUTING -p tcp -m mark --mark ${mark} -j NFQUEUE --queue-num 1`,
      );
      pair.b.run(`${iptables} -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num 1`);
      using out = new Queue({ number: 1, gso: true, failOpen: false, maxLength: 16, netns: pair.a.path });
      using queue = new Queue({ number: 1, gso: true, failOpen: false, maxLength: 16, netns: pair.b.path });
      using sender = new RawSender({ mark, netns: pair.a.path });
      // A source that is not the host's own: the sender need not be an end of the connection.
      const source = name === 'IPv4' ? '10.77.0.99' : 'fd77::99';
      const sent = packet({ source, destination: b, sourcePort: 7, destinationPort: 9, seq: 99, flags: 2 });
      assert.equal(sender.send(sent), true);
      const left: Packet[] = [];
      await pump(
        out,
        (one) => {
          left.push(one);
          acceptAll(out)(one);
        },
        () => left.length === 1,
      );
      assert.equal(left[0]!.mark, mark);
      const arrived: Packet[] = [];
      await pump(
        queue,
        (one) => {
          arrived.push(one);
          queue.verdict(one.id, verdicts.drop);
        },
        () => arrived.length === 1,
      );
      const at = tcpOffset(sent);
      assert.deepEqual(arrived[0]!.bytes.subarray(at), sent.subarray(at));
      assert.deepEqual(arrived[0]!.bytes.subarray(12, 20), sent.subarray(12, 20));
    },
  );

  test(`${name}, to the kernel: a local socket takes a whole connection from its peer`, options, async () => {
    using pair = new Pair();
    pair.b.run('for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done');
    pair.b.run(`${iptables} -t mangle -A POSTROUTING -p tcp --sport 80 -j NFQUEUE --queue-num 2`);
    using queue = new Queue({ number: 2, gso: false, failOpen: false, maxLength: 64, netns: pair.b.path });
    using sender = new RawSender({ mark, netns: pair.b.path });
    const server = pair.b.start(echoServer(80));
    assert.equal(await server.line(), 'ready');

    const ends = { source: a, destination: b, sourcePort: 40000, destinationPort: 80 };
    assert.equal(sender.send(packet({ ...ends, seq: 1000, flags: 2 })), true);
    let synAck: Buffer | undefined;
    const take = (one: Packet) => {
      const at = tcpOffset(one.bytes);
      if (one.bytes[at + 13] === 0x12) synAck = one.bytes.subarray(at);
      queue.verdict(one.id, verdicts.drop);
    };
    await pump(queue, take, () => synAck !== undefined);
    assert.equal(synAck!.readUInt32BE(8), 1001);
    const ack = (synAck!.readUInt32BE(4) + 1) >>> 0;
    const payload = Buffer.from('injected');
    assert.equal(sender.send(packet({ ...ends, seq: 1001, ack, flags: 16 })), true);
    assert.equal(sender.send(packet({ ...ends, seq: 1001, ack, flags: 24, payload })), true);
    assert.equal(await server.line(), 'injected');
  });
}

test('link-local IPv6 goes over the interface named', options, async () => {
  using pair = new Pair();
  pair.a.run('ip addr add fe80::a/64 dev eth0 nodad');
  pair.b.run('ip addr add fe80::b/64 dev eth0 nodad');
  pair.b.run('ip6tables -w -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num 1');
  using queue = new Queue({ number: 1, gso: true, failOpen: false, maxLength: 16, netns: pair.b.path });
  using sender = new RawSender({ mark, netns: pair.a.path });
  const ifindex = Number(pair.a.run('cat /sys/class/net/eth0/ifindex'));
  const sent = packet({
    source: 'fe80::a',
    destination: 'fe80::b',
    sourcePort: 7,
    destinationPort: 9,
    flags: 2,
  });
  assert.equal(sender.send(sent, ifindex), true);
  let count = 0;
  const take = (one: Packet) => {
    count++;
    queue.verdict(one.id, verdicts.drop);
  };
  await pump(queue, take, () => count === 1);
});

test('what is no whole packet, or too long for the path, is refused with an errno', options, () => {
  using pair = new Pair();
  using sender = new RawSender({ mark, netns: pair.a.path });
  const good = packet({
    source: '10.77.0.1',
    destination: '10.77.0.2',
    sourcePort: 7,
    destinationPort: 9,
    flags: 2,
  });
  const six = packet({
    source: 'fd77::1',
    destination: 'fd77::2',
    sourcePort: 7,
    destinationPort: 9,
    flags: 2,
  });
  const changed = (bytes: Buffer, at: number, value: number) => {
    const copy = Buffer.from(bytes);
    copy[at] = value;
    return copy;
  };
  const broken = [
    Buffer.alloc(0),
    good.subarray(0, 19),
    good.subarray(0, -1),
    Buffer.concat([good, Buffer.alloc(1)]),
    changed(good, 0, 0x44),
    changed(good, 0, 0x4f),
    changed(good, 0, 0x05),
    six.subarray(0, 39),
    six.subarray(0, -1),
    Buffer.concat([six, Buffer.alloc(1)]),
  ];
  for (const [i, bytes] of broken.entries()) {
    sender.lastErrno = 0;
    assert.equal(sender.send(bytes), false, `broken packet ${i}`);
    assert.equal(sender.lastErrno, 22);
  }
  for (const [source, destination] of [
    ['10.77.0.1', '10.77.0.2'],
    ['fd77::1', 'fd77::2'],
  ] as const) {
    const payload = Buffer.alloc(5000);
    const long = packet({ source, destination, sourcePort: 7, destinationPort: 9, flags: 16, payload });
    assert.equal(sender.send(long), false);
    assert.equal(sender.lastErrno, 90);
  }
  const lost = packet({
    source: '10.77.0.1',
    destination: '203.0.113.1',
    sourcePort: 7,
    destinationPort: 9,
    flags: 2,
  });
  assert.equal(sender.send(lost), false);
  assert.equal(sender.lastErrno, 101);
});

test('a closed sender throws; a wrong namespace has a code', options, () => {
  using pair = new Pair();
  const sender = new RawSender({ mark, netns: pair.a.path });
  sender.close();
  sender.close();
  assert.throws(() => sender.send(Buffer.alloc(40)), { message: 'the sender is closed' });
  assert.throws(() => new RawSender({ mark, netns: '/run/netns/there-is-none' }), {
    code: 'ERR_TCPCRYPT_NETLINK',
  });
});
