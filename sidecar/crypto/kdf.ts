/** Key derivation: HKDF (RFC 5869) with SHA-256, and the draft's CPRF on top of it. */
import { createHmac } from 'node:crypto';

const HASH_BYTES = 32;
const MAX_EXPAND_BYTES = 255 * HASH_BYTES;

/** Writes HMAC-SHA-256 (RFC 2104) of `message`, 32 bytes, to `out`. */
export type Hmac = (key: Uint8Array, message: Uint8Array, out: Uint8Array) => void;

let hmac: Hmac = (key, message, out) => out.set(createHmac('sha256', key).update(message).digest());

/** Has `other` do this thread's HMACs from now on. It gives the same bytes; only its speed is another. */
export function useHmac(other: Hmac): void {
  hmac = other;
}

/** HKDF-Extract, RFC 5869 section 2.2: a pseudo-random key of 32 bytes. */
export function hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Uint8Array {
  const prk = new Uint8Array(HASH_BYTES);
  hmac(salt, ikm, prk);
  return prk;
}

/** HKDF-Expand, RFC 5869 section 2.3. `length` is in bytes, at most 8160. */
export function hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > MAX_EXPAND_BYTES) {
    throw new RangeError(`hkdfExpand: ${length} bytes asked for`);
  }
  const out = new Uint8Array(length);
  const block = new Uint8Array(HASH_BYTES);
  /** The block before, info, counter. */
  const message = new Uint8Array(HASH_BYTES + info.length + 1);
  message.set(info, HASH_BYTES);
  for (let at = 0; at < length; at += HASH_BYTES) {
    message[message.length - 1]++;
    hmac(prk, at === 0 ? message.subarray(HASH_BYTES) : message, block);
    message.set(block);
    out.set(length - at < HASH_BYTES ? block.subarray(0, length - at) : block, at);
  }
  block.fill(0);
  message.fill(0);
  return out;
}

/** CPRF of wire.md section 3: HKDF-Expand whose info is the one byte `tag`. */
export function cprf(key: Uint8Array, tag: number, length: number): Uint8Array {
  return hkdfExpand(key, Uint8Array.of(tag), length);
}
