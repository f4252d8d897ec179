import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { buildReply, buildSegment, fieldsOf, fixChecksums, type SegmentFields, segmentsOf } from './build.ts';
import { concat } from './bytes.ts';
import { DATA_V4, DATA_V6, TCP_CAPTURES } from './captures.testing.ts';
import { checksumsValid } from './checksum.ts';
import {
  dataOffsetByte,
  destinationAddress,
  destinationPort,
  flowKey,
  type Packet,
  parsePacket,
  sourceAddress,
  sourcePort,
} from './packet.ts';
import { hex, makePacket } from './testing.ts';

const CAPTURED = TCP_CAPTURES.map((bytes) => parsePacket(bytes) as Packet);
const NOTHING = new Uint8Array(0);

const fieldsArbitrary: fc.Arbitrary<SegmentFields> = fc.record(
  {
    seq: fc.nat(0xffffffff),
    ack: fc.nat(0xffffffff),
    flags: fc.nat(255),
    window: fc.nat(0xffff),
    urgent: fc.nat(0xffff),
    options: fc.nat(10).chain((words) => fc.uint8Array({ minLength: 4 * words, maxLength: 4 * words })),
    payload: fc.uint8Array({ maxLength: 60 }),
  },
  { noNullPrototype: true },
);

// IPv4 options, and IPv6 extension headers: a template's header is copied whole.
const WITH_IPV4_OPTIONS = parsePacket(
  concat([hex('4600004a531940004006d2d00a6300010a630002 94040000'), DATA_V4.subarray(20)]),
) as Packet;
const WITH_EXTENSION = parsePacket(
  concat([hex('600ff9fa003a0040'), DATA_V6.subarray(8, 40), hex('0600010400000000'), DATA_V6.subarray(40)]),
) as Packet;
const TEMPLATES = [...CAPTURED, WITH_IPV4_OPTIONS, WITH_EXTENSION];

describe('buildSegment', () => {
  test('a packet out of its own fields is the same packet', () => {
    for (const p of CAPTURED) assert.deepEqual(buildSegment(p, fieldsOf(p)), p);
  });

  test('has the given fields, the template header and right checksums', () => {
    fc.assert(
      fc.property(fc.constantFrom(...TEMPLATES), fieldsArbitrary, (template, fields) => {
        const built = buildSegment(template, fields);
        assert.deepEqual(parsePacket(built.bytes), built);
        assert.deepEqual(fieldsOf(built), fields);
        assert.ok(checksumsValid(built));
        assert.equal(flowKey(built, 'out'), flowKey(template, 'out'));
        assert.equal(built.tcp, template.tcp);
        for (let at = 0; at < built.tcp; at++) {
          const rewritten = built.version === 4 ? [2, 3, 10, 11] : [4, 5];
          if (!rewritten.includes(at)) assert.equal(built.bytes[at], template.bytes[at]);
        }
      }),
    );
  });

  test('keeps the reserved bits beside the data offset', () => {
    const bytes = DATA_V4.slice();
    bytes[32] |= 0x05;
    const built = buildSegment(parsePacket(bytes) as Packet, { ...fieldsOf(CAPTURED[2]), options: NOTHING });
    assert.equal(dataOffsetByte(built), 0x55);
  });

  test('a super-segment of 65,535 bytes', () => {
    for (const [template, header] of [
      [CAPTURED[2], 20],
      [CAPTURED[6], 0],
    ] as const) {
      const payload = new Uint8Array(65535 - header - 20).fill(0xff);
      const built = buildSegment(template, { ...fieldsOf(template), options: NOTHING, payload });
      assert.ok(checksumsValid(built));
      assert.deepEqual(parsePacket(built.bytes), built);
      const more = new Uint8Array(payload.length + 1);
      assert.throws(
        () => buildSegment(template, { ...fieldsOf(template), options: NOTHING, payload: more }),
        RangeError,
      );
    }
  });

  test('refuses options that are not aligned or too long', () => {
    for (const length of [1, 2, 3, 41, 44]) {
      const options = new Uint8Array(length);
      assert.throws(() => buildSegment(CAPTURED[0], { ...fieldsOf(CAPTURED[0]), options }), RangeError);
    }
  });
});

describe('buildReply', () => {
  test('goes back to the sender with a minimal IP header', () => {
    fc.assert(
      fc.property(fc.constantFrom(...TEMPLATES), fieldsArbitrary, (template, fields) => {
        const reply = buildReply(template, fields);
        assert.deepEqual(parsePacket(reply.bytes), reply);
        assert.deepEqual(fieldsOf(reply), fields);
        assert.ok(checksumsValid(reply));
        assert.equal(flowKey(reply, 'in'), flowKey(template, 'out'));
        assert.deepEqual(sourceAddress(reply), destinationAddress(template));
        assert.deepEqual(destinationAddress(reply), sourceAddress(template));
        assert.equal(sourcePort(reply), destinationPort(template));
        assert.equal(destinationPort(reply), sourcePort(template));
        const head = Buffer.from(reply.bytes.subarray(0, 10)).toString('hex');
        if (reply.version === 4) assert.match(head, /^4500.{4}000040004006$/);
        else assert.match(head, /^60000000.{4}0640/);
      }),
    );
  });

  test('does not copy the reserved bits', () => {
    const bytes = DATA_V6.slice();
    bytes[52] |= 0x0f;
    assert.equal(dataOffsetByte(buildReply(parsePacket(bytes) as Packet, fieldsOf(CAPTURED[6]))), 0x80);
  });
});

test('fixChecksums mends a damaged packet', () => {
  for (const p of CAPTURED) {
    const bytes = p.bytes.slice();
    const copy = { ...p, bytes };
    bytes[p.tcp + 16] ^= 0xff;
    if (p.version === 4) bytes[11] ^= 0xff;
    assert.ok(!checksumsValid(copy));
    fixChecksums(copy);
    assert.deepEqual(bytes, p.bytes);
  }
});

test('makePacket makes the captured packet', () => {
  const made = makePacket({
    version: 6,
    source: 'fd00:99::1',
    destination: 'fd00:99::2',
    sourcePort: 0xd748,
    destinationPort: 5201,
    seq: 0x78b66163,
    ack: 0x071e08d0,
    flags: 0x18,
    window: 64,
    options: hex('0101080ac7471ac930d9abd4'),
    payload: new TextEncoder().encode('GET / HTTP/1.0\r\n\r\n'),
  });
  assert.deepEqual(made.bytes.subarray(4), DATA_V6.subarray(4)); // but for the flow label
});

describe('segmentsOf, as TSO and GSO cut (Documentation/networking/segmentation-offloads.rst)', () => {
  const options = hex('0101080a0000000100000002');
  const template = parsePacket(DATA_V4.slice()) as Packet;
  const cut = (flags: number, bytes: number, most: number) => {
    const payload = new Uint8Array(bytes).map((_, i) => i);
    const fields = { ...fieldsOf(template), seq: 0xffff_fff0, flags, urgent: 7, options, payload };
    return segmentsOf(buildSegment(template, fields), most);
  };

  test('each has the options, at most so many bytes, and its place; together they are the data', () => {
    const segments = cut(0x18, 100, 62);
    assert.deepEqual(
      segments.map((p) => [fieldsOf(p).seq, fieldsOf(p).payload.length]),
      [
        [0xffff_fff0, 30],
        [14, 30],
        [44, 30],
        [74, 10],
      ],
    );
    for (const p of segments) {
      assert.deepEqual(fieldsOf(p).options, options);
      assert.equal(fieldsOf(p).urgent, 7);
      assert.ok(checksumsValid(p));
      assert.ok(p.bytes.length - p.tcp <= 62);
    }
    assert.deepEqual(
      concat(segments.map((p) => fieldsOf(p).payload)),
      new Uint8Array(100).map((_, i) => i),
    );
  });

  test('PSH and FIN are on the last alone, CWR on the first', () => {
    const flags = cut(0x80 | 0x40 | 0x19, 100, 62).map((p) => fieldsOf(p).flags);
    assert.deepEqual(flags, [0x80 | 0x40 | 0x10, 0x50, 0x50, 0x40 | 0x19]);
  });

  test('what fits stays as it is', () => {
    assert.equal(cut(0x19, 30, 62).length, 1);
    assert.equal(cut(0x11, 0, 32).length, 1);
  });
});
