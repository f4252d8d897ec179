/** Stream offsets: 64 bits, relative to an ISN, held in a JavaScript number (exact to 2^53). */

/** The offset nearest to `reference` whose low 32 bits are `seq - isn`. Negative: before the ISN. */
export function extend(seq: number, isn: number, reference: number): number {
  return reference + ((seq - isn - reference) | 0);
}

/** The sequence number of `offset`. */
export function seqAt(isn: number, offset: number): number {
  return (isn + offset) >>> 0;
}

/**
 * A kernel's offset as it is on the wire, and back: an INIT message of `delta` bytes stands before the
 * stream's first byte, which the kernel counts as offset 1 (wire.md section 3). Offset 0 is the SYN's own
 * number, and where a keep-alive points before any data: one below the first byte.
 */
export function toWire(offset: number, delta: number): number {
  return offset + delta;
}

export function toKernel(offset: number, delta: number): number {
  return offset - delta;
}

/** An acknowledgement on the wire that points into the INIT message acknowledges the SYN alone. */
export function ackToKernel(offset: number, delta: number): number {
  if (offset >= 1 + delta) return offset - delta;
  return Math.min(offset, 1);
}

/** A kernel's acknowledgement on the wire. */
export function ackToWire(offset: number, delta: number): number {
  return offset >= 1 ? offset + delta : offset;
}
