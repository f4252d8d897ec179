/**
 * The pseudo-random functions that an ASM's tag is made of (wire.md section 5, "MAC"). Each gives 16
 * bytes over the concatenation of its two inputs, which is never built where that can be avoided.
 */
import { type Cipheriv, createCipheriv, createHmac } from 'node:crypto';

export const MAC_BYTES = 16;
const BLOCK_BYTES = 16;
const ZERO_BLOCK = new Uint8Array(BLOCK_BYTES);
const GCM_ZERO_IV = new Uint8Array(12);

/** A keyed function of `first | second`. The key stays the caller's: who made it zeroes it. */
export interface Mac {
  compute(first: Uint8Array, second: Uint8Array): Uint8Array;
  /** Frees what OpenSSL holds of the key. */
  free(): void;
}

/** AES of single blocks under one key, with one cipher object for all of them. */
export class AesBlock {
  readonly #cipher: Cipheriv;

  constructor(key: Uint8Array) {
    this.#cipher = createCipheriv(key.length === 16 ? 'aes-128-ecb' : 'aes-256-ecb', key, null);
    this.#cipher.setAutoPadding(false);
  }

  /** `block` has 16 bytes; so has the answer. */
  encrypt(block: Uint8Array): Uint8Array {
    return this.#cipher.update(block);
  }

  free(): void {
    this.#cipher.final();
  }
}

/** HMAC-SHA-256 cut to 16 bytes. */
export function hmacSha256(key: Uint8Array): Mac {
  return {
    compute: (first, second) =>
      createHmac('sha256', key).update(first).update(second).digest().subarray(0, MAC_BYTES),
    free() {},
  };
}

/** AES of one block: the ACK MAC. `first | second` must be 16 bytes. */
export function aesOfBlock(key: Uint8Array): Mac {
  const aes = new AesBlock(key);
  return {
    compute: (first, second) => aes.encrypt(second.length === 0 ? first : Buffer.concat([first, second])),
    free: () => aes.free(),
  };
}

/** CMAC with AES-128, RFC 4493. */
export function cmacAes128(key: Uint8Array): Mac {
  const aes = new AesBlock(key);
  const whole = doubled(aes.encrypt(ZERO_BLOCK)); // K1, for a last block that is whole
  const padded = doubled(whole); // K2, for one that is padded
  return {
    compute(first, second) {
      const length = first.length + second.length;
      const blocks = Math.max(1, Math.ceil(length / BLOCK_BYTES));
      const message = Buffer.alloc(blocks * BLOCK_BYTES);
      message.set(first);
      message.set(second, first.length);
      if (length < message.length) message[length] = 0x80;
      const last = message.subarray(-BLOCK_BYTES);
      xorInto(last, length === message.length ? whole : padded);

      const cbc = createCipheriv('aes-128-cbc', key, ZERO_BLOCK);
      const tag = cbc.update(message).subarray(-BLOCK_BYTES);
      cbc.final();
      return tag;
    },
    free() {
      aes.free();
      whole.fill(0);
      padded.fill(0);
    },
  };
}

/**
 * GHASH, then AES (wire.md section 5): the AES under k_tag of a GMAC under k_hash with an all-zero IV.
 * A plain GMAC would need an IV that never repeats; behind a second PRF it is only a universal hash.
 * `key` is k_hash (16) | k_tag (16).
 */
export function ghashThenAes(key: Uint8Array): Mac {
  const hashKey = key.subarray(0, 16);
  const aes = new AesBlock(key.subarray(16, 32));
  return {
    compute(first, second) {
      const gmac = createCipheriv('aes-128-gcm', hashKey, GCM_ZERO_IV);
      // OpenSSL hashes associated data as it comes, so both calls continue one AAD.
      gmac.setAAD(first).setAAD(second).final();
      return aes.encrypt(gmac.getAuthTag());
    },
    free: () => aes.free(),
  };
}

/** Multiplies by x in GF(2^128), RFC 4493 section 2.3. */
function doubled(block: Uint8Array): Uint8Array {
  const out = new Uint8Array(BLOCK_BYTES);
  for (let i = 0; i < BLOCK_BYTES; i++) out[i] = (block[i] << 1) | ((block[i + 1] ?? 0) >> 7);
  out[BLOCK_BYTES - 1] ^= 0x87 & -(block[0] >> 7);
  return out;
}

export function xorInto(target: Uint8Array, other: Uint8Array): void {
  for (let i = 0; i < target.length; i++) target[i] ^= other[i];
}
