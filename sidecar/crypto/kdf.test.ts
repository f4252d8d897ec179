import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import * as noble from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import fc from 'fast-check';
import { cprf, hkdfExpand, hkdfExtract } from './kdf.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const range = (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, i) => from + i);

const rfc5869 = [
  {
    name: 'A.1 basic',
    ikm: new Uint8Array(22).fill(0x0b),
    salt: range(0x00, 0x0d),
    info: range(0xf0, 0xfa),
    prk: '077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5',
    okm: '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  },
  {
    name: 'A.2 longer inputs and outputs',
    ikm: range(0x00, 0x50),
    salt: range(0x60, 0xb0),
    info: range(0xb0, 0x100),
    prk: '06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244',
    okm:
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09' +
      'da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
  },
  {
    name: 'A.3 no salt, no info',
    ikm: new Uint8Array(22).fill(0x0b),
    salt: new Uint8Array(0),
    info: new Uint8Array(0),
    prk: '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04',
    okm: '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  },
];

describe('RFC 5869, appendix A', () => {
  for (const { name, ikm, salt, info, prk, okm } of rfc5869) {
    test(name, () => {
      assert.equal(hex(hkdfExtract(salt, ikm)), prk);
      assert.equal(hex(hkdfExpand(Buffer.from(prk, 'hex'), info, okm.length / 2)), okm);
    });
  }
});

describe('RFC 5869, section 2.3', () => {
  test('L is at most 255 times the hash', () => {
    assert.equal(hkdfExpand(new Uint8Array(32), new Uint8Array(0), 8160).length, 8160);
    for (const length of [8161, -1, 1.5, Number.NaN]) {
      assert.throws(() => hkdfExpand(new Uint8Array(32), new Uint8Array(0), length), RangeError);
    }
  });

  test('agrees with noble', () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(bytes, bytes, bytes, fc.integer({ min: 1, max: 300 }), (salt, ikm, info, length) => {
        const prk = hkdfExtract(salt, ikm);
        assert.equal(hex(prk), hex(noble.extract(sha256, ikm, salt)));
        assert.equal(hex(hkdfExpand(prk, info, length)), hex(noble.expand(sha256, prk, info, length)));
      }),
    );
  });
});

describe('CPRF, wire.md section 3', () => {
  test('is HKDF-Expand with the one-byte tag', () => {
    const key = new Uint8Array(32).fill(7);
    for (const tag of [1, 9, 0xff]) {
      const first = createHmac('sha256', key).update(Uint8Array.of(tag, 1)).digest();
      assert.equal(hex(cprf(key, tag, 32)), hex(first));
      assert.equal(hex(cprf(key, tag, 16)), hex(first.subarray(0, 16)));
    }
  });
});
