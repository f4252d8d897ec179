/** Key derivation: HKDF (RFC 5869) with SHA-256: Extract, and Expand as the draft's CPRF needs it. */
import { createHmac } from 'node:crypto';
import { slabs } from '../wire/bytes.ts';

const HASH_BYTES = 32;
const secretBytes = slabs(4096);

/** Writes HMAC-SHA-256 (RFC 2104) of `message`, 32 bytes, to `out`. */
export type Hmac = (key: Uint8Array, message: Uint8Array, out: Uint8Array) => void;

let hmac: Hmac = (key, message, out) => out.set(createHmac('sha256', key).update(message).digest());

/** Has `other` do this thread's HMACs from now on. It gives the same bytes; only its speed is another. */
export function useHmac(other: Hmac): void {
  hmac = other;
}

/** HKDF-Extract, RFC 5869 section 2.2: a pseudo-random key of 32 bytes. */
export function hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Uint8Array {
  const prk = secretBytes(HASH_BYTES);
  hmac(salt, ikm, prk);
  return prk;
}

/** What CPRF hashes: its tag, and the counter of the first block. */
const tagAndCounter = Uint8Array.of(0, 1);

/** CPRF of wire.md section 3: HKDF-Expand whose info is the one byte `tag`. `length` is at most 32: one block. */
export function cprf(key: Uint8Array, tag: number, length: number): Uint8Array {
  const block = secretBytes(HASH_BYTES);
  tagAndCounter[0] = tag;
  hmac(key, tagAndCounter, block);
  return block.fill(0, length).subarray(0, length);
}
