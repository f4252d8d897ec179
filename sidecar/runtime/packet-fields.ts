/**
 * The few fields of a packet, bytes[start, end), that the loop itself looks at. Hostile bytes give 0, false or '', never
 * an error.
 */

const TCP = 6;
const IPV4_MIN_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const TCP_MIN_BYTES = 20;

/** Where the TCP header begins; -1 if this is not plainly IP with TCP in it. */
function tcpStart(bytes: Uint8Array, start: number, end: number): number {
  const version = (bytes[start] ?? 0) >> 4;
  if (version === 4 && end - start >= IPV4_MIN_BYTES && bytes[start + 9] === TCP)
    return start + (bytes[start]! & 15) * 4;
  if (version === 6 && end - start >= IPV6_HEADER_BYTES && bytes[start + 6] === TCP)
    return start + IPV6_HEADER_BYTES;
  return -1;
}

/** Bytes of TCP data in the packet. */
export function payloadBytes(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const tcp = tcpStart(bytes, start, end);
  if (tcp < 0 || end < tcp + TCP_MIN_BYTES) return 0;
  return Math.max(0, end - tcp - (bytes[tcp + 12]! >> 4) * 4);
}

/** IPv6 with a link-local source or destination: to answer one takes its interface. */
export function isLinkLocal(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  if (end - start < IPV6_HEADER_BYTES || bytes[start]! >> 4 !== 6) return false;
  return isLinkLocalAddress(bytes, start + 8) || isLinkLocalAddress(bytes, start + 24);
}

const isLinkLocalAddress = (bytes: Uint8Array, at: number): boolean =>
  bytes[at] === 0xfe && (bytes[at + 1]! & 0xc0) === 0x80;

/** The peer's address of such a packet, as a key. */
export function linkLocalPeer(packet: Uint8Array, direction: 'in' | 'out'): string {
  const at = direction === 'in' ? 8 : 24;
  return Buffer.from(packet.subarray(at, at + 16)).toString('latin1');
}
