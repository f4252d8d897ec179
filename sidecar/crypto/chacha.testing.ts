/**
 * ChaCha20 written down from RFC 8439 section 2.3, for tests only: noble's counter has 32 bits and refuses the
 * last of its blocks, the one before the carry that the tests are about.
 */

/** 64 bytes of keystream: the block `counter` (64 bits, little-endian) under a zero nonce. */
export function chachaBlock(key: Uint8Array, counter: bigint): Uint8Array {
  const input = Buffer.alloc(64);
  input.write('expand 32-byte k', 'latin1');
  input.set(key, 16);
  input.writeBigUInt64LE(counter, 48);
  const start = Array.from({ length: 16 }, (_, i) => input.readUInt32LE(4 * i));
  const s = [...start];
  for (let round = 0; round < 10; round++) {
    for (let column = 0; column < 4; column++) quarter(s, column, 4 + column, 8 + column, 12 + column);
    for (let i = 0; i < 4; i++) quarter(s, i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
  }
  const out = Buffer.alloc(64);
  for (let i = 0; i < 16; i++) out.writeUInt32LE((s[i] + start[i]) >>> 0, 4 * i);
  return out;
}

function quarter(s: number[], a: number, b: number, c: number, d: number): void {
  for (const [left, right] of [
    [16, 12],
    [8, 7],
  ]) {
    s[a] = (s[a] + s[b]) >>> 0;
    s[d] = rotated(s[d] ^ s[a], left);
    s[c] = (s[c] + s[d]) >>> 0;
    s[b] = rotated(s[b] ^ s[c], right);
  }
}

function rotated(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0;
}
