// The Internet checksum (RFC 1071) of IPv4 headers and, with the pseudo-header of RFC 9293 section 3.1 or RFC 8200
// section 8.1, of TCP segments. Pure sums over a checked `Packet`; nothing is written here (see build.ts).

import { read16 } from './bytes.ts';
import { IPV6_HEADER_BYTES, type Packet, PROTOCOL_TCP } from './packet.ts';

const CHECKSUM_AT = 16; // in the TCP header
const WIDE_FROM_BYTES = 512; // from here on a DataView, 32 bits at a time, costs less than making it
const CHUNK_BYTES = 32 * 1024; // the halves' sums over a chunk fit 31 bits, so V8 stays with small integers

/**
 * The one's complement sum of big-endian 16-bit words, folded to 16 bits and not complemented. An odd last byte
 * counts as the high half of a word. `initial` is a sum to go on from.
 */
export function onesComplementSum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let sum = initial;
  let at = start;
  if (end - start >= WIDE_FROM_BYTES) {
    at = end - ((end - start) % 16);
    sum += wideSum(new DataView(bytes.buffer, bytes.byteOffset + start, at - start));
  }
  for (; at + 1 < end; at += 2) sum += (bytes[at] << 8) | bytes[at + 1];
  if (at < end) sum += bytes[at] << 8;
  return fold(sum);
}

// The sum of a view whose length is a multiple of 16.
function wideSum(view: DataView): number {
  let high = 0;
  let low = 0;
  for (let at = 0; at < view.byteLength; ) {
    const stop = Math.min(view.byteLength, at + CHUNK_BYTES);
    for (; at < stop; at += 16) {
      const a = view.getUint32(at);
      const b = view.getUint32(at + 4);
      const c = view.getUint32(at + 8);
      const d = view.getUint32(at + 12);
      high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
      low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
    }
    high = fold(high);
    low = fold(low);
  }
  return high + low;
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffffffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** What the TCP checksum field must hold; what it holds now does not matter. */
export function tcpChecksum(p: Packet): number {
  const head = onesComplementSum(p.bytes, p.tcp, p.tcp + CHECKSUM_AT, pseudoHeaderSum(p));
  return ~onesComplementSum(p.bytes, p.tcp + CHECKSUM_AT + 2, p.bytes.length, head) & 0xffff;
}

/** What an IPv4 header's checksum field must hold, for a header of `headerBytes` at the start of `bytes`. */
export function ipv4HeaderChecksum(bytes: Uint8Array, headerBytes: number): number {
  return ~onesComplementSum(bytes, 12, headerBytes, onesComplementSum(bytes, 0, 10)) & 0xffff;
}

/** Whether the packet's checksums, the IPv4 header's and TCP's, are complete and right. */
export function checksumsValid(p: Packet): boolean {
  if (p.version === 4 && onesComplementSum(p.bytes, 0, p.tcp) !== 0xffff) return false;
  return read16(p.bytes, p.tcp + CHECKSUM_AT) === tcpChecksum(p);
}

function pseudoHeaderSum(p: Packet): number {
  const rest = PROTOCOL_TCP + p.bytes.length - p.tcp;
  return p.version === 4
    ? onesComplementSum(p.bytes, 12, 20, rest)
    : onesComplementSum(p.bytes, 8, IPV6_HEADER_BYTES, rest);
}
