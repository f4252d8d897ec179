/** Key derivation: HKDF (RFC 5869) with SHA-256, and the draft's CPRF on top of it. */
import { createHmac } from 'node:crypto';
import { plain } from './plain.ts';

const HASH_BYTES = 32;
const MAX_EXPAND_BYTES = 255 * HASH_BYTES;

/** HKDF-Extract, RFC 5869 section 2.2: a pseudo-random key of 32 bytes. */
export function hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Uint8Array {
  return plain(createHmac('sha256', salt).update(ikm).digest());
}

/** HKDF-Expand, RFC 5869 section 2.3. `length` is in bytes, at most 8160. */
export function hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > MAX_EXPAND_BYTES) {
    throw new RangeError(`hkdfExpand: ${length} bytes asked for`);
  }
  const out = new Uint8Array(length);
  const counter = new Uint8Array(1);
  let block: Uint8Array = new Uint8Array(0);
  for (let at = 0; at < length; at += HASH_BYTES) {
    counter[0]++;
    const next = createHmac('sha256', prk).update(block).update(info).update(counter).digest();
    block.fill(0);
    block = next;
    out.set(block.subarray(0, Math.min(HASH_BYTES, length - at)), at);
  }
  block.fill(0);
  return out;
}

/** CPRF of wire.md section 3: HKDF-Expand whose info is the one byte `tag`. */
export function cprf(key: Uint8Array, tag: number, length: number): Uint8Array {
  return hkdfExpand(key, Uint8Array.of(tag), length);
}
