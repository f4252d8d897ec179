import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { shake128 } from '@noble/hashes/sha3.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import fc from 'fast-check';
import { derandomizedMlKem768 } from './mlkem.testing.ts';
import { CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES, mlKem768 } from './mlkem.ts';
import { systemRandom } from './random.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

function encapsulate(encapsulationKey: Uint8Array, message: Uint8Array) {
  const made = derandomizedMlKem768.encapsulate(encapsulationKey, () => message.slice());
  assert.ok(made !== 'invalid');
  return made;
}

function decapsulate(key: ReturnType<typeof mlKem768.generate>, ciphertext: Uint8Array) {
  const shared = key.decapsulate(ciphertext);
  assert.ok(shared !== 'invalid');
  return shared;
}

/** The first cases of kat_MLKEM_768.rsp (the Python package cryptography_vectors), long values as SHA-256. */
const kat = [
  {
    d: '6dbbc4375136df3b07f7c70e639e223e177e7fd53b161b3f4d57791794f12624',
    z: 'f696484048ec21f96cf50a56d0759c448f3779752f0383d37449690694cf7a68',
    m: '20a7b7e10f70496cc38220b944def699bf14d14e55cf4c90a12c1b33fc80ffff',
    ekSha256: '4bec4730f26273c6319ef7387dd4758315240a9394cd89264b148b9113060b61',
    cSha256: '4191f5596ebe7ff14461854e6c2885763c439b881166e4337ca5084ee6cf2c6e',
    k: 'b408d5d115713f0a93047dbbea832e4340787686d59a9a2d106bd662ba0aa035',
  },
  {
    d: 'd69cfc64f84d4f33e4c54e166b7ff9283a394986a539b23987a10f39d2d9689b',
    z: '6de62e3465a55c9c78a07d265be8540b3e58b0801a124d07ff12b438d5202ea0',
    m: '0121cb32acd1871135cb34e29c1a0e26ccc001b939eafaacc28f13f1938dbf91',
    ekSha256: '9c8ac777dde8448cb0e9ccc82dcc286401aa50007731c1e96bcb0c40564d9079',
    cSha256: 'e130db01fe7e7bf996324b271776155293830e7387f7fc4a545807ad8e5330e1',
    k: '8c970242406111e26368ad8760c4d02a8b28d17d138210adc127197b50968140',
  },
  {
    d: '63470357110828f25b23edc80ed280ecd398a9f53251c3332754de2af0b15e90',
    z: '1eaae6bb91b27cd748c402c4111140d5a942cf3c95ff7977f88d2ef515bb26d0',
    m: '34b961af5d6254af72c0d50e70dd9b4991150ccc09192aa46f1953d5c29a33ec',
    ekSha256: 'cb8c4312673c7356398dd204a991a18bc5de8835febcb48ff2c736a184305d3d',
    cSha256: '5e66c6a19f5a07955942fdf7ef52bebafa6ef053d4a1c57bcb5e17e02009caac',
    k: 'c0d45764e3dbf0948b914d6f65c92bd0ebd21556e5076753af48df8fffd6badc',
  },
];

describe('FIPS 203, ML-KEM-768', () => {
  for (const [i, { d, z, m, ekSha256, cSha256, k }] of kat.entries()) {
    test(`known answer ${i}`, () => {
      const key = mlKem768.generate(() => bytes(d + z));
      assert.equal(sha256(key.encapsulationKey), ekSha256);
      const { ciphertext, sharedKey } = encapsulate(key.encapsulationKey, bytes(m));
      assert.equal(sha256(ciphertext), cSha256);
      assert.equal(hex(sharedKey), k);
      assert.equal(hex(decapsulate(key, ciphertext)), k);
    });
  }

  test('accumulated vectors of C2SP/CCTV and Go crypto/mlkem, 100 of them', () => {
    const source = shake128.create();
    const results = shake128.create({ dkLen: 32 });
    for (let i = 0; i < 100; i++) {
      const key = mlKem768.generate(() => source.xof(64));
      const { ciphertext, sharedKey } = encapsulate(key.encapsulationKey, source.xof(32));
      results.update(key.encapsulationKey).update(ciphertext).update(sharedKey);
      assert.equal(hex(decapsulate(key, ciphertext)), hex(sharedKey));
      // A random ciphertext: implicit rejection, section 6.3.
      results.update(decapsulate(key, source.xof(CIPHERTEXT_BYTES)));
    }
    assert.equal(hex(results.digest()), '1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415');
  });

  test('section 7.2, type and modulus check of an encapsulation key', () => {
    const { encapsulationKey } = mlKem768.generate(systemRandom);
    for (const { encapsulate } of [mlKem768, derandomizedMlKem768]) {
      assert.notEqual(encapsulate(encapsulationKey, systemRandom), 'invalid');
      for (const length of [0, 1, 1183, 1185, 1088]) {
        assert.equal(encapsulate(new Uint8Array(length), systemRandom), 'invalid');
      }
      // Coefficients of 12 bits, little-endian; q = 3329 = 0xd01. The first of all, one in the middle, the last.
      for (const coefficient of [0, 383, 767]) {
        assert.notEqual(
          encapsulate(withCoefficient(encapsulationKey, coefficient, 3328), systemRandom),
          'invalid',
        );
        for (const value of [3329, 3330, 4095]) {
          assert.equal(
            encapsulate(withCoefficient(encapsulationKey, coefficient, value), systemRandom),
            'invalid',
          );
        }
      }
    }
  });

  test('a ciphertext of another length is invalid, a wrong one gives another secret', () => {
    const key = mlKem768.generate(systemRandom);
    const { ciphertext, sharedKey } = encapsulate(key.encapsulationKey, new Uint8Array(32));
    for (const length of [0, 1087, 1089]) assert.equal(key.decapsulate(new Uint8Array(length)), 'invalid');
    const wrong = Uint8Array.from(ciphertext);
    wrong[500] ^= 1;
    assert.notEqual(hex(decapsulate(key, wrong)), hex(sharedKey));
  });
});

describe('ML-KEM-768: OpenSSL and noble agree', () => {
  const seed = fc.uint8Array({ minLength: 64, maxLength: 64 });

  test('keys, and secrets by the message m', () => {
    fc.assert(
      fc.property(seed, fc.uint8Array({ minLength: 32, maxLength: 32 }), (dz, m) => {
        const key = mlKem768.generate(() => dz.slice());
        const other = ml_kem768.keygen(dz);
        assert.equal(hex(key.encapsulationKey), hex(other.publicKey));
        const { ciphertext, sharedKey } = encapsulate(key.encapsulationKey, m);
        assert.equal(hex(decapsulate(key, ciphertext)), hex(sharedKey));
      }),
      { numRuns: 30 },
    );
  });

  test("secrets by OpenSSL's own randomness", () => {
    fc.assert(
      fc.property(seed, (dz) => {
        const other = ml_kem768.keygen(dz);
        const made = mlKem768.encapsulate(other.publicKey, systemRandom);
        assert.ok(made !== 'invalid');
        assert.equal(made.ciphertext.length, CIPHERTEXT_BYTES);
        assert.equal(hex(ml_kem768.decapsulate(made.ciphertext, other.secretKey)), hex(made.sharedKey));
      }),
      { numRuns: 30 },
    );
  });

  test('seed and message are zeroed, and nothing works after destroy', () => {
    const given: Uint8Array[] = [];
    const random = (length: number) => {
      const value = new Uint8Array(length).fill(9);
      given.push(value);
      return value;
    };
    const key = mlKem768.generate(random);
    derandomizedMlKem768.encapsulate(key.encapsulationKey, random);
    assert.deepEqual(given, [new Uint8Array(64), new Uint8Array(32)]);
    assert.equal(key.encapsulationKey.length, ENCAPSULATION_KEY_BYTES);
    key.destroy();
    assert.throws(() => key.decapsulate(new Uint8Array(CIPHERTEXT_BYTES)), /destroyed/);
  });
});

function withCoefficient(encapsulationKey: Uint8Array, index: number, value: number): Uint8Array {
  const key = Uint8Array.from(encapsulationKey);
  const at = (index >> 1) * 3;
  if (index % 2 === 0) {
    key[at] = value & 0xff;
    key[at + 1] = (key[at + 1] & 0xf0) | (value >> 8);
  } else {
    key[at + 1] = (key[at + 1] & 0x0f) | ((value & 0x0f) << 4);
    key[at + 2] = value >> 4;
  }
  return key;
}
