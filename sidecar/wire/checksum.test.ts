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

  test('is the sum of big-endian words, an odd byte the high half, whatever the length and start', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(3), fc.nat(0xfffff), (bytes, skip, initial) => {
        const start = Math.min(skip, bytes.length);
        let expected = initial;
        for (let i = start; i < bytes.length; i++) expected += bytes[i] * ((i - start) % 2 === 0 ? 256 : 1);
        while (expected > 0xffff) expected = (expected & 0xffff) + Math.floor(expected / 65536);
        assert.equal(onesComplementSum(bytes, start, bytes.length, initial), expected);
      }),
    );
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
