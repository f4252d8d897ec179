import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { associatedData, macTagOffset } from './assoc.ts';
import { buildSegment, fieldsOf } from './build.ts';
import { concat } from './bytes.ts';
import { DATA_V4, SACK_V4, TCP_CAPTURES } from './captures.testing.ts';
import { hostileBytes } from './hostile.testing.ts';
import {
  cryptOption,
  layoutCompact,
  macOption,
  type OptionEncodings,
  sackOption,
  timestampsOption,
} from './options.ts';
import { type Packet, parsePacket } from './packet.ts';
import { hex } from './testing.ts';

const EXPERIMENTAL: OptionEncodings = { write: 'experimental', readBoth: false };
const LEGACY: OptionEncodings = { write: 'legacy', readBoth: false };
const TAG = hex('a0a1a2a3a4a5a6a7a8a9aaabacadaeaf');
const ZEROS = '00000000000000000000000000000000';

const BASE = parsePacket(DATA_V4) as Packet;

function withOptions(...items: Uint8Array[]): Packet {
  return buildSegment(BASE, {
    ...fieldsOf(BASE),
    urgent: 0x0102,
    options: layoutCompact(items) as Uint8Array,
  });
}

describe('associatedData (wire.md section 5, "MAC")', () => {
  test('bytes: timestamps and tag are zeros, SACK edges are offsets', () => {
    const p = withOptions(
      timestampsOption(0x11223344, 0x55667788),
      sackOption([[0x00000010, 0xffffffff]]),
      macOption(TAG, EXPERIMENTAL),
    );
    assert.deepEqual(
      associatedData(p, 2 ** 40 + 5, 0xfffffff0, EXPERIMENTAL),
      hex(`8000 004e f0 18 003f 0000 0102 0000010000000005
        080a 0000000000000000 050a 00000020 0000000f fd14544d ${ZEROS}`),
    );
  });

  test('legacy encoding, REKEY beside the MAC', () => {
    const p = withOptions(cryptOption(hex('8207'), LEGACY), macOption(TAG, LEGACY));
    assert.deepEqual(
      associatedData(p, 1, 0, LEGACY),
      hex(`8000 003e b0 18 003f 0000 0102 0000000000000001 4504 8207 4612 ${ZEROS} 0101`),
    );
  });

  test('an encoding that is not read is an option like others', () => {
    const p = withOptions(macOption(TAG, LEGACY));
    assert.deepEqual(associatedData(p, 1, 0, EXPERIMENTAL).subarray(20), p.bytes.subarray(40, 60));
  });

  test('kinds 16, 17 and 19 are zeros, others as they are', () => {
    const p = withOptions(...['1004abcd', '1103ef', '1303aa', '0303070101', 'fd061234abcd'].map(hex));
    assert.deepEqual(
      associatedData(p, 1, 0, EXPERIMENTAL).subarray(20),
      hex('10040000 110300 130300 0303070101 fd061234abcd 010101'),
    );
  });

  test('a super-segment: its own length and flags, without CWR; start and length of the option are zeros too', () => {
    const p = withOptions(macOption(concat([TAG, hex('0001ffff')]), EXPERIMENTAL));
    assert.deepEqual(
      associatedData(p, 1, 0, EXPERIMENTAL, { length: 0xffff, flags: 0x99 }),
      hex(`8000 ffff b0 19 003f 0000 0102 0000000000000001 fd18544d ${ZEROS} 00000000`),
    );
  });

  test('does not depend on what middleboxes rewrite', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.uint8Array({ minLength: 8, maxLength: 8 }), (shift, noise) => {
        const p = withOptions(timestampsOption(1, 2), sackOption([[100, 200]]), macOption(TAG, EXPERIMENTAL));
        const bytes = p.bytes.slice();
        bytes.set(noise, 12); // addresses
        bytes.set(noise.subarray(0, 4), p.tcp); // ports
        bytes.set(noise, p.tcp + 4); // sequence and acknowledgement numbers
        bytes.set(noise.subarray(0, 2), p.tcp + 16); // checksum
        bytes.set(noise, p.tcp + 22); // timestamps
        const shifted = sackOption([[(100 + shift) >>> 0, (200 + shift) >>> 0]]);
        bytes.set(shifted, p.tcp + 30);
        assert.deepEqual(
          associatedData({ ...p, bytes }, 77, (7 + shift) >>> 0, EXPERIMENTAL),
          associatedData(p, 77, 7, EXPERIMENTAL),
        );
      }),
    );
  });

  test('covers every other byte of the header', () => {
    const p = withOptions(timestampsOption(1, 2), sackOption([[100, 200]]), macOption(TAG, EXPERIMENTAL));
    const expected = Buffer.from(associatedData(p, 77, 7, EXPERIMENTAL)).toString('hex');
    const covered = [13, 14, 15, 18, 19, 20, ...Array.from({ length: 10 }, (_, i) => 30 + i), 40, 41, 42, 43];
    for (const at of covered) {
      const bytes = p.bytes.slice();
      bytes[p.tcp + at] ^= 0x02;
      const other = Buffer.from(associatedData({ ...p, bytes }, 77, 7, EXPERIMENTAL)).toString('hex');
      assert.notEqual(other, expected, `byte ${at}`);
    }
  });

  test('any packet', () => {
    fc.assert(
      fc.property(hostileBytes(TCP_CAPTURES), fc.maxSafeNat(), fc.nat(0xffffffff), (bytes, offset, base) => {
        const p = parsePacket(bytes);
        if (typeof p === 'string') return;
        const before = bytes.slice();
        assert.equal(associatedData(p, offset, base, EXPERIMENTAL).length, p.payload - p.tcp);
        macTagOffset(p, EXPERIMENTAL);
        assert.deepEqual(bytes, before);
      }),
    );
  });
});

describe('macTagOffset', () => {
  test('finds the tag of the only MAC', () => {
    for (const [encodings, head] of [
      [EXPERIMENTAL, 4],
      [LEGACY, 2],
    ] as const) {
      const p = withOptions(timestampsOption(1, 2), macOption(TAG, encodings));
      const at = macTagOffset(p, encodings) as number;
      assert.equal(at, p.tcp + 20 + 10 + head);
      assert.deepEqual(p.bytes.subarray(at, at + 16), TAG);
    }
    const aggregate = withOptions(macOption(concat([TAG, hex('00010002')]), EXPERIMENTAL));
    assert.equal(macTagOffset(aggregate, EXPERIMENTAL), aggregate.tcp + 24);
  });

  test('none, two, another encoding, another length', () => {
    assert.equal(macTagOffset(parsePacket(SACK_V4) as Packet, EXPERIMENTAL), undefined);
    assert.equal(
      macTagOffset(withOptions(macOption(TAG, LEGACY), macOption(TAG, LEGACY)), LEGACY),
      undefined,
    );
    assert.equal(macTagOffset(withOptions(macOption(TAG, LEGACY)), EXPERIMENTAL), undefined);
    assert.equal(
      macTagOffset(withOptions(macOption(TAG.subarray(1), EXPERIMENTAL)), EXPERIMENTAL),
      undefined,
    );
  });
});
