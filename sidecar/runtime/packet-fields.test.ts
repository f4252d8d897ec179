import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLinkLocal, payloadBytes } from './packet-fields.ts';

test('fields of packets: hostile bytes give nothing', () => {
  for (let length = 0; length < 80; length++) {
    for (const fill of [0x00, 0x45, 0x4f, 0x60, 0x66, 0xff]) {
      const bytes = new Uint8Array(length).fill(fill);
      assert.equal(typeof isLinkLocal(bytes), 'boolean');
      assert.ok(payloadBytes(bytes) >= 0 && payloadBytes(bytes) <= length);
    }
  }

  const packet = Uint8Array.of(0x60, ...new Array(5).fill(0), 6, ...new Array(73).fill(0));
  packet.set([0xfe, 0x80], 8);
  packet[52] = 0x50;
  const ring = Buffer.concat([Buffer.alloc(7, 0x45), packet, Buffer.alloc(9, 0x45)]);
  assert.deepEqual([payloadBytes(ring, 7, 87), payloadBytes(packet)], [20, 20]);
  assert.deepEqual([isLinkLocal(ring, 7, 87), isLinkLocal(packet), isLinkLocal(ring)], [true, true, false]);
});
