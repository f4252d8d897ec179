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
  assert.equal(payloadBytes(undefined), 0);
});
