import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ctr } from '@noble/ciphers/aes.js';
import { chacha20orig } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { chachaBlock } from './chacha.testing.ts';
import { aesCtr, chacha20, type Keystream, xorFrom } from './keystream.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** The keystream from other code, a block at a time, counters computed with BigInt. */
const reference = {
  aes: (key: Uint8Array, offset: number, length: number) =>
    blocks(16, offset, length, (block) => {
      const counter = Buffer.alloc(16);
      counter.writeBigUInt64BE(block, 8);
      return ctr(key, new Uint8Array(counter)).encrypt(new Uint8Array(16));
    }),
  chacha: (key: Uint8Array, offset: number, length: number) =>
    blocks(64, offset, length, (block) => chachaBlock(key, block)),
};

function blocks(size: number, offset: number, length: number, make: (block: bigint) => Uint8Array) {
  const first = BigInt(offset) / BigInt(size);
  const skip = Number(BigInt(offset) % BigInt(size));
  const made: Uint8Array[] = [];
  for (let at = 0; at < skip + length; at += size) made.push(make(first + BigInt(at / size)));
  return Buffer.concat(made).subarray(skip, skip + length);
}

const ciphers: readonly {
  name: string;
  keyBytes: number;
  xor: Keystream;
  expected: (key: Uint8Array, offset: number, length: number) => Uint8Array;
}[] = [
  { name: 'AES-128-CTR', keyBytes: 16, xor: aesCtr, expected: reference.aes },
  { name: 'AES-256-CTR', keyBytes: 32, xor: aesCtr, expected: reference.aes },
  { name: 'ChaCha20', keyBytes: 32, xor: chacha20, expected: reference.chacha },
];

/** Where a counter's word overflows, or a float would lose a bit. */
const edges = [
  0,
  1,
  15,
  16,
  17,
  63,
  64,
  2 ** 31,
  2 ** 32,
  2 ** 36,
  2 ** 37,
  2 ** 38,
  2 ** 48,
  2 ** 52,
].flatMap((edge) => [-33, -1, 0, 1].map((distance) => edge + distance));
const offsets = fc.oneof(
  fc.constantFrom(...edges.filter((offset) => offset >= 0)),
  fc.integer({ min: 0, max: 2 ** 53 - 512 }),
);

for (const { name, keyBytes, xor, expected } of ciphers) {
  const keys = fc.uint8Array({ minLength: keyBytes, maxLength: keyBytes });

  describe(`${name} by stream offset, wire.md section 5`, () => {
    test('agrees with other code at any offset', () => {
      fc.assert(
        fc.property(keys, offsets, fc.nat(300), (key, offset, length) => {
          const data = new Uint8Array(length);
          xor(key, offset, data);
          assert.equal(hex(data), hex(expected(key, offset, length)));
        }),
        { numRuns: 300 },
      );
    });

    test('gives the same bytes wherever the stream is cut', () => {
      fc.assert(
        fc.property(keys, offsets, fc.nat(300), fc.nat(300), (key, offset, before, after) => {
          const whole = new Uint8Array(before + after);
          xor(key, offset, whole);
          const cut = new Uint8Array(before + after);
          xor(key, offset + before, cut.subarray(before));
          xor(key, offset, cut.subarray(0, before));
          assert.equal(hex(cut), hex(whole));
        }),
      );
    });

    test('works in place, on a view, and touches nothing beside it', () => {
      const key = new Uint8Array(keyBytes).fill(1);
      const packet = new Uint8Array(100).fill(0xaa);
      xor(key, 1000, packet.subarray(20, 80));
      assert.ok(packet.subarray(0, 20).every((byte) => byte === 0xaa));
      assert.ok(packet.subarray(80).every((byte) => byte === 0xaa));
      xor(key, 1000, packet.subarray(20, 80));
      assert.ok(packet.every((byte) => byte === 0xaa));
    });
  });
}

describe('ChaCha20, 64-bit counter', () => {
  test('agrees with noble, whose counter has 32 bits', () => {
    const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(key, fc.nat(2 ** 31 - 1), fc.integer({ min: 1, max: 300 }), (key, block, length) => {
        const data = new Uint8Array(length);
        chacha20(key, block * 64, data);
        assert.equal(
          hex(data),
          hex(chacha20orig(key, new Uint8Array(8), new Uint8Array(length), undefined, block)),
        );
      }),
    );
  });

  test('the low word carries into the high one within a call', () => {
    const key = new Uint8Array(32).fill(3);
    const wrap = 2 ** 32 * 64;
    const across = new Uint8Array(256);
    chacha20(key, wrap - 128, across);
    const after = new Uint8Array(128);
    chacha20(key, wrap, after);
    assert.equal(hex(across.subarray(128)), hex(after));
  });
});

describe('NIST SP 800-38A', () => {
  const counter = bytes('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff');
  const plaintext =
    '6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51' +
    '30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710';

  for (const { name, cipher, key, ciphertext } of [
    {
      name: 'F.5.1 CTR-AES128',
      cipher: 'aes-128-ctr',
      key: '2b7e151628aed2a6abf7158809cf4f3c',
      ciphertext:
        '874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff' +
        '5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee',
    },
    {
      name: 'F.5.5 CTR-AES256',
      cipher: 'aes-256-ctr',
      key: '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
      ciphertext:
        '601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5' +
        '2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6',
    },
  ]) {
    test(name, () => {
      const data = bytes(plaintext);
      xorFrom(cipher, bytes(key), counter, 0, data);
      assert.equal(hex(data), hex(bytes(ciphertext)));
      const tail = bytes(plaintext).subarray(21);
      xorFrom(cipher, bytes(key), counter, 21, tail);
      assert.equal(hex(tail), hex(bytes(ciphertext).subarray(21)));
    });
  }
});

describe('RFC 8439, appendix A', () => {
  const zeroKey = new Uint8Array(32);

  test('A.1 #1 and #2: blocks 0 and 1, zero nonce', () => {
    const data = new Uint8Array(128);
    chacha20(zeroKey, 0, data);
    assert.equal(
      hex(data),
      '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7' +
        'da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586' +
        '9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed' +
        '29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f',
    );
  });

  test('A.1 #3: block 1, another key', () => {
    const data = new Uint8Array(64);
    chacha20(bytes(`${'00'.repeat(31)}01`), 64, data);
    assert.equal(
      hex(data),
      '3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a' +
        '8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0',
    );
  });

  test('A.2 #3: a text at block 42', () => {
    const data = Buffer.from(
      "'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\n" +
        'All mimsy were the borogoves,\nAnd the mome raths outgrabe.',
    );
    const key = bytes('1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0');
    xorFrom('chacha20', key, bytes('2a000000 000000000000000000000002'), 0, data);
    assert.equal(
      hex(data),
      '62e6347f95ed87a45ffae7426f27a1df5fb69110044c0d73118effa95b01e5cf166d3df2d721caf9b21e5fb14c616871' +
        'fd84c54f9d65b283196c7fe4f60553ebf39c6402c42234e32a356b3e764312a61a5532055716ead6962568f87d3f3f77' +
        '04c6a8d1bcd1bf4d50d6154b6da731b187b58dfd728afa36757a797ac188d1',
    );
  });
});
