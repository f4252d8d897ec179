import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum, completeChecksums } from './index.ts';
import { referenceSum, tcpOffset, tcpPacket } from './testing/packets.ts';

test('RFC 1071, section 3: the example sums to ddf2', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  assert.equal(checksum(bytes, 0, 8), 0xddf2);
});

test('the sum is that of words added one by one, for every part and initial value', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(300),
      fc.nat(300),
      fc.integer({ min: 0, max: 0xffffffff }),
      (bytes, x, y, initial) => {
        const start = Math.min(x, y, bytes.length);
        const end = Math.min(Math.max(x, y), bytes.length);
        assert.equal(checksum(bytes, start, end, initial), referenceSum(bytes.subarray(start, end), initial));
      },
    ),
  );
});

test('parts that begin at even offsets can be summed one after the other', () => {
  const bytes = Uint8Array.from({ length: 65535 }, (_, i) => (i * 7919) & 0xff);
  const head = checksum(bytes, 0, 1234);
  assert.equal(checksum(bytes, 1234, bytes.length, head), checksum(bytes, 0, bytes.length));
});

test('all ones and all zeros', () => {
  assert.equal(checksum(new Uint8Array(64), 0, 64), 0);
  assert.equal(checksum(new Uint8Array(65536).fill(0xff), 0, 65536), 0xffff);
});

const addresses = fc.constantFrom(['10.0.0.1', '192.168.200.255'], ['fd00::1', '2001:db8:ffff::2']);

function verify(packet: Uint8Array): void {
  const at = tcpOffset(packet);
  const isIpv4 = packet[0]! >> 4 === 4;
  if (isIpv4) assert.equal(referenceSum(packet.subarray(0, at)), 0xffff);
  const pseudo = referenceSum(packet.subarray(isIpv4 ? 12 : 8, isIpv4 ? 20 : 40), 6 + packet.length - at);
  assert.equal(referenceSum(packet.subarray(at), pseudo), 0xffff);
}

test('RFC 9293, section 3.1: a completed packet verifies', () => {
  fc.assert(
    fc.property(
      addresses,
      fc.uint8Array({ maxLength: 2000 }),
      fc.nat(0xffff),
      ([source, destination], payload, old) => {
        const packet = tcpPacket({
          source: source!,
          destination: destination!,
          sourcePort: 40000,
          destinationPort: 80,
          seq: 0xfffffff0,
          flags: 24,
          payload,
        });
        packet.writeUInt16BE(old, tcpOffset(packet) + 16);
        assert.equal(completeChecksums(packet), true);
        verify(packet);
      },
    ),
  );
});

test('RFC 8200, section 4: extension headers are passed over', () => {
  const plain = tcpPacket({
    source: 'fd00::1',
    destination: 'fd00::2',
    sourcePort: 1,
    destinationPort: 2,
    flags: 2,
  });
  const options = Buffer.from([6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const packet = Buffer.concat([plain.subarray(0, 40), options, plain.subarray(40)]);
  packet.writeUInt16BE(packet.length - 40, 4);
  packet[6] = 60;
  assert.equal(completeChecksums(packet), true);
  assert.equal(completeChecksums(plain), true);
  assert.deepEqual(packet.subarray(56), plain.subarray(40));
});

test('a packet that is not whole is left as it is', () => {
  const make = () =>
    tcpPacket({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 1,
      destinationPort: 2,
      flags: 16,
      payload: Buffer.from('abc'),
    });
  const set =
    (at: number, ...bytes: number[]) =>
    (packet: Buffer) => {
      packet.set(bytes, at);
      return packet;
    };
  const breaks: [string, (packet: Buffer) => Buffer][] = [
    ['cut', (packet) => packet.subarray(0, -1)],
    ['with bytes behind it', (packet) => Buffer.concat([packet, Buffer.alloc(1)])],
    ['a fragment', set(6, 0x20, 0)],
    ['a later fragment', set(6, 0, 5)],
    ['UDP', set(9, 17)],
    ['header length too small', set(0, 0x44)],
    ['header length past the end', set(0, 0x4f)],
    ['TCP offset too small', set(32, 0x40)],
    ['TCP offset past the end', set(32, 0xf0)],
    ['another version', set(0, 0x55)],
    ['empty', () => Buffer.alloc(0)],
  ];
  for (const [name, broken] of breaks) {
    const packet = broken(make());
    const before = Buffer.from(packet);
    assert.equal(completeChecksums(packet), false, name);
    assert.deepEqual(packet, before, name);
  }
});

test('an IPv6 routing header that is not used up is refused', () => {
  const plain = tcpPacket({
    source: 'fd00::1',
    destination: 'fd00::2',
    sourcePort: 1,
    destinationPort: 2,
    flags: 2,
  });
  const packet = Buffer.concat([
    plain.subarray(0, 40),
    Buffer.from([6, 0, 2, 1, 0, 0, 0, 0]),
    plain.subarray(40),
  ]);
  packet.writeUInt16BE(packet.length - 40, 4);
  packet[6] = 43;
  assert.equal(completeChecksums(packet), false);
});
