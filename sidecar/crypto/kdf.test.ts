import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as noble from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import fc from 'fast-check';
import { cprf, hkdfExtract } from './kdf.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const range = (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, i) => from + i);

const rfc5869 = [
  {
    name: 'A.1 basic',
    ikm: new Uint8Array(22).fill(0x0b),
    salt: range(0x00, 0x0d),
    prk: '077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5',
  },
  {
    name: 'A.2 longer inputs and outputs',
    ikm: range(0x00, 0x50),
    salt: range(0x60, 0xb0),
    prk: '06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244',
  },
  {
    name: 'A.3 no salt, no info',
    ikm: new Uint8Array(22).fill(0x0b),
    salt: new Uint8Array(0),
    prk: '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04',
  },
];

describe('HKDF-Extract, RFC 5869 appendix A', () => {
  for (const { name, ikm, salt, prk } of rfc5869) {
    test(name, () => assert.equal(hex(hkdfExtract(salt, ikm)), prk));
  }

  test('agrees with noble', () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(bytes, bytes, (salt, ikm) => {
        assert.equal(hex(hkdfExtract(salt, ikm)), hex(noble.extract(sha256, ikm, salt)));
      }),
    );
  });
});

describe('CPRF, wire.md section 3', () => {
  test('is HKDF-Expand with the one-byte tag, as noble has it', () => {
    const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(keys, fc.nat(255), fc.constantFrom(16, 32), (key, tag, length) => {
        const expected = noble.expand(sha256, key, Uint8Array.of(tag), length);
        assert.equal(hex(cprf(key, tag, length)), hex(expected));
      }),
    );
  });
});
