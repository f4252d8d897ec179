import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { descriptor } from './index.ts';
import { native } from './native.ts';

const packetType = (3 << 8) | 0;
const errorType = 2;

function attribute(type: number, value: Uint8Array, length = 4 + value.length): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function message(type: number, body: Uint8Array, length = 16 + body.length): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(length, 0);
  header.writeUInt16LE(type, 4);
  return Buffer.concat([header, body, Buffer.alloc((4 - (body.length % 4)) % 4)]);
}

const general = Buffer.from([2, 0, 0, 5]);
const header = (id: number, hook: number) =>
  attribute(1, Buffer.concat([be32(id), Buffer.from([8, 0, hook])]));
const packet = (...attributes: Buffer[]) => message(packetType, Buffer.concat([general, ...attributes]));

/** errors, malformed, then the descriptors. */
function parse(bytes: Uint8Array): { errors: number; malformed: number; packets: number[][] } {
  const [errors, malformed, ...rest] = native.parseForTest(bytes);
  const packets = Array.from({ length: rest.length / descriptor.stride }, (_, i) =>
    rest.slice(i * descriptor.stride, (i + 1) * descriptor.stride),
  );
  return { errors: errors!, malformed: malformed!, packets };
}

test('linux/netfilter/nfnetlink_queue.h: every attribute that is used', () => {
  const bytes = packet(
    header(7, 4),
    attribute(3, be32(0xdeadbeef)),
    attribute(5, be32(2)),
    attribute(6, be32(9)),
    attribute(14, be32(3)),
    attribute(13, be32(100)),
    attribute(10, Buffer.from('hello')),
  );
  const { errors, malformed, packets } = parse(bytes);
  const at = bytes.indexOf('hello');
  assert.deepEqual(
    { errors, malformed, packets },
    {
      errors: 0,
      malformed: 0,
      packets: [[7, at, 5, 4, 0xdeadbeef, 2, 9, 1 | 2 | 4]],
    },
  );
});

test('nla_len leaves out the padding: a payload of each length keeps it', () => {
  for (let length = 0; length < 9; length++) {
    const { packets } = parse(
      packet(header(1, 0), attribute(10, Buffer.alloc(length, 1)), attribute(3, be32(5))),
    );
    assert.equal(packets[0]![descriptor.length], length);
    assert.equal(packets[0]![descriptor.mark], 5);
  }
});

test('several messages in one datagram; refused verdicts are counted, acknowledgements are not', () => {
  const error = (code: number) => {
    const body = Buffer.alloc(20);
    body.writeInt32LE(code);
    return message(errorType, body);
  };
  const { errors, malformed, packets } = parse(
    Buffer.concat([packet(header(1, 0)), error(-2), error(0), packet(header(2, 0)), error(-22)]),
  );
  assert.deepEqual([errors, malformed], [2, 0]);
  assert.deepEqual(
    packets.map((fields) => fields[descriptor.id]),
    [1, 2],
  );
});

test('what does not hold together is counted and leaves no packet', () => {
  const broken: [string, Buffer][] = [
    ['no packet header', packet(attribute(10, Buffer.from('x')))],
    ['packet header too short', packet(attribute(1, Buffer.alloc(6)))],
    ['mark too short', packet(header(1, 0), attribute(3, Buffer.alloc(3)))],
    ['attribute longer than the message', packet(header(1, 0), attribute(10, Buffer.alloc(4), 9))],
    ['attribute shorter than its header', packet(header(1, 0), attribute(10, Buffer.alloc(4), 3))],
    ['message longer than the datagram', message(packetType, Buffer.alloc(4), 21)],
    ['message shorter than its header', message(packetType, Buffer.alloc(4), 15)],
    ['no nfgenmsg', message(packetType, Buffer.alloc(3))],
    ['error without a number', message(errorType, Buffer.alloc(3))],
    ['unknown type', message(0x0205, Buffer.alloc(4))],
    ['less than a header', Buffer.alloc(15)],
  ];
  for (const [name, bytes] of broken) {
    const { malformed, packets } = parse(bytes);
    assert.ok(malformed > 0, name);
    assert.deepEqual(packets, [], name);
  }
  assert.deepEqual(parse(Buffer.alloc(0)), { errors: 0, malformed: 0, packets: [] });
});

test('an attribute of any length at the very end, without padding', () => {
  for (const type of [1, 3, 5, 6, 10, 13, 14]) {
    for (let length = 0; length < 9; length++) {
      const last = attribute(type, Buffer.alloc(length)).subarray(0, 4 + length);
      const body = Buffer.concat([general, header(1, 0), last]);
      const bytes = message(packetType, body).subarray(0, 16 + body.length);
      const enough = length >= (type === 1 ? 7 : type === 10 ? 0 : 4);
      assert.equal(parse(bytes).packets.length, enough ? 1 : 0);
    }
  }
});

test('more packets than there is room for are counted', () => {
  const { malformed, packets } = parse(
    Buffer.concat(Array.from({ length: 70 }, (_, i) => packet(header(i, 0)))),
  );
  assert.deepEqual([malformed, packets.length], [6, 64]);
});

function checkBounds(bytes: Uint8Array): void {
  for (const fields of parse(bytes).packets) {
    assert.ok(fields[descriptor.offset]! + fields[descriptor.length]! <= bytes.length);
  }
}

test('any bytes: no packet reaches outside them', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), checkBounds), { numRuns: 2000 });
});

test('any change to a good message: no packet reaches outside it', () => {
  const good = Buffer.concat([
    packet(header(1, 0), attribute(3, be32(1)), attribute(10, Buffer.alloc(61, 1))),
    packet(header(2, 0), attribute(14, be32(1)), attribute(10, Buffer.alloc(30, 1))),
  ]);
  const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), fc.nat(good.length), (changes, cut) => {
      const bytes = Buffer.from(good);
      for (const { at, value } of changes) bytes[at] = value;
      checkBounds(bytes);
      checkBounds(bytes.subarray(0, cut));
    }),
    { numRuns: 4000 },
  );
});
