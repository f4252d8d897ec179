import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cmac, ecb, gcm } from '@noble/ciphers/aes.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import fc from 'fast-check';
import { AesBlock, aesOfBlock, cmacAes128, ghashThenAes, hmacSha256, type Mac, xorInto } from './mac.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const NOTHING = new Uint8Array(0);

const aes = (key: Uint8Array, block: Uint8Array) =>
  ecb(new Uint8Array(key), { disablePadding: true }).encrypt(new Uint8Array(block));

/** Every way to cut a message in two gives the same MAC; this tries a few. */
function mac(of: Mac, message: Uint8Array): string {
  const whole = hex(of.compute(message, NOTHING));
  for (const at of [0, 1, 16, message.length >> 1]) {
    assert.equal(hex(of.compute(message.subarray(0, at), message.subarray(at))), whole);
  }
  return whole;
}

describe('RFC 4231, HMAC-SHA-256 cut to 16 bytes', () => {
  const cases = [
    ['0b'.repeat(20), hex(Buffer.from('Hi There')), 'b0344c61d8db38535ca8afceaf0bf12b'],
    [
      hex(Buffer.from('Jefe')),
      hex(Buffer.from('what do ya want for nothing?')),
      '5bdcc146bf60754e6a042426089575c7',
    ],
    ['aa'.repeat(20), 'dd'.repeat(50), '773ea91e36800e46854db8ebd09181a7'],
    [
      '0102030405060708090a0b0c0d0e0f10111213141516171819',
      'cd'.repeat(50),
      '82558a389a443c0ea4cc819899f2083a',
    ],
    ['0c'.repeat(20), hex(Buffer.from('Test With Truncation')), 'a3b6167473100ee06e0c796c2955552b'],
    [
      'aa'.repeat(131),
      hex(Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First')),
      '60e431591ee0b67f0d8a26aacbf5b77f',
    ],
    [
      'aa'.repeat(131),
      hex(
        Buffer.from(
          'This is a test using a larger than block-size key and a larger than block-size data. ' +
            'The key needs to be hashed before being used by the HMAC algorithm.',
        ),
      ),
      '9b09ffa71b942fcb27635fbcd5b0e944',
    ],
  ] as const;
  for (const [i, [key, message, tag]] of cases.entries()) {
    test(`test case ${i + 1}`, () => assert.equal(mac(hmacSha256(bytes(key)), bytes(message)), tag));
  }
});

describe('NIST SP 800-38B D.1 and RFC 4493 section 4, CMAC-AES-128', () => {
  const message =
    '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51' +
    '30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710';
  const cases = [
    [0, 'bb1d6929e95937287fa37d129b756746'],
    [16, '070a16b46b4d4144f79bdd9dd04a287c'],
    [40, 'dfa66747de9ae63030ca32611497c827'],
    [64, '51f0bebf7e3b9d92fc49741779363cfe'],
  ] as const;
  for (const [length, tag] of cases) {
    test(`${length} bytes`, () => {
      const of = cmacAes128(bytes('2b7e151628aed2a6abf7158809cf4f3c'));
      assert.equal(mac(of, bytes(message).subarray(0, length)), tag);
    });
  }
});

describe('FIPS 197, AES of a block', () => {
  const plaintext = bytes('00112233445566778899aabbccddeeff');
  const cases = [
    ['C.1 AES-128', '000102030405060708090a0b0c0d0e0f', '69c4e0d86a7b0430d8cdb78070b4c55a'],
    [
      'C.3 AES-256',
      '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
      '8ea2b7ca516745bfeafc49904b496089',
    ],
  ] as const;
  for (const [name, key, ciphertext] of cases) {
    test(name, () => {
      const of = aesOfBlock(bytes(key));
      assert.equal(mac(of, plaintext), ciphertext);
      assert.equal(mac(of, plaintext), ciphertext, 'a second block does not depend on the first');
      of.free();
      assert.throws(() => of.compute(plaintext, NOTHING));
    });
  }
});

/**
 * The IV of a GMAC enters as one added block, AES(k, IV | 1), so a published tag under any IV tells the tag
 * under the zero IV that GHASH-then-AES is made of.
 */
describe('NIST SP 800-38D, GMAC under GHASH then AES', () => {
  const tagKey = bytes('2b7e151628aed2a6abf7158809cf4f3c');
  const withZeroIv = (key: Uint8Array, iv: Uint8Array, tag: Uint8Array) => {
    const out = new Uint8Array(tag);
    xorInto(out, aes(key, Buffer.concat([iv, bytes('00000001')])));
    xorInto(out, aes(key, Buffer.concat([new Uint8Array(12), bytes('00000001')])));
    return out;
  };
  const cases = [
    [
      'GCM specification, test case 1',
      '00'.repeat(16),
      '00'.repeat(12),
      '',
      '58e2fccefa7e3061367f1d57a4e7455a',
    ],
    [
      'CAVS gcmEncryptExtIV128, PT 0, AAD 128, count 0',
      '77be63708971c4e240d1cb79e8d77feb',
      'e0e00f19fed7ba0136a797f3',
      '7a43ec1d9c0a5a78a0b16533a6213cab',
      '209fcc8d3675ed938e9c7166709dd946',
    ],
    [
      'the same, count 1',
      '7680c5d3ca6154758e510f4d25b98820',
      'f8f105f9c3df4965780321f8',
      'c94c410194c765e3dcc7964379758ed3',
      '94dca8edfcf90bb74b153c8d48a17930',
    ],
    [
      'the same, count 2',
      'a82bb1edc7c01a3689006f34bfed783e',
      '963836b67b188becf9ba1411',
      '9d115bb9bbd119fb777b6316065a9ac8',
      'c491889fa3eca4544ba0d51b8e0f3837',
    ],
  ] as const;
  for (const [name, key, iv, aad, tag] of cases) {
    test(name, () => {
      const g = withZeroIv(bytes(key), bytes(iv), bytes(tag));
      const of = ghashThenAes(Buffer.concat([bytes(key), tagKey]));
      assert.equal(mac(of, bytes(aad)), hex(aes(tagKey, g)));
    });
  }
});

describe('node:crypto and noble agree', () => {
  const key = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const part = fc.uint8Array({ maxLength: 100 });
  const agree = (
    keyBytes: number,
    ours: (key: Uint8Array) => Mac,
    other: (key: Uint8Array, m: Uint8Array) => Uint8Array,
  ) =>
    fc.assert(
      fc.property(key(keyBytes), part, part, (k, first, second) => {
        const message = new Uint8Array(Buffer.concat([first, second]));
        assert.equal(hex(ours(k).compute(first, second)), hex(other(k, message)));
      }),
      { numRuns: 300 },
    );

  test('HMAC-SHA-256', () => agree(32, hmacSha256, (k, m) => hmac(sha256, k, m).subarray(0, 16)));
  test('CMAC-AES-128', () => agree(16, cmacAes128, (k, m) => cmac(m, k)));
  test('GHASH then AES', () =>
    agree(32, ghashThenAes, (k, m) =>
      aes(k.subarray(16), gcm(k.slice(0, 16), new Uint8Array(12), m).encrypt(new Uint8Array(0))),
    ));
  for (const length of [16, 32]) {
    test(`AES-${length * 8} of a block`, () =>
      fc.assert(
        fc.property(key(length), key(16), (k, block) => {
          assert.equal(hex(new AesBlock(k).encrypt(block)), hex(aes(k, block)));
        }),
      ));
  }
});
