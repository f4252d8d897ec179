/** The addon's keys against those of crypto/, which the published vectors hold: the same bytes for any input. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { x25519 } from '../crypto/dh.ts';
import { CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES, mlKem768 } from '../crypto/mlkem.ts';
import { systemRandom } from '../crypto/random.ts';
import { nativeMlKem768, nativeX25519 } from './key-exchange.ts';
import { native } from './native.ts';

const RUNS = { numRuns: 100 };
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
/** Gives a copy: who asks for random bytes may overwrite them. */
const always = (value: Uint8Array) => () => value.slice();

describe('X25519: native against TypeScript', () => {
  test('shares, and secrets with any share', () => {
    fc.assert(
      fc.property(bytes(32), bytes(32), (scalar, share) => {
        const [expected, actual] = [x25519.generate(always(scalar)), nativeX25519.generate(always(scalar))];
        assert.deepEqual(actual.share, expected.share);
        assert.deepEqual(actual.agree(share), expected.agree(share));
        assert.deepEqual(actual.agree(share), expected.agree(share), 'a key serves more than once');
        actual.destroy();
      }),
      RUNS,
    );
  });

  test('RFC 7748, section 6.1: an all-zero output is an error', () => {
    const pair = nativeX25519.generate(systemRandom);
    for (const hex of [
      '00'.repeat(32),
      `01${'00'.repeat(31)}`,
      'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
      '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
      `ec${'ff'.repeat(30)}7f`,
    ])
      assert.equal(pair.agree(new Uint8Array(Buffer.from(hex, 'hex'))), 'invalid', hex);
    assert.notEqual(pair.agree(pair.share), 'invalid', 'the next one is not affected');
  });

  test('a share of another length is invalid', () => {
    const pair = nativeX25519.generate(systemRandom);
    for (const length of [0, 31, 33]) assert.equal(pair.agree(new Uint8Array(length)), 'invalid');
  });
});

describe('ML-KEM-768: native against TypeScript', () => {
  test('encapsulation keys, and secrets of right and wrong ciphertexts', () => {
    fc.assert(
      fc.property(bytes(64), bytes(CIPHERTEXT_BYTES), (seed, wrong) => {
        const [expected, actual] = [mlKem768.generate(always(seed)), nativeMlKem768.generate(always(seed))];
        assert.deepEqual(actual.encapsulationKey, expected.encapsulationKey);
        for (const { encapsulate } of [mlKem768, nativeMlKem768]) {
          const made = encapsulate(actual.encapsulationKey, systemRandom);
          assert.ok(made !== 'invalid');
          assert.deepEqual(actual.decapsulate(made.ciphertext), made.sharedKey);
          assert.deepEqual(expected.decapsulate(made.ciphertext), made.sharedKey);
        }
        assert.deepEqual(actual.decapsulate(wrong), expected.decapsulate(wrong));
        actual.destroy();
      }),
      RUNS,
    );
  });

  test('section 7.2, type and modulus check of an encapsulation key', () => {
    const { encapsulationKey } = nativeMlKem768.generate(systemRandom);
    for (const length of [0, ENCAPSULATION_KEY_BYTES - 1, ENCAPSULATION_KEY_BYTES + 1])
      assert.equal(nativeMlKem768.encapsulate(new Uint8Array(length), systemRandom), 'invalid');
    // The first two coefficients of 12 bits are 4095, above q.
    const wrong = encapsulationKey.slice().fill(0xff, 0, 3);
    assert.equal(nativeMlKem768.encapsulate(wrong, systemRandom), 'invalid');
    assert.notEqual(nativeMlKem768.encapsulate(encapsulationKey, systemRandom), 'invalid');
  });

  test('two secrets for one key differ, and a ciphertext of another length is invalid', () => {
    const key = nativeMlKem768.generate(systemRandom);
    const made = [0, 1].map(() => nativeMlKem768.encapsulate(key.encapsulationKey, systemRandom));
    assert.notDeepEqual(made[0], made[1]);
    for (const length of [0, CIPHERTEXT_BYTES - 1, CIPHERTEXT_BYTES + 1])
      assert.equal(key.decapsulate(new Uint8Array(length)), 'invalid');
  });
});

test('randomness that was given is zeroed, and nothing works after destroy', () => {
  const given: Uint8Array[] = [];
  const random = (length: number) => {
    given.push(new Uint8Array(length).fill(1));
    return given.at(-1)!;
  };
  const pair = nativeX25519.generate(random);
  const key = nativeMlKem768.generate(random);
  assert.deepEqual(given, [new Uint8Array(32), new Uint8Array(64)]);
  for (const each of [pair, key]) {
    each.destroy();
    each.destroy();
  }
  assert.throws(() => pair.agree(pair.share), /destroyed/);
  assert.throws(() => key.decapsulate(new Uint8Array(CIPHERTEXT_BYTES)), /destroyed/);
});

test('keys that are thrown away are collected, and buffers of a wrong length refused', () => {
  const make = (random: number, out: number, isMlKem768 = false) =>
    new native.PrivateKey(isMlKem768, new Uint8Array(random), new Uint8Array(out));
  for (let i = 0; i < 500; i++) make(32, 32);
  for (const [random, out] of [
    [31, 32],
    [33, 32],
    [32, 31],
    [0, 32],
  ])
    assert.throws(() => make(random!, out!), RangeError);
  assert.throws(() => make(64, 1183, true), RangeError);
  assert.throws(() => make(32, 32).agree(new Uint8Array(32), new Uint8Array(31)), RangeError);
  const [key, ciphertext, secret] = [new Uint8Array(1184), new Uint8Array(1088), new Uint8Array(32)];
  assert.throws(() => native.encapsulate(key, ciphertext.subarray(1), secret), RangeError);
  assert.throws(() => native.encapsulate(key, ciphertext, secret.subarray(1)), RangeError);
});
