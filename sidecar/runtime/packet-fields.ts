/** The few fields of a packet that the loop itself looks at. Hostile bytes give 0, false or '', never an error. */

const TCP = 6;
const IPV4_MIN_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const TCP_MIN_BYTES = 20;

const version = (packet: Uint8Array): number => (packet[0] ?? 0) >> 4;

/** Where the TCP header begins; 0 if this is not plainly IP with TCP in it. */
function tcpStart(packet: Uint8Array): number {
  if (version(packet) === 4 && packet.length >= IPV4_MIN_BYTES && packet[9] === TCP)
    return (packet[0]! & 15) * 4;
  if (version(packet) === 6 && packet.length >= IPV6_HEADER_BYTES && packet[6] === TCP)
    return IPV6_HEADER_BYTES;
  return 0;
}

/** Bytes of TCP data in the packet. */
export function payloadBytes(packet: Uint8Array | undefined): number {
  const start = packet === undefined ? 0 : tcpStart(packet);
  if (packet === undefined || start === 0 || packet.length < start + TCP_MIN_BYTES) return 0;
  return Math.max(0, packet.length - start - (packet[start + 12]! >> 4) * 4);
}

/** IPv6 with a link-local source or destination: to answer one takes its interface. */
export function isLinkLocal(packet: Uint8Array): boolean {
  if (version(packet) !== 6 || packet.length < IPV6_HEADER_BYTES) return false;
  return [8, 24].some((at) => packet[at] === 0xfe && (packet[at + 1]! & 0xc0) === 0x80);
}

/** The peer's address of such a packet, as a key. */
export function linkLocalPeer(packet: Uint8Array, direction: 'in' | 'out'): string {
  const at = direction === 'in' ? 8 : 24;
  return Buffer.from(packet.subarray(at, at + 16)).toString('latin1');
}
