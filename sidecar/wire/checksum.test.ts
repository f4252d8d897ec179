import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { read16 } from './bytes.ts';
import { TCP_CAPTURES } from './captures.testing.ts';
import { checksumsValid, ipv4HeaderChecksum, onesComplementSum, tcpChecksum } from './checksum.ts';
import { type Packet, parsePacket } from './packet.ts';
import { hex } from './testing.ts';

describe('onesComplementSum', () => {
  test('RFC 1071, section 3', () => {
    const bytes = hex('0001f203f4f5f6f7');
    assert.equal(onesComplementSum(bytes, 0, 8), 0xddf2);
    assert.equal(onesComplementSum(bytes, 4, 8, onesComplementSum(bytes, 0, 4)), 0xddf2);
  });

  test('is the sum of big-endian words, an odd byte the high half, wherever it starts and ends', () => {
    const range = fc.tuple(fc.nat(3), fc.nat(40));
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 50 }),
        range,
        fc.nat(0xfffff),
        (bytes, [start, length], initial) => {
          const end = start + length;
          let expected = initial;
          for (let i = start; i < end; i++) expected += bytes[i] * ((i - start) % 2 === 0 ? 256 : 1);
          while (expected > 0xffff) expected = (expected & 0xffff) + Math.floor(expected / 65536);
          assert.equal(onesComplementSum(bytes, start, end, initial), expected);
        },
      ),
    );
  });

  test('carries are added until none is left', () => {
    assert.equal(onesComplementSum(hex('ffff0001'), 0, 4), 1);
    assert.equal(onesComplementSum(hex(''), 0, 0, 0xffff_ffff), 0xffff);
  });

  test('64 KiB, in a view that begins anywhere', () => {
    const bytes = Uint8Array.from({ length: 65600 }, (_, i) => (i * 7919) >>> 3);
    for (const [skip, start, end] of [
      [0, 0, 65535],
      [1, 0, 65535],
      [3, 5, 65536],
      [2, 1, 32770],
    ]) {
      let expected = 0;
      for (let i = start; i < end; i++) expected += bytes[skip + i] * ((i - start) % 2 === 0 ? 256 : 1);
      const sum = onesComplementSum(bytes.subarray(skip), start, end);
      assert.equal(sum % 0xffff, expected % 0xffff);
      assert.ok(sum <= 0xffff);
    }
  });

  test('64 KiB of ones do not overflow', () => {
    assert.equal(onesComplementSum(new Uint8Array(65535).fill(0xff), 0, 65535), 0xff00);
    assert.equal(onesComplementSum(new Uint8Array(65536).fill(0xff), 0, 65536, 2 ** 40), 0x100);
  });
});

describe('checksums of captured packets', () => {
  for (const bytes of TCP_CAPTURES) {
    const p = parsePacket(bytes) as Packet;
    test(`IPv${p.version}, ${bytes.length} bytes`, () => {
      assert.equal(tcpChecksum(p), read16(bytes, p.tcp + 16));
      if (p.version === 4) assert.equal(ipv4HeaderChecksum(bytes, 20), read16(bytes, 10));
      assert.ok(checksumsValid(p));
    });
  }

  test('one wrong byte is found, in all that they cover', () => {
    for (const bytes of TCP_CAPTURES) {
      for (let at = 0; at < bytes.length; at++) {
        const damaged = bytes.slice();
        damaged[at] ^= 0x04;
        const p = parsePacket(damaged);
        const covered = bytes[0] >>> 4 === 4 || at >= 8; // the IPv6 header has none of its own
        if (typeof p !== 'string' && covered) assert.ok(!checksumsValid(p), `byte ${at}`);
      }
    }
  });
});
