import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DATA_V4, DATA_V6 } from './captures.testing.ts';
import { checksumsValid } from './checksum.ts';
import { ecnOf, withEcn } from './ecn.ts';
import { type Packet, parsePacket } from './packet.ts';

test('the ECN bits of both families, and nothing else, with checksums right', () => {
  for (const capture of [DATA_V4, DATA_V6]) {
    const p = parsePacket(capture.slice()) as Packet;
    const before = ecnOf(p);
    for (const ecn of [3, 2, 1, before]) {
      assert.equal(ecnOf(withEcn(p, ecn)), ecn);
      assert.ok(checksumsValid(p));
    }
    assert.deepEqual(p.bytes, (parsePacket(capture) as Packet).bytes);
  }
});

test('where IPv4 (RFC 791, RFC 3168) and IPv6 (RFC 8200) have them', () => {
  const [v4, v6] = [DATA_V4, DATA_V6].map((capture) => parsePacket(capture.slice()) as Packet);
  assert.equal(withEcn(v4!, 3).bytes[1], (DATA_V4[1] & ~3) | 3);
  assert.equal(withEcn(v6!, 3).bytes[1], (DATA_V6[1] & ~0x30) | 0x30);
});
