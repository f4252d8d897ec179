/** RSA and OAEP by hand, for tests: the second opinion on what OpenSSL does. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

export function toNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${hex(bytes)}`);
}

export function toBytes(value: bigint, length: number): Buffer {
  return Buffer.from(value.toString(16).padStart(2 * length, '0'), 'hex');
}

/** RFC 8017 section 7.1 with SHA-256 throughout and an empty label, by hand: the second opinion. */
export const oaep = {
  encode(message: Uint8Array, seed: Uint8Array, length: number): Buffer {
    const block = Buffer.alloc(length - 33);
    block.set(createHash('sha256').digest());
    block[block.length - message.length - 1] = 1;
    block.set(message, block.length - message.length);
    const masked = xor(block, mgf1(seed, block.length));
    return Buffer.concat([Uint8Array.of(0), xor(seed, mgf1(masked, 32)), masked]);
  },
  decode(encoded: Uint8Array): Buffer {
    assert.equal(encoded[0], 0);
    const masked = encoded.subarray(33);
    const seed = xor(encoded.subarray(1, 33), mgf1(masked, 32));
    const block = xor(masked, mgf1(seed, masked.length));
    assert.equal(hex(block.subarray(0, 32)), createHash('sha256').digest('hex'));
    const one = block.indexOf(1, 32);
    assert.ok(block.subarray(32, one).every((byte) => byte === 0));
    return block.subarray(one + 1);
  },
};

function mgf1(seed: Uint8Array, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i * 32 < length; i++) {
    parts.push(
      createHash('sha256')
        .update(seed)
        .update(Uint8Array.of(0, 0, 0, i))
        .digest(),
    );
  }
  return Buffer.concat(parts).subarray(0, length);
}

function xor(a: Uint8Array, b: Uint8Array): Buffer {
  return Buffer.from(a.map((byte, i) => byte ^ b[i]));
}

export function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (let b = base, e = exponent; e > 0n; e >>= 1n, b = (b * b) % modulus) {
    if (e & 1n) result = (result * b) % modulus;
  }
  return result;
}
