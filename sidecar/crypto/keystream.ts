/**
 * The ciphers of an ASM: a keystream that is addressed by stream offset, so that a byte's ciphertext
 * depends on its position alone (wire.md section 5, "Cipher").
 */
import { createCipheriv } from 'node:crypto';

/** XORs the keystream from stream offset `offset` on into `data`, in place. */
export type Keystream = (key: Uint8Array, offset: number, data: Uint8Array) => void;

const WORD = 2 ** 32;

/** AES in counter mode; block ⌊offset/16⌋ is a 128-bit big-endian integer. The key's length picks the AES. */
export function aesCtr(key: Uint8Array, offset: number, data: Uint8Array): void {
  const block = Math.floor(offset / 16);
  const counter = Buffer.alloc(16);
  counter.writeUInt32BE(Math.floor(block / WORD), 8);
  counter.writeUInt32BE(block % WORD, 12);
  xorFrom(key.length === 16 ? 'aes-128-ctr' : 'aes-256-ctr', key, counter, offset % 16, data);
}

/**
 * ChaCha20 in its original form: 64-bit block counter ⌊offset/64⌋, zero 64-bit nonce. OpenSSL takes 16
 * bytes, the counter's 32 low bits first, and carries into the next word when they wrap.
 */
export function chacha20(key: Uint8Array, offset: number, data: Uint8Array): void {
  const block = Math.floor(offset / 64);
  const counter = Buffer.alloc(16);
  counter.writeUInt32LE(block % WORD, 0);
  counter.writeUInt32LE(Math.floor(block / WORD), 4);
  xorFrom('chacha20', key, counter, offset % 64, data);
}

/** XORs into `data` the keystream that OpenSSL's stream cipher `name` makes from `iv`, less its first `skip` bytes. */
export function xorFrom(name: string, key: Uint8Array, iv: Uint8Array, skip: number, data: Uint8Array): void {
  if (data.length === 0) return;
  const cipher = createCipheriv(name, key, iv);
  if (skip > 0) cipher.update(new Uint8Array(skip));
  data.set(cipher.update(data));
  cipher.final(); // frees OpenSSL's copy of the key now, not when the garbage is collected
}
