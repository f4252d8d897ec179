import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { concat, write16 } from './bytes.ts';
import {
  DATA_V4,
  DATA_V6,
  FRAGMENTATION_NEEDED_V4,
  ICMP_CAPTURES,
  PACKET_TOO_BIG_V6,
  PROHIBITED_V4,
  PROHIBITED_V6,
  TCP_CAPTURES,
} from './captures.testing.ts';
import { guarded, hostileBytes } from './hostile.testing.ts';
import { type IcmpError, parseIcmpError, rewriteIcmpError } from './icmp.ts';
import { flowKey, type Packet, parsePacket, payloadOf, seqNumber } from './packet.ts';
import { hex, icmpSum, makeIcmpError } from './testing.ts';

const DATA = { 4: parsePacket(DATA_V4) as Packet, 6: parsePacket(DATA_V6) as Packet };

function parsed(bytes: Uint8Array): IcmpError {
  const error = parseIcmpError(bytes);
  assert.ok(error !== undefined);
  return error;
}

function sumOf(bytes: Uint8Array): number {
  return bytes[0] >>> 4 === 4 ? icmpSum(bytes, 4, 20) : icmpSum(bytes, 6, 40);
}

describe('parseIcmpError on captures', () => {
  test('fragmentation needed', () => {
    assert.deepEqual(parsed(FRAGMENTATION_NEEDED_V4), {
      version: 4,
      type: 3,
      code: 4,
      mtu: 1300,
      mtuAt: 26,
      quoted: {
        local: '10.99.0.1:40000',
        remote: '10.98.0.7:80',
        flowKey: '\x0a\x63\x00\x01\x9c\x40\x0a\x62\x00\x07\x00\x50',
        seq: 0x11223344,
        ack: 0x55667788,
        payloadPrefix: FRAGMENTATION_NEEDED_V4.subarray(68),
        seqAt: 52,
      },
    });
  });

  test('packet too big', () => {
    const error = parsed(PACKET_TOO_BIG_V6);
    assert.deepEqual([error.version, error.type, error.code, error.mtu, error.mtuAt], [6, 2, 0, 1300, 44]);
    assert.equal(error.quoted.local, '[fd00:99::1]:40000');
    assert.equal(error.quoted.remote, '[fd00:98::7]:80');
    assert.equal(error.quoted.seq, 0x11223344);
    assert.equal(error.quoted.payloadPrefix.length, 1280 - 40 - 8 - 40 - 20);
  });

  test('prohibited', () => {
    for (const bytes of [PROHIBITED_V4, PROHIBITED_V6]) {
      const error = parsed(bytes);
      assert.ok(!('mtu' in error));
      assert.equal(error.quoted.payloadPrefix.length, 0);
      assert.match(error.quoted.remote, /:99$/);
    }
  });
});

describe('parseIcmpError', () => {
  const router = { 4: '10.0.0.1', 6: 'fd00::1' };
  const errors = { 4: [3, 4, 11, 12], 6: [1, 2, 3, 4] };

  for (const version of [4, 6] as const) {
    const quoted = DATA[version];
    const header = quoted.tcp;

    test(`IPv${version}: the errors, and no other message`, () => {
      for (let type = 0; type < 256; type++) {
        const bytes = makeIcmpError({ router: router[version], type, code: 0, quoted });
        assert.equal(parseIcmpError(bytes) !== undefined, errors[version].includes(type), `type ${type}`);
      }
    });

    test(`IPv${version}: whatever the quote holds of the segment`, () => {
      for (let quotedBytes = 0; quotedBytes <= quoted.bytes.length; quotedBytes++) {
        const bytes = makeIcmpError({ router: router[version], type: 3, code: 1, quoted, quotedBytes });
        const error = parseIcmpError(guarded(bytes));
        assert.equal(error !== undefined, quotedBytes >= header + 8);
        if (error === undefined) continue;
        assert.equal(error.quoted.flowKey, flowKey(quoted, 'out'));
        assert.equal(error.quoted.seq, seqNumber(quoted));
        assert.equal('ack' in error.quoted, quotedBytes >= header + 12);
        const prefix = payloadOf(quoted).subarray(0, Math.max(0, quotedBytes - quoted.payload));
        assert.equal(Buffer.compare(error.quoted.payloadPrefix.slice(), prefix), 0);
      }
    });

    test(`IPv${version}: extensions of RFC 4884 are no payload`, () => {
      const padded = concat([quoted.bytes, new Uint8Array(128 - quoted.bytes.length)]);
      const extended = { ...quoted, bytes: concat([padded, hex('2000 1234 0008 0101 00012345')]) };
      const bytes = makeIcmpError({
        router: router[version],
        type: version === 4 ? 11 : 3,
        code: 0,
        quoted: extended,
      });
      if (version === 4) bytes[25] = 128 / 4;
      else bytes[44] = 128 / 8;
      assert.deepEqual(parsed(bytes).quoted.payloadPrefix, payloadOf(quoted));
    });
  }

  test('quotes with IPv6 extension headers, a first fragment too', () => {
    const bytes = concat([
      DATA_V6.subarray(0, 40),
      hex('2c00010400000000 06000001 00000001'), // hop-by-hop, then the first fragment
      DATA_V6.subarray(40),
    ]);
    bytes[6] = 0;
    write16(bytes, 4, bytes.length - 40);
    const whole = { bytes, version: 6, tcp: 56, payload: 88 } as const;
    const make = (quoted: Packet) =>
      makeIcmpError({ router: router[6], type: 2, code: 0, quoted, mtu: 1280 });
    const error = parsed(make(whole));
    assert.equal(error.quoted.seqAt, 40 + 8 + 56 + 4);
    assert.equal(error.quoted.flowKey, flowKey(DATA[6], 'out'));
    for (const extension of [43, 60]) {
      bytes[6] = extension;
      assert.deepEqual(parsed(make(whole)), error);
    }
    bytes[51] = 0x08; // a later fragment
    assert.equal(parseIcmpError(make(whole)), undefined);
  });

  test('no TCP quoted, not ICMP, cut, a fragment', () => {
    const change = (at: number, value: number): Uint8Array => {
      const bytes = PROHIBITED_V4.slice();
      bytes[at] = value;
      return bytes;
    };
    assert.equal(parseIcmpError(change(28 + 9, 17)), undefined);
    assert.equal(parseIcmpError(change(9, 6)), undefined);
    assert.equal(parseIcmpError(change(6, 0x20)), undefined);
    assert.equal(parseIcmpError(change(28 + 7, 1)), undefined);
    assert.equal(parseIcmpError(change(28, 0x60)), undefined);
    for (const bytes of TCP_CAPTURES) assert.equal(parseIcmpError(bytes), undefined);
    for (let n = 0; n < PROHIBITED_V6.length; n++) {
      assert.equal(parseIcmpError(PROHIBITED_V6.subarray(0, n)), undefined);
    }
  });

  test('any bytes: an error or undefined, nothing read outside', () => {
    fc.assert(
      fc.property(hostileBytes(ICMP_CAPTURES), (bytes) => {
        const error = parseIcmpError(guarded(bytes));
        if (error === undefined) return;
        assert.ok(error.quoted.seqAt + 4 <= bytes.length);
        const rewritten = rewriteIcmpError(bytes, error, { seq: 1, mtu: 1000 });
        assert.equal(rewritten.length, bytes.length);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('rewriteIcmpError', () => {
  test('the captures have right checksums', () => {
    for (const bytes of ICMP_CAPTURES) assert.equal(sumOf(bytes), 0xffff);
  });

  test('another sequence number and MTU, the checksum right, all else as it was', () => {
    const maybe = fc.option(fc.nat(0xffffffff), { nil: undefined });
    fc.assert(
      fc.property(fc.constantFrom(...ICMP_CAPTURES), maybe, maybe, (bytes, seq, mtu) => {
        const error = parsed(bytes);
        const change = { ...(seq !== undefined && { seq }), ...(mtu !== undefined && { mtu }) };
        const before = bytes.slice();
        const out = rewriteIcmpError(bytes, error, change);
        assert.deepEqual(bytes, before);
        assert.equal(sumOf(out), 0xffff);
        const again = parsed(out);
        assert.equal(again.quoted.seq, seq ?? error.quoted.seq);
        const largest = error.version === 4 ? 0xffff : 0xffffffff;
        if (error.mtu !== undefined) assert.equal(again.mtu, Math.min(mtu ?? error.mtu, largest));
        const back = { seq: error.quoted.seq, ...(error.mtu !== undefined && { mtu: error.mtu }) };
        assert.deepEqual(rewriteIcmpError(out, again, back), bytes);
      }),
    );
  });

  test('a message without an MTU gets none', () => {
    const out = rewriteIcmpError(PROHIBITED_V4, parsed(PROHIBITED_V4), { mtu: 1200 });
    assert.deepEqual(out, PROHIBITED_V4);
  });

  test('a damaged message stays damaged', () => {
    const bytes = FRAGMENTATION_NEEDED_V4.slice();
    bytes[100] ^= 1;
    assert.notEqual(sumOf(rewriteIcmpError(bytes, parsed(bytes), { seq: 5 })), 0xffff);
  });
});
