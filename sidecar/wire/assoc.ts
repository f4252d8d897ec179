// What a MAC covers beside the ciphertext: Assoc-Data, and the 8 bytes of acknowledgement offset under MAC2
// (wire.md, section 5, "MAC"). Sender and receiver compute it from the segment as it is on the wire.

import { read32, slabs, write16, write32, write64 } from './bytes.ts';
import {
  AGGREGATE_MAC_BYTES,
  headBytes,
  KIND_MD5,
  KIND_SACK,
  KIND_TIMESTAMPS,
  MAC_TAG_BYTES,
  type OptionEncodings,
  optionLength,
  ourOption,
} from './options.ts';
import { CWR, type Packet, TCP_HEADER_BYTES } from './packet.ts';

const dataBytes = slabs(4096);
const FIXED_BYTES = 20;
const TAG = 0x8000;
const KIND_SKEETER = 16;
const KIND_BUBBA = 17;

/** A super-segment as a whole: TCP header and data in bytes, and the flags of all its segments OR-ed. */
export type SuperSegment = { readonly length: number; readonly flags: number };

/**
 * Assoc-Data of a segment, or of the super-segment that it is a part of (section 6; `seqOffset` is that one's then,
 * and CWR is left out of its flags). `seqOffset` is the 64-bit stream offset of the first byte; `sackBase` the
 * initial sequence number, on the wire, that SACK edges refer to. The MAC option's contents count as zeros.
 */
export function associatedData(
  p: Packet,
  seqOffset: number,
  sackBase: number,
  encodings: OptionEncodings,
  superSegment?: SuperSegment,
): Uint8Array {
  const { bytes, tcp } = p;
  const options = tcp + TCP_HEADER_BYTES;
  const out = dataBytes(FIXED_BYTES + p.payload - options);
  write16(out, 0, TAG);
  write16(out, 2, superSegment === undefined ? bytes.length - tcp : superSegment.length);
  out[4] = bytes[tcp + 12];
  out[5] = superSegment === undefined ? bytes[tcp + 13] : superSegment.flags & ~CWR;
  out[6] = bytes[tcp + 14];
  out[7] = bytes[tcp + 15];
  out[10] = bytes[tcp + 18];
  out[11] = bytes[tcp + 19];
  write64(out, 12, seqOffset);
  for (let i = options; i < p.payload; i++) out[FIXED_BYTES + i - options] = bytes[i];
  normalizeOptions(out, sackBase, encodings);
  return out;
}

function normalizeOptions(out: Uint8Array, sackBase: number, encodings: OptionEncodings): void {
  let at = FIXED_BYTES;
  for (;;) {
    const length = optionLength(out, at, out.length);
    if (length <= 0) return;
    if (length > 2) normalizeOption(out, at, length, sackBase, encodings);
    at += length;
  }
}

function normalizeOption(
  out: Uint8Array,
  at: number,
  length: number,
  sackBase: number,
  encodings: OptionEncodings,
): void {
  const kind = out[at];
  switch (kind) {
    case KIND_SACK:
      for (let i = at + 2; i + 4 <= at + length; i += 4) write32(out, i, read32(out, i) - sackBase);
      return;
    case KIND_TIMESTAMPS:
    case KIND_SKEETER:
    case KIND_BUBBA:
    case KIND_MD5:
      out.fill(0, at + 2, at + length);
      return;
    default:
      if (ourOption(out, at, length, encodings) === 'mac') out.fill(0, at + headBytes(kind), at + length);
  }
}

/**
 * Where in `p.bytes` the tag of the packet's MAC option begins; undefined if it has none, two, or one whose body is
 * neither 16 nor 20 bytes.
 */
export function macTagOffset(p: Packet, encodings: OptionEncodings): number | undefined {
  let found: number | undefined;
  let at = p.tcp + TCP_HEADER_BYTES;
  for (;;) {
    const length = optionLength(p.bytes, at, p.payload);
    if (length <= 0) return found;
    if (length > 2 && ourOption(p.bytes, at, length, encodings) === 'mac') {
      const head = headBytes(p.bytes[at]);
      const body = length - head;
      if (found !== undefined || (body !== MAC_TAG_BYTES && body !== AGGREGATE_MAC_BYTES)) return undefined;
      found = at + head;
    }
    at += length;
  }
}
