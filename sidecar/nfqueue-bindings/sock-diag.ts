/**
 * Reads what the kernel's sock_diag says of TCP sockets (linux/inet_diag.h, linux/tcp.h). Pure; lengths in
 * the messages are checked, what does not hold together is left out.
 */

import type { SocketInfo } from '../rewriter/types.ts';

const sockDiagByFamily = 20;
const netlinkHeaderBytes = 16;
const attributeHeaderBytes = 4;
const inetDiagInfo = 2;
const addressFamilies = { 4: 2, 6: 10 } as const;

/** struct inet_diag_msg. */
const message = {
  family: 0,
  state: 1,
  sport: 4,
  dport: 6,
  src: 8,
  dst: 24,
  interface: 40,
  wqueue: 60,
  bytes: 72,
} as const;
/** struct tcp_info. */
const tcpInfo = { bytesAcked: 120, bytesReceived: 128, notSentBytes: 144, bytes: 148 } as const;

const align4 = (length: number): number => (length + 3) & ~3;

/** RFC 5952: the longest run of zero groups, two at least and the first of equals, becomes `::`. */
function formatIpv6(view: DataView, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(at + 2 * i));
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (best.length === 1) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

function formatIpv4(view: DataView, at: number): string {
  return `${view.getUint8(at)}.${view.getUint8(at + 1)}.${view.getUint8(at + 2)}.${view.getUint8(at + 3)}`;
}

function isMapped(view: DataView, at: number): boolean {
  return view.getBigUint64(at) === 0n && view.getUint32(at + 8) === 0xffff;
}

/** `address:port`; a peer that IPv6 shows as ::ffff:a.b.c.d is an IPv4 one and shown as such. */
function formatEndpoint(view: DataView, family: 4 | 6, addressAt: number, portAt: number): string {
  const port = view.getUint16(portAt);
  if (family === 4) return `${formatIpv4(view, addressAt)}:${port}`;
  if (isMapped(view, addressAt)) return `${formatIpv4(view, addressAt + 12)}:${port}`;
  return `[${formatIpv6(view, addressAt)}]:${port}`;
}

/** The offset of tcp_info among the attributes in [at, end), if it is there and long enough. */
function findTcpInfo(view: DataView, at: number, end: number): number | undefined {
  while (end - at >= attributeHeaderBytes) {
    const length = view.getUint16(at, true);
    if (length < attributeHeaderBytes || length > end - at) return undefined;
    const isInfo = view.getUint16(at + 2, true) === inetDiagInfo;
    if (isInfo && length >= attributeHeaderBytes + tcpInfo.bytes) return at + attributeHeaderBytes;
    at += align4(length);
  }
  return undefined;
}

/** States in which tcp_info's counters belong to a connection: not LISTEN (10), SYN_* (2, 3, 12), TIME_WAIT (6). */
const hasCounters = (state: number): boolean => ![2, 3, 6, 10, 12].includes(state);

function parseSocket(view: DataView, at: number, end: number, family: 4 | 6): SocketInfo | undefined {
  if (end - at < message.bytes || view.getUint8(at + message.family) !== addressFamilies[family])
    return undefined;
  const state = view.getUint8(at + message.state);
  const socket: SocketInfo = {
    local: formatEndpoint(view, family, at + message.src, at + message.sport),
    remote: formatEndpoint(view, family, at + message.dst, at + message.dport),
    state,
    sendQueueBytes: view.getUint32(at + message.wqueue, true),
    ...(view.getUint32(at + message.interface, true) !== 0 && { boundToInterface: true }),
  };
  const info = hasCounters(state) ? findTcpInfo(view, at + message.bytes, end) : undefined;
  if (info === undefined) return socket;
  return {
    ...socket,
    bytesAcked: Number(view.getBigUint64(info + tcpInfo.bytesAcked, true)),
    bytesReceived: Number(view.getBigUint64(info + tcpInfo.bytesReceived, true)),
    notSentBytes: view.getUint32(info + tcpInfo.notSentBytes, true),
  };
}

/**
 * The sockets in a dump of `sockDiag`. Byte counters are tcp_info's as they are (measured): an active opener's
 * SYN adds 1 to bytesAcked, a passive one's SYN-ACK does not; a FIN adds 1 to bytesAcked of its sender and to
 * bytesReceived of its receiver. For a listener `sendQueueBytes` is the limit of its backlog.
 */
export function parseSockDiag(buffer: Uint8Array, family: 4 | 6): SocketInfo[] {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const sockets: SocketInfo[] = [];
  let at = 0;
  while (view.byteLength - at >= netlinkHeaderBytes) {
    const length = view.getUint32(at, true);
    if (length < netlinkHeaderBytes || length > view.byteLength - at) break;
    if (view.getUint16(at + 4, true) === sockDiagByFamily) {
      const socket = parseSocket(view, at + netlinkHeaderBytes, at + length, family);
      if (socket !== undefined) sockets.push(socket);
    }
    at += align4(length);
  }
  return sockets;
}
