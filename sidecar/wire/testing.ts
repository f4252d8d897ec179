// Packets for tests, of this layer and those above. Not for production code: what does not fit throws.

import { buildSegment } from './build.ts';
import { concat, write16, write32 } from './bytes.ts';
import { onesComplementSum } from './checksum.ts';
import { IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, type Packet, PROTOCOL_TCP } from './packet.ts';

const NOTHING = new Uint8Array(0);

export type PacketSpec = {
  version: 4 | 6;
  /** Addresses as text. */
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  urgent?: number;
  /** Aligned option bytes. */
  options?: Uint8Array;
  payload?: Uint8Array;
};

/** A whole packet with right checksums. */
export function makePacket(spec: PacketSpec): Packet {
  const tcp = spec.version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
  const bytes = new Uint8Array(tcp + 20);
  writeIpHeader(bytes, spec.version, PROTOCOL_TCP, parseAddress(spec.source), parseAddress(spec.destination));
  write16(bytes, tcp, spec.sourcePort);
  write16(bytes, tcp + 2, spec.destinationPort);
  const template: Packet = { bytes, version: spec.version, tcp, payload: bytes.length };
  const { seq, ack, flags, window, urgent = 0, options = NOTHING, payload = NOTHING } = spec;
  return buildSegment(template, { seq, ack, flags, window, urgent, options, payload });
}

/** An ICMP error from a router about a packet, which it quotes whole or to `quotedBytes`. */
export function makeIcmpError(spec: {
  router: string;
  type: number;
  code: number;
  quoted: Packet;
  quotedBytes?: number;
  mtu?: number;
}): Uint8Array {
  const { version, bytes: original } = spec.quoted;
  const header = version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
  const bytes = concat([
    new Uint8Array(header + 8),
    original.subarray(0, spec.quotedBytes ?? original.length),
  ]);
  const destination = version === 4 ? original.subarray(12, 16) : original.subarray(8, 24);
  writeIpHeader(bytes, version, version === 4 ? 1 : 58, parseAddress(spec.router), destination);
  bytes[header] = spec.type;
  bytes[header + 1] = spec.code;
  if (version === 4) write16(bytes, header + 6, spec.mtu ?? 0);
  else write32(bytes, header + 4, spec.mtu ?? 0);
  write16(bytes, header + 2, ~icmpSum(bytes, version, header));
  return bytes;
}

/** The one's complement sum of an ICMP message (with pseudo-header in version 6): 0xffff if its checksum is right. */
export function icmpSum(bytes: Uint8Array, version: 4 | 6, icmp: number): number {
  const pseudo = version === 4 ? 0 : onesComplementSum(bytes, 8, 40, 58 + bytes.length - icmp);
  return onesComplementSum(bytes, icmp, bytes.length, pseudo);
}

function writeIpHeader(
  bytes: Uint8Array,
  version: 4 | 6,
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
): void {
  if (version === 4) {
    bytes.set([0x45, 0, bytes.length >>> 8, bytes.length & 0xff, 0, 1, 0x40, 0, 64, protocol]);
    bytes.set(source, 12);
    bytes.set(destination, 16);
    write16(bytes, 10, ~onesComplementSum(bytes, 0, IPV4_HEADER_BYTES));
  } else {
    const payload = bytes.length - IPV6_HEADER_BYTES;
    bytes.set([0x60, 0, 0, 0, payload >>> 8, payload & 0xff, protocol, 64]);
    bytes.set(source, 8);
    bytes.set(destination, 24);
  }
}

/** An IPv4 or IPv6 address out of its text. */
export function parseAddress(text: string): Uint8Array {
  if (!text.includes(':')) return Uint8Array.from(text.split('.'), Number);
  const [head, tail] = text.split('::');
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const zeros = new Array<number>(16 - left.length - right.length).fill(0);
  return Uint8Array.from([...left, ...zeros, ...right]);
}

function groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >>> 8, value & 0xff];
  });
}

/** Bytes out of hexadecimal digits; white space is ignored. */
export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
}
