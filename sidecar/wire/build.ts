// Packets are rebuilt, not patched: a segment out of a template's headers and new TCP fields, with every length and
// checksum right (they must be complete in what goes back to the kernel from an NFQUEUE with GSO). The caller keeps
// to what fits: options that are aligned and at most 40 bytes, a datagram of at most 65,535; else RangeError.

import { read16, slabs, write16, write32 } from './bytes.ts';
import { ipv4HeaderChecksum, tcpChecksum } from './checksum.ts';
import { MAX_OPTION_BYTES } from './options.ts';
import {
  ackNumber,
  CWR,
  FIN,
  flagsOf,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  optionBytes,
  type Packet,
  PROTOCOL_TCP,
  PSH,
  payloadOf,
  seqNumber,
  TCP_HEADER_BYTES,
  urgentOf,
  windowOf,
} from './packet.ts';

/** What is built is on its way at once: whoever keeps it copies it. */
const packetBytes = slabs(64 * 1024);
const MAX_LENGTH_FIELD = 0xffff;
const HOP_LIMIT = 64;

export type SegmentFields = {
  seq: number;
  ack: number;
  /** Byte 13 of the TCP header. */
  flags: number;
  window: number;
  urgent: number;
  /** Aligned: a multiple of 4 bytes, at most 40. */
  options: Uint8Array;
  payload: Uint8Array;
};

/** The fields of a packet, to change some and build anew; options and payload share memory with it. */
export function fieldsOf(p: Packet): SegmentFields {
  return {
    seq: seqNumber(p),
    ack: ackNumber(p),
    flags: flagsOf(p),
    window: windowOf(p),
    urgent: urgentOf(p),
    options: optionBytes(p),
    payload: payloadOf(p),
  };
}

/** A new packet with the template's IP header, ports and reserved TCP bits, and the given fields. */
export function buildSegment(template: Packet, fields: SegmentFields): Packet {
  const p = allocate(template.version, template.tcp, fields);
  p.bytes.set(template.bytes.subarray(0, template.tcp + 4));
  writeTcp(p, fields, template.bytes[template.tcp + 12] & 0x0f);
  writeLengths(p);
  fixChecksums(p);
  return p;
}

/**
 * The segments of a super-segment, each with at most `maxSegmentBytes` of TCP header and data, as TSO and GSO cut it:
 * options copied, PSH and FIN on the last alone, CWR on the first alone. The packet itself if it is one segment.
 */
export function segmentsOf(p: Packet, maxSegmentBytes: number): Packet[] {
  const fields = fieldsOf(p);
  const { length } = fields.payload;
  const room = Math.max(1, maxSegmentBytes - (p.payload - p.tcp));
  if (length <= room) return [p];
  const segments: Packet[] = [];
  for (let at = 0; at < length; at += room) {
    const end = Math.min(at + room, length);
    const notHere = (end < length ? PSH | FIN : 0) | (at > 0 ? CWR : 0);
    const payload = fields.payload.subarray(at, end);
    segments.push(
      buildSegment(p, { ...fields, seq: (fields.seq + at) >>> 0, flags: fields.flags & ~notHere, payload }),
    );
  }
  return segments;
}

/** A new packet that goes back to the template's sender: addresses and ports swapped, a fresh minimal IP header. */
export function buildReply(template: Packet, fields: SegmentFields): Packet {
  const { version, bytes: from, tcp } = template;
  const p = allocate(version, version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES, fields);
  const to = p.bytes;
  if (version === 4) {
    to[0] = 0x45;
    to[6] = 0x40; // do not fragment
    to[8] = HOP_LIMIT;
    to[9] = PROTOCOL_TCP;
    to.set(from.subarray(16, 20), 12);
    to.set(from.subarray(12, 16), 16);
  } else {
    to[0] = 0x60;
    to[6] = PROTOCOL_TCP;
    to[7] = HOP_LIMIT;
    to.set(from.subarray(24, 40), 8);
    to.set(from.subarray(8, 24), 24);
  }
  write16(to, p.tcp, read16(from, tcp + 2));
  write16(to, p.tcp + 2, read16(from, tcp));
  writeTcp(p, fields, 0);
  writeLengths(p);
  fixChecksums(p);
  return p;
}

/** Makes the IPv4 header's and the TCP checksum right, in place. */
export function fixChecksums(p: Packet): void {
  if (p.version === 4) write16(p.bytes, 10, ipv4HeaderChecksum(p.bytes, p.tcp));
  write16(p.bytes, p.tcp + 16, tcpChecksum(p));
}

function allocate(version: 4 | 6, tcp: number, fields: SegmentFields): Packet {
  const optionLength = fields.options.length;
  if (optionLength > MAX_OPTION_BYTES || optionLength % 4 !== 0) {
    throw new RangeError(`TCP options of ${optionLength} bytes`);
  }
  const payload = tcp + TCP_HEADER_BYTES + optionLength;
  const total = payload + fields.payload.length;
  if (total - (version === 4 ? 0 : IPV6_HEADER_BYTES) > MAX_LENGTH_FIELD) {
    throw new RangeError(`an IP packet of ${total} bytes`);
  }
  return { bytes: packetBytes(total), version, tcp, payload };
}

// Ports are in place already.
function writeTcp(p: Packet, fields: SegmentFields, reservedBits: number): void {
  const { bytes, tcp } = p;
  write32(bytes, tcp + 4, fields.seq);
  write32(bytes, tcp + 8, fields.ack);
  bytes[tcp + 12] = ((p.payload - tcp) << 2) | reservedBits;
  bytes[tcp + 13] = fields.flags;
  write16(bytes, tcp + 14, fields.window);
  write16(bytes, tcp + 18, fields.urgent);
  bytes.set(fields.options, tcp + TCP_HEADER_BYTES);
  bytes.set(fields.payload, p.payload);
}

function writeLengths(p: Packet): void {
  if (p.version === 4) write16(p.bytes, 2, p.bytes.length);
  else write16(p.bytes, 4, p.bytes.length - IPV6_HEADER_BYTES);
}
