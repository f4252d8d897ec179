// Big-endian integers in byte arrays, for the other files of this folder. No bounds are checked here: a parser
// has checked them before, and a read past the end would count missing bytes as zero, never throw.

export function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

export function read32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function write32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a 64-bit integer below 2^53. */
export function write64(bytes: Uint8Array, at: number, value: number): void {
  write32(bytes, at, Math.floor(value / 2 ** 32));
  write32(bytes, at + 4, value);
}

/**
 * Gives arrays of zeros that lie in common slabs of `slabBytes`. One that has memory of its own costs ten times as much,
 * once it is longer than 64 bytes or handed to native code, and its garbage as much again. A slab lives as long as
 * anything in it, and what lies there is not moved about, so that erasing it leaves no copy.
 */
export function slabs(slabBytes: number): (length: number) => Uint8Array {
  let slab = new Uint8Array(slabBytes);
  let used = 0;
  return (length) => {
    if (length > slabBytes / 4) return new Uint8Array(length);
    if (used + length > slabBytes) {
      slab = new Uint8Array(slabBytes);
      used = 0;
    }
    const from = used;
    used += length;
    return slab.subarray(from, used);
  };
}

/** The parts one after the other in a new array. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
