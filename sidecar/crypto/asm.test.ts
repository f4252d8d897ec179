import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  aggregateDefault,
  asmFromKeys,
  defaultSuites,
  deriveKeys,
  equalTags,
  suiteByName,
  suites,
} from './asm.ts';
import { cprf } from './kdf.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const directionKey = Uint8Array.from({ length: 32 }, (_, i) => i);
const fill = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 151 + 3) & 0xff);

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
    for (const [id, suite] of suites) {
      assert.equal(suite.id, id);
      assert.equal(suiteByName(suite.name), suite);
    }
    assert.equal(suiteByName('POLY1305-AES'), undefined);
    assert.ok([...defaultSuites, ...aggregateDefault].every((id) => suites.has(id)));
    assert.ok(defaultSuites.every((id) => suites.get(id)?.aggregate === false));
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
  describe(`${suite.name}, wire.md section 5`, () => {
    const offsets = fc.oneof(
      fc.constantFrom(0, 1, 2 ** 32 - 7, 2 ** 32, 2 ** 36 - 5, 2 ** 36, 2 ** 38 - 100, 2 ** 45 + 1),
      fc.integer({ min: 0, max: 2 ** 53 - 4096 }),
    );
    const asm = suite.asm(directionKey);

    test('crypt undoes itself, cut anywhere, in any order', () => {
      fc.assert(
        fc.property(offsets, fc.uint8Array({ maxLength: 400 }), fc.nat(400), (offset, plaintext, cut) => {
          const at = Math.min(cut, plaintext.length);
          const data = plaintext.slice();
          asm.crypt(offset, data);
          asm.crypt(offset + at, data.subarray(at));
          asm.crypt(offset, data.subarray(0, at));
          assert.deepEqual(data, plaintext);
        }),
      );
    });

    test('another offset is another keystream', () => {
      const seen = new Set<string>();
      const from = [0, 1, 16, 64, 2 ** 32, 2 ** 32 + 1, 2 ** 36, 2 ** 38, 2 ** 40, 2 ** 48, 2 ** 53 - 64];
      for (const offset of from) {
        const data = new Uint8Array(32);
        asm.crypt(offset, data);
        seen.add(hex(data));
      }
      assert.equal(seen.size, from.length);
    });

    test('the tag depends on every bit of ciphertext, associated data and ACK offset', () => {
      const ciphertext = fill(37);
      const assoc = fill(52);
      const ackOffset = 2 ** 40 + 12345;
      const tags = new Set([hex(asm.tag(ciphertext, assoc, ackOffset))]);
      let changes = 1;
      for (const input of [ciphertext, assoc]) {
        for (let bit = 0; bit < input.length * 8; bit++) {
          input[bit >> 3] ^= 1 << (bit & 7);
          tags.add(hex(asm.tag(ciphertext, assoc, ackOffset)));
          input[bit >> 3] ^= 1 << (bit & 7);
          changes++;
        }
      }
      for (let bit = 0n; bit < 53n; bit++) {
        tags.add(hex(asm.tag(ciphertext, assoc, Number(BigInt(ackOffset) ^ (1n << bit)))));
        changes++;
      }
      assert.equal(tags.size, changes);
    });

    test('tag is a pure function of 16 bytes, for empty data too', () => {
      const first = asm.tag(new Uint8Array(0), fill(24), 0);
      assert.equal(first.length, asm.macBytes);
      const kept = hex(first);
      asm.tag(fill(2000), fill(24), 2 ** 53);
      assert.equal(hex(first), kept, 'a later call does not write into an earlier tag');
      assert.equal(hex(asm.tag(new Uint8Array(0), fill(24), 0)), kept);
      assert.equal(hex(suite.asm(directionKey).tag(new Uint8Array(0), fill(24), 0)), kept);
    });

    test('the ACK MAC is the one term of the XOR that the ACK offset enters', () => {
      const differences = [fill(10), fill(20)].map((ciphertext) => {
        const a = asm.tag(ciphertext, fill(24), 1);
        const b = asm.tag(ciphertext, fill(24), 2 ** 33);
        return hex(a.map((byte, i) => byte ^ b[i]));
      });
      assert.equal(differences[0], differences[1]);
    });

    test('destroy zeroes the keys and ends all use', () => {
      const keys = deriveKeys(suite.id, directionKey);
      const doomed = asmFromKeys(suite.id, keys);
      const data = fill(20);
      doomed.crypt(5, data);
      assert.equal(hex(doomed.tag(data, data, 5)), hex(asm.tag(data, data, 5)));
      doomed.destroy();
      doomed.destroy();
      for (const key of Object.values(keys)) assert.ok(key.every((byte: number) => byte === 0));
      assert.throws(() => doomed.crypt(5, data), /destroyed/);
      assert.throws(() => doomed.tag(data, data, 5), /destroyed/);
      asm.crypt(5, data);
      assert.equal(hex(data), hex(fill(20)), 'other contexts live on');
    });

    test("the direction key stays the caller's", () => {
      const mine = directionKey.slice();
      suite.asm(mine).destroy();
      assert.deepEqual(mine, directionKey);
    });
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
