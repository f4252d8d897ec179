// wire/: bytes to values and back: IP, TCP, the options CRYPT and MAC, the INIT messages. It imports nothing but
// itself, keeps no state and does no I/O. Parsers take any bytes: they return a value or a reason, and never throw.
//
// This file: one IP packet that holds a whole TCP segment (RFC 791, RFC 8200, RFC 9293), as a checked view.
// `parsePacket` checks every length once; after it no accessor can read outside the packet:
//
//     const packet = parsePacket(bytes);
//     if (typeof packet === 'string') return pass(packet);
//     if (flagsOf(packet) & SYN) offer(remoteEndpoint(packet, 'out'), seqNumber(packet));

import { read16, read32 } from './bytes.ts';

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;
export const TCP_HEADER_BYTES = 20;
export const PROTOCOL_TCP = 6;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION_OPTIONS = 60;

export type Packet = {
  /** Exactly the datagram: anything behind its total length is cut off. */
  readonly bytes: Uint8Array;
  readonly version: 4 | 6;
  /** Where the TCP header begins. */
  readonly tcp: number;
  /** Where the TCP payload begins; it ends where `bytes` does. */
  readonly payload: number;
};

/**
 * Why bytes are no packet for us. `truncated`: fewer bytes than the header says. `bad_header`: a header that
 * contradicts itself, a jumbogram, or a length of 0 (what Linux writes for "BIG TCP").
 */
export type PacketProblem = 'truncated' | 'not_ip' | 'not_tcp' | 'fragment' | 'bad_header';

/** Which way a packet goes, seen from this host. */
export type Direction = 'in' | 'out';

/** Checks an IP packet's lengths and finds its TCP segment. The result shares its bytes with the argument. */
export function parsePacket(bytes: Uint8Array): Packet | PacketProblem {
  if (bytes.length === 0) return 'truncated';
  const version = bytes[0] >>> 4;
  if (version === 4) return parseIpv4(bytes);
  if (version === 6) return parseIpv6(bytes);
  return 'not_ip';
}

function parseIpv4(bytes: Uint8Array): Packet | PacketProblem {
  if (bytes.length < IPV4_HEADER_BYTES) return 'truncated';
  const headerBytes = (bytes[0] & 0x0f) * 4;
  const total = read16(bytes, 2);
  if (headerBytes < IPV4_HEADER_BYTES || total < headerBytes) return 'bad_header';
  if (bytes[9] !== PROTOCOL_TCP) return 'not_tcp';
  if ((read16(bytes, 6) & 0x3fff) !== 0) return 'fragment'; // more fragments, or an offset
  if (bytes.length < total) return 'truncated';
  return withTcp(bytes, 4, headerBytes, total);
}

// A fragment header makes a fragment even where it says that the packet is whole (RFC 6946). A routing header that
// still has segments left means that the destination address is not the one of the TCP checksum: not TCP, here.
function parseIpv6(bytes: Uint8Array): Packet | PacketProblem {
  if (bytes.length < IPV6_HEADER_BYTES) return 'truncated';
  const payloadBytes = read16(bytes, 4);
  if (payloadBytes === 0) return 'bad_header';
  const total = IPV6_HEADER_BYTES + payloadBytes;
  if (bytes.length < total) return 'truncated';
  let next = bytes[6];
  let at = IPV6_HEADER_BYTES;
  while (next !== PROTOCOL_TCP) {
    if (next === FRAGMENT) return 'fragment';
    if (next !== HOP_BY_HOP && next !== ROUTING && next !== DESTINATION_OPTIONS) return 'not_tcp';
    if (at + 8 > total) return 'bad_header';
    if (next === ROUTING && bytes[at + 3] !== 0) return 'not_tcp';
    next = bytes[at];
    at += (bytes[at + 1] + 1) * 8;
  }
  return withTcp(bytes, 6, at, total);
}

function withTcp(bytes: Uint8Array, version: 4 | 6, tcp: number, total: number): Packet | PacketProblem {
  if (tcp + TCP_HEADER_BYTES > total) return 'bad_header';
  const headerBytes = (bytes[tcp + 12] >>> 4) * 4;
  const payload = tcp + headerBytes;
  if (headerBytes < TCP_HEADER_BYTES || payload > total) return 'bad_header';
  return { bytes: bytes.length === total ? bytes : bytes.subarray(0, total), version, tcp, payload };
}

export function sourcePort(p: Packet): number {
  return read16(p.bytes, p.tcp);
}

export function destinationPort(p: Packet): number {
  return read16(p.bytes, p.tcp + 2);
}

export function seqNumber(p: Packet): number {
  return read32(p.bytes, p.tcp + 4);
}

/** The acknowledgement field, whatever the ACK flag says. */
export function ackNumber(p: Packet): number {
  return read32(p.bytes, p.tcp + 8);
}

/** Byte 12 of the TCP header: data offset (high four bits) and the reserved bits. */
export function dataOffsetByte(p: Packet): number {
  return p.bytes[p.tcp + 12];
}

/** Byte 13 of the TCP header: CWR to FIN. */
export function flagsOf(p: Packet): number {
  return p.bytes[p.tcp + 13];
}

/** The window as it stands in the header, not scaled. */
export function windowOf(p: Packet): number {
  return read16(p.bytes, p.tcp + 14);
}

/** The urgent pointer, whatever the URG flag says. */
export function urgentOf(p: Packet): number {
  return read16(p.bytes, p.tcp + 18);
}

/** The TCP header's option bytes; they share memory with the packet. */
export function optionBytes(p: Packet): Uint8Array {
  return p.bytes.subarray(p.tcp + TCP_HEADER_BYTES, p.payload);
}

/** The segment's data; it shares memory with the packet. */
export function payloadOf(p: Packet): Uint8Array {
  return p.bytes.subarray(p.payload);
}

export function payloadLength(p: Packet): number {
  return p.bytes.length - p.payload;
}

/** 4 or 16 bytes; they share memory with the packet. */
export function sourceAddress(p: Packet): Uint8Array {
  return p.version === 4 ? p.bytes.subarray(12, 16) : p.bytes.subarray(8, 24);
}

/** 4 or 16 bytes; they share memory with the packet. */
export function destinationAddress(p: Packet): Uint8Array {
  return p.version === 4 ? p.bytes.subarray(16, 20) : p.bytes.subarray(24, 40);
}

/** This host's end as text, see `formatEndpoint`. */
export function localEndpoint(p: Packet, direction: Direction): string {
  return direction === 'out' ? sourceEndpoint(p) : destinationEndpoint(p);
}

/** The peer's end as text, see `formatEndpoint`. */
export function remoteEndpoint(p: Packet, direction: Direction): string {
  return direction === 'out' ? destinationEndpoint(p) : sourceEndpoint(p);
}

function sourceEndpoint(p: Packet): string {
  return formatEndpoint(sourceAddress(p), sourcePort(p));
}

function destinationEndpoint(p: Packet): string {
  return formatEndpoint(destinationAddress(p), destinationPort(p));
}

/** A connection's key in a Map: the same for both directions, local side first. Not for people to read. */
export function flowKey(p: Packet, direction: Direction): string {
  const out = direction === 'out';
  return p.version === 4
    ? flowKeyAt(p.bytes, 4, out ? 12 : 16, out ? 16 : 12, p.tcp + (out ? 0 : 2), p.tcp + (out ? 2 : 0))
    : flowKeyAt(p.bytes, 6, out ? 8 : 24, out ? 24 : 8, p.tcp + (out ? 0 : 2), p.tcp + (out ? 2 : 0));
}

/** `flowKey` from the places of both addresses and both ports; for packets that are quoted in ICMP errors. */
export function flowKeyAt(
  bytes: Uint8Array,
  version: 4 | 6,
  localAt: number,
  remoteAt: number,
  localPortAt: number,
  remotePortAt: number,
): string {
  return version === 4
    ? latin1x4(bytes, localAt) +
        latin1x2(bytes, localPortAt) +
        latin1x4(bytes, remoteAt) +
        latin1x2(bytes, remotePortAt)
    : latin1x16(bytes, localAt) +
        latin1x2(bytes, localPortAt) +
        latin1x16(bytes, remoteAt) +
        latin1x2(bytes, remotePortAt);
}

function latin1x2(b: Uint8Array, i: number): string {
  return String.fromCharCode(b[i], b[i + 1]);
}

function latin1x4(b: Uint8Array, i: number): string {
  return String.fromCharCode(b[i], b[i + 1], b[i + 2], b[i + 3]);
}

function latin1x16(b: Uint8Array, i: number): string {
  return latin1x4(b, i) + latin1x4(b, i + 4) + latin1x4(b, i + 8) + latin1x4(b, i + 12);
}

/** An address of 4 or 16 bytes as text: dotted, or as RFC 5952 says (IPv4-mapped ones in its mixed notation). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return dotted(bytes, 0);
  if (isIpv4Mapped(bytes)) return `::ffff:${dotted(bytes, 12)}`;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(read16(bytes, i).toString(16));
  const zeros = longestZeroRun(groups);
  if (zeros.length < 2) return groups.join(':');
  return `${groups.slice(0, zeros.start).join(':')}::${groups.slice(zeros.start + zeros.length).join(':')}`;
}

/** `address:port`, or `[address]:port` for IPv6. */
export function formatEndpoint(address: Uint8Array, port: number): string {
  return address.length === 4 ? `${dotted(address, 0)}:${port}` : `[${formatAddress(address)}]:${port}`;
}

function dotted(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

function isIpv4Mapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

function longestZeroRun(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (let i = 0; i < groups.length; i++) {
    length = groups[i] === '0' ? length + 1 : 0;
    if (length > best.length) best = { start: i + 1 - length, length };
  }
  return best;
}
