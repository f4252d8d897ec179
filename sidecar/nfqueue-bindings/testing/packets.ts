/** TCP packets for the tests, and a checksum that is plainly right. */

import { isIPv6 } from 'node:net';

/** RFC 1071 as it is written: words added one by one with end-around carry. */
export function referenceSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** The 4 or 16 bytes of an address; IPv6 with one `::`. */
export function addressBytes(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = address.split('::');
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const bytes = Buffer.alloc(16);
  groups(head).forEach((group, i) => {
    bytes.writeUInt16BE(group, 2 * i);
  });
  groups(tail).forEach((group, i, all) => {
    bytes.writeUInt16BE(group, 16 - 2 * (all.length - i));
  });
  return bytes;
}

export interface TcpFields {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq?: number;
  readonly ack?: number;
  /** The flags byte: SYN 2, PSH 8, ACK 16. */
  readonly flags: number;
  readonly payload?: Uint8Array;
}

/** A TCP packet of either family with its checksums left 0. */
export function tcpPacket(fields: TcpFields): Buffer {
  const payload = fields.payload ?? new Uint8Array(0);
  const tcp = Buffer.alloc(20 + payload.length);
  tcp.writeUInt16BE(fields.sourcePort, 0);
  tcp.writeUInt16BE(fields.destinationPort, 2);
  tcp.writeUInt32BE(fields.seq ?? 0, 4);
  tcp.writeUInt32BE(fields.ack ?? 0, 8);
  tcp[12] = 5 << 4;
  tcp[13] = fields.flags;
  tcp.writeUInt16BE(65535, 14);
  tcp.set(payload, 20);
  const addresses = Buffer.concat([addressBytes(fields.source), addressBytes(fields.destination)]);
  const header = Buffer.alloc(addresses.length === 8 ? 12 : 8);
  if (addresses.length === 8) {
    header[0] = 0x45;
    header.writeUInt16BE(20 + tcp.length, 2);
    header[8] = 64;
    header[9] = 6;
  } else {
    header[0] = 0x60;
    header.writeUInt16BE(tcp.length, 4);
    header[6] = 6;
    header[7] = 64;
  }
  return Buffer.concat([header, addresses, tcp]);
}

/** Where a packet's TCP header begins; no IPv6 extension headers. */
export const tcpOffset = (packet: Uint8Array): number => (packet[0]! >> 4 === 6 ? 40 : (packet[0]! & 15) * 4);

/** The application bytes of a TCP packet. */
export function tcpPayload(packet: Uint8Array): Uint8Array {
  const at = tcpOffset(packet);
  return packet.subarray(at + (packet[at + 12]! >> 4) * 4);
}
