// The ECN bits of an IP header (RFC 3168 section 5): 0 not capable, 1 and 2 capable, 3 congestion experienced.

import { write16 } from './bytes.ts';
import { ipv4HeaderChecksum } from './checksum.ts';
import type { Packet } from './packet.ts';

export function ecnOf(p: Packet): number {
  return p.version === 4 ? p.bytes[1] & 3 : (p.bytes[1] >>> 4) & 3;
}

/** Sets the bits in place, and the IPv4 header's checksum; returns the packet. */
export function withEcn(p: Packet, ecn: number): Packet {
  if (ecnOf(p) === ecn) return p;
  if (p.version === 6) {
    p.bytes[1] = (p.bytes[1] & ~0x30) | (ecn << 4);
    return p;
  }
  p.bytes[1] = (p.bytes[1] & ~3) | ecn;
  write16(p.bytes, 10, ipv4HeaderChecksum(p.bytes, p.tcp));
  return p;
}
