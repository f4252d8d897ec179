import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SUITES } from '../../policy/algorithms.ts';
import { directionKey, fill, testSuite } from './asm.testing.ts';
import { asmFromKeys, deriveKeys, equalTags, suites } from './asm.ts';
import { cprf } from './kdf.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('The suites, wire.md section 2', () => {
  test('ids, names and aggregate twins', () => {
    const names = [...suites.values()].map(({ id, name, aggregate }) => [id, name, aggregate]);
    assert.deepEqual(names, [
      [0x100, 'AES-128-CTR-HMAC-SHA256', false],
      [0x101, 'AES-128-CTR-HMAC-SHA256-AGGREGATE', true],
      [0x300, 'AES-128-CTR-CMAC', false],
      [0x301, 'AES-128-CTR-CMAC-AGGREGATE', true],
      [0x400, 'AES-256-CTR-HMAC-SHA256', false],
      [0x401, 'AES-256-CTR-HMAC-SHA256-AGGREGATE', true],
      [0x500, 'CHACHA20-HMAC-SHA256', false],
      [0x501, 'CHACHA20-HMAC-SHA256-AGGREGATE', true],
      [0x600, 'AES-128-CTR-GMAC', false],
      [0x601, 'AES-128-CTR-GMAC-AGGREGATE', true],
    ]);
    for (const [id, suite] of suites) assert.equal(suite.id, id);
  });

  test('policy calls them by the same names', () => {
    assert.deepEqual(new Map([...suites].map(([id, { name }]) => [name, id])), SUITES);
  });

  test('lengths of k_enc, k_mac and k_ack, wire.md section 3', () => {
    const lengths = { 256: [16, 16], 768: [16, 16], 1024: [32, 32], 1280: [32, 32], 1536: [16, 16] };
    for (const [id, [encBytes, ackBytes]] of Object.entries(lengths)) {
      const keys = deriveKeys(Number(id), directionKey);
      assert.equal(hex(keys.enc), hex(cprf(directionKey, 0x06, encBytes)));
      assert.equal(hex(keys.mac), hex(cprf(directionKey, 0x07, 32)));
      assert.equal(hex(keys.ack), hex(cprf(directionKey, 0x08, ackBytes)));
    }
  });

  test('what is no suite, or no direction key, is a bug of the caller', () => {
    for (const id of [0x200, 0x201, 0x102, 0, -1]) {
      assert.throws(() => deriveKeys(id, directionKey), RangeError);
    }
    assert.throws(() => suites.get(0x100)?.asm(new Uint8Array(31)), RangeError);
  });
});

for (const suite of suites.values()) {
  testSuite(suite);

  test(`${suite.name}: destroy zeroes the keys`, () => {
    const keys = deriveKeys(suite.id, directionKey);
    const doomed = asmFromKeys(suite.id, keys);
    const data = fill(20);
    doomed.crypt(5, data);
    assert.equal(hex(doomed.tag(data, data, 5)), hex(suite.asm(directionKey).tag(data, data, 5)));
    doomed.destroy();
    doomed.destroy();
    for (const key of Object.values(keys)) assert.ok(key.every((byte: number) => byte === 0));
    assert.throws(() => doomed.crypt(5, data), /destroyed/);
    assert.throws(() => doomed.tag(data, data, 5), /destroyed/);
  });
}

test('equalTags compares whole tags and their lengths', () => {
  const tag = fill(16);
  assert.ok(equalTags(tag, Buffer.from(tag)));
  assert.ok(!equalTags(tag, tag.subarray(0, 15)));
  assert.ok(!equalTags(tag, new Uint8Array(0)));
  for (let bit = 0; bit < 128; bit++) {
    const other = tag.slice();
    other[bit >> 3] ^= 1 << (bit & 7);
    assert.ok(!equalTags(tag, other));
  }
});
