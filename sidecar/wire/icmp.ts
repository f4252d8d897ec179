// ICMP errors that quote a TCP segment (RFC 792, RFC 4443; extensions of RFC 4884 are left as they are), for their
// translation (wire.md section 4, "Encrypting"). Parsing takes any bytes and returns undefined for all that is no
// such error. Checksums are updated, not made anew, so a message that came damaged stays damaged.

import { read16, read32, write16 } from './bytes.ts';
import {
  flowKeyAt,
  formatEndpoint,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_TCP,
  TCP_HEADER_BYTES,
} from './packet.ts';

const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMPV6 = 58;
const ICMP_HEADER_BYTES = 8;
const QUOTED_TCP_MIN_BYTES = 8; // ports and sequence number: what RFC 792 promises
const V4_ERRORS = [3, 4, 11, 12]; // unreachable, source quench, time exceeded, parameter problem
const V6_ERRORS = [1, 2, 3, 4]; // unreachable, packet too big, time exceeded, parameter problem
const V6_EXTENSIONS = [0, 43, 60];
const V6_FRAGMENT = 44;

export type IcmpError = {
  version: 4 | 6;
  type: number;
  code: number;
  /** Next-hop MTU, of "fragmentation needed" and "packet too big" alone. */
  mtu?: number;
  quoted: {
    /** The quoted segment's source, as `formatEndpoint` writes it: the end that the error is for. */
    local: string;
    remote: string;
    /** As `flowKey` of the quoted segment going out. */
    flowKey: string;
    seq: number;
    /** Only if the quote holds it. */
    ack?: number;
    /** The start of the quoted segment's data; empty if the quote ends before. */
    payloadPrefix: Uint8Array;
    /** Where in the message's bytes the quoted sequence number is. */
    seqAt: number;
  };
  /** Where in the message's bytes the MTU is, if `mtu` is there: 16 bits for version 4, 32 for version 6. */
  mtuAt: number;
};

/** Reads an IP packet that holds an ICMP error about a TCP segment; undefined for anything else. */
export function parseIcmpError(bytes: Uint8Array): IcmpError | undefined {
  const outer = ipHeader(bytes, 0, bytes.length);
  if (outer === undefined || outer.cut) return undefined;
  const { version, next: icmp, protocol } = outer;
  if (protocol !== (version === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) return undefined;
  const quoteAt = icmp + ICMP_HEADER_BYTES;
  if (quoteAt > outer.end) return undefined;
  const type = bytes[icmp];
  const code = bytes[icmp + 1];
  if (!(version === 4 ? V4_ERRORS : V6_ERRORS).includes(type)) return undefined;
  const quoted = parseQuote(bytes, version, quoteAt, quoteEnd(bytes, version, icmp, outer.end));
  if (quoted === undefined) return undefined;
  const error: IcmpError = { version, type, code, quoted, mtuAt: version === 4 ? icmp + 6 : icmp + 4 };
  if (version === 4 && type === 3 && code === 4) error.mtu = read16(bytes, error.mtuAt);
  if (version === 6 && type === 2) error.mtu = read32(bytes, error.mtuAt);
  return error;
}

// RFC 4884: a length before the extensions, in words of 4 (version 4) or 8 bytes; 0 where there are none.
function quoteEnd(bytes: Uint8Array, version: 4 | 6, icmp: number, end: number): number {
  const type = bytes[icmp];
  const hasLength = version === 4 ? type !== 4 : type === 1 || type === 3;
  const quoteBytes = !hasLength ? 0 : version === 4 ? bytes[icmp + 5] * 4 : bytes[icmp + 4] * 8;
  return quoteBytes === 0 ? end : Math.min(end, icmp + ICMP_HEADER_BYTES + quoteBytes);
}

function parseQuote(
  bytes: Uint8Array,
  version: 4 | 6,
  at: number,
  quoteEndAt: number,
): IcmpError['quoted'] | undefined {
  const ip = ipHeader(bytes, at, quoteEndAt);
  if (ip === undefined || ip.version !== version || ip.protocol !== PROTOCOL_TCP) return undefined;
  const { next: tcp, end } = ip;
  if (tcp + QUOTED_TCP_MIN_BYTES > end) return undefined;
  const addressBytes = version === 4 ? 4 : 16;
  const localAt = at + (version === 4 ? 12 : 8);
  const remoteAt = localAt + addressBytes;
  const quoted: IcmpError['quoted'] = {
    local: formatEndpoint(bytes.subarray(localAt, remoteAt), read16(bytes, tcp)),
    remote: formatEndpoint(bytes.subarray(remoteAt, remoteAt + addressBytes), read16(bytes, tcp + 2)),
    flowKey: flowKeyAt(bytes, version, localAt, remoteAt, tcp, tcp + 2),
    seq: read32(bytes, tcp + 4),
    payloadPrefix: bytes.subarray(payloadAt(bytes, tcp, end), end),
    seqAt: tcp + 4,
  };
  if (tcp + 12 <= end) quoted.ack = read32(bytes, tcp + 8);
  return quoted;
}

function payloadAt(bytes: Uint8Array, tcp: number, end: number): number {
  if (tcp + TCP_HEADER_BYTES > end) return end;
  const headerBytes = (bytes[tcp + 12] >>> 4) * 4;
  return headerBytes < TCP_HEADER_BYTES ? end : Math.min(end, tcp + headerBytes);
}

type IpHeader = {
  version: 4 | 6;
  protocol: number;
  /** Where the payload begins. */
  next: number;
  /** Where it ends: the datagram's length, or `limit` if that is before. */
  end: number;
  /** The datagram is not whole: cut by `limit`, or a fragment. */
  cut: boolean;
};

// As in packet.ts, but for datagrams that may be cut, of any protocol. Only a first fragment is read.
function ipHeader(bytes: Uint8Array, at: number, limit: number): IpHeader | undefined {
  if (at >= limit) return undefined;
  if (bytes[at] >>> 4 === 4) return ipv4Header(bytes, at, limit);
  return bytes[at] >>> 4 === 6 ? ipv6Header(bytes, at, limit) : undefined;
}

function ipv4Header(bytes: Uint8Array, at: number, limit: number): IpHeader | undefined {
  const next = at + (bytes[at] & 0x0f) * 4;
  if (next < at + IPV4_HEADER_BYTES || next > limit) return undefined;
  const total = at + read16(bytes, at + 2);
  const fragment = read16(bytes, at + 6) & 0x3fff;
  if (total < next || (fragment & 0x1fff) !== 0) return undefined;
  const cut = total > limit || fragment !== 0;
  return { version: 4, protocol: bytes[at + 9], next, end: Math.min(total, limit), cut };
}

function ipv6Header(bytes: Uint8Array, at: number, limit: number): IpHeader | undefined {
  let next = at + IPV6_HEADER_BYTES;
  if (next > limit) return undefined;
  const total = next + read16(bytes, at + 4);
  const end = Math.min(total, limit);
  let cut = total > limit;
  let protocol = bytes[at + 6];
  while (V6_EXTENSIONS.includes(protocol) || protocol === V6_FRAGMENT) {
    if (next + 8 > end) return undefined;
    const fragment = protocol === V6_FRAGMENT;
    if (fragment && read16(bytes, next + 2) >>> 3 !== 0) return undefined;
    cut ||= fragment && (bytes[next + 3] & 1) !== 0;
    protocol = bytes[next];
    next += fragment ? 8 : (bytes[next + 1] + 1) * 8;
  }
  return next > end ? undefined : { version: 6, protocol, next, end, cut };
}

/** A copy of the message with another quoted sequence number or MTU, its ICMP checksum as right as it was. */
export function rewriteIcmpError(
  bytes: Uint8Array,
  error: IcmpError,
  change: { seq?: number; mtu?: number },
): Uint8Array {
  const out = bytes.slice();
  const icmp = error.mtuAt - (error.version === 4 ? 6 : 4);
  if (change.seq !== undefined) {
    replace16(out, icmp, error.quoted.seqAt, change.seq >>> 16);
    replace16(out, icmp, error.quoted.seqAt + 2, change.seq & 0xffff);
  }
  if (change.mtu !== undefined && error.mtu !== undefined) {
    if (error.version === 6) replace16(out, icmp, error.mtuAt, change.mtu >>> 16);
    const low = error.version === 6 ? error.mtuAt + 2 : error.mtuAt;
    replace16(out, icmp, low, error.version === 6 ? change.mtu & 0xffff : Math.min(change.mtu, 0xffff));
  }
  return out;
}

// RFC 1624, equation 3. Words lie at even distances from the ICMP header, since IP headers are multiples of 4 bytes.
function replace16(bytes: Uint8Array, icmp: number, at: number, value: number): void {
  let sum = (~read16(bytes, icmp + 2) & 0xffff) + (~read16(bytes, at) & 0xffff) + value;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  write16(bytes, icmp + 2, ~sum);
  write16(bytes, at, value);
}
