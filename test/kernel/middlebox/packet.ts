/**
 * TCP packets as a middlebox sees them. Written apart from `sidecar/wire` on purpose: a fault in the
 * product's codec must not be repeated by the program that tests it. IPv6 without extension headers.
 */
import { Buffer } from 'node:buffer';

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

/** TCP option kinds that a middlebox of 2005 knows: end, NOP, MSS, window scale, SACK (2), timestamps. */
export const KNOWN_KINDS: ReadonlySet<number> = new Set([0, 1, 2, 3, 4, 5, 8]);
const NOP = 1;

export interface TcpOption {
  kind: number;
  body: Buffer;
}

export interface TcpPacket {
  /** The IP header as it came; lengths and checksums are written anew by `build`. */
  ip: Buffer;
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  urgent: number;
  options: TcpOption[];
  data: Buffer;
}

export const add = (seq: number, bytes: number): number => (seq + bytes) >>> 0;
/** How far `a` lies behind `b` in sequence space, negative if it lies before. */
export const distance = (a: number, b: number): number => (a - b) | 0;
export const isSyn = (packet: TcpPacket): boolean => (packet.flags & SYN) !== 0;
export const clone = (packet: TcpPacket, changes: Partial<TcpPacket> = {}): TcpPacket => ({
  ...packet,
  ip: Buffer.from(packet.ip),
  options: packet.options.map((option) => ({ ...option })),
  ...changes,
});

/** Reads an IP datagram; undefined if it is not a whole TCP packet. */
export function parse(bytes: Uint8Array): TcpPacket | undefined {
  const packet = Buffer.from(bytes);
  if (packet.length < 40) return undefined;
  const version = packet[0] >> 4;
  const ipLength = version === 4 ? (packet[0] & 15) * 4 : 40;
  const total = version === 4 ? packet.readUInt16BE(2) : 40 + packet.readUInt16BE(4);
  if ((version === 4 ? packet[9] : packet[6]) !== 6 || total > packet.length) return undefined;
  const tcp = packet.subarray(ipLength, total);
  const headerLength = (tcp[12] >> 4) * 4;
  if (tcp.length < 20 || headerLength < 20 || headerLength > tcp.length) return undefined;
  const [source, destination] =
    version === 4
      ? [packet.subarray(12, 16), packet.subarray(16, 20)]
      : [packet.subarray(8, 24), packet.subarray(24, 40)];
  return {
    ip: packet.subarray(0, ipLength),
    source: source.toString('hex'),
    destination: destination.toString('hex'),
    sourcePort: tcp.readUInt16BE(0),
    destinationPort: tcp.readUInt16BE(2),
    seq: tcp.readUInt32BE(4),
    ack: tcp.readUInt32BE(8),
    flags: tcp[13],
    window: tcp.readUInt16BE(14),
    urgent: tcp.readUInt16BE(18),
    options: parseOptions(tcp.subarray(20, headerLength)),
    data: tcp.subarray(headerLength),
  };
}

function parseOptions(bytes: Buffer): TcpOption[] {
  const options: TcpOption[] = [];
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    const length = bytes[at] === NOP ? 1 : bytes[at + 1];
    if (bytes[at] !== NOP && !(length >= 2 && at + length <= bytes.length)) break;
    options.push({ kind: bytes[at], body: bytes.subarray(at + 2, at + length) });
    at += length;
  }
  return options;
}

function buildOptions(options: TcpOption[]): Buffer {
  const parts = options.map(({ kind, body }) =>
    kind === NOP ? Buffer.from([NOP]) : Buffer.concat([Buffer.from([kind, body.length + 2]), body]),
  );
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** NOPs in the place of an option, as routers that "clear" options write them. */
export const cleared = (option: TcpOption): TcpOption[] =>
  Array.from({ length: option.body.length + 2 }, () => ({ kind: NOP, body: Buffer.alloc(0) }));

/** The datagram of a packet, with its lengths and checksums. */
export function build(packet: TcpPacket): Buffer {
  const options = buildOptions(packet.options);
  const tcp = Buffer.concat([Buffer.alloc(20), options, packet.data]);
  tcp.writeUInt16BE(packet.sourcePort, 0);
  tcp.writeUInt16BE(packet.destinationPort, 2);
  tcp.writeUInt32BE(packet.seq, 4);
  tcp.writeUInt32BE(packet.ack, 8);
  tcp[12] = ((20 + options.length) / 4) << 4;
  tcp[13] = packet.flags;
  tcp.writeUInt16BE(packet.window, 14);
  tcp.writeUInt16BE(packet.urgent, 18);
  const ip = Buffer.from(packet.ip);
  const source = Buffer.from(packet.source, 'hex');
  const destination = Buffer.from(packet.destination, 'hex');
  if (source.length === 4) {
    source.copy(ip, 12);
    destination.copy(ip, 16);
    ip.writeUInt16BE(ip.length + tcp.length, 2);
    ip.writeUInt16BE(0, 10);
    ip.writeUInt16BE(checksum([ip]), 10);
  } else {
    source.copy(ip, 8);
    destination.copy(ip, 24);
    ip.writeUInt16BE(tcp.length, 4);
  }
  const pseudo = Buffer.from([0, 6, tcp.length >> 8, tcp.length & 255]);
  tcp.writeUInt16BE(checksum([source, destination, pseudo, tcp]), 16);
  return Buffer.concat([ip, tcp]);
}

/** The Internet checksum over parts of which all but the last have even length. */
export function checksum(parts: Buffer[]): number {
  let sum = 0;
  for (const part of parts) {
    const even = part.length & ~1;
    for (let at = 0; at < even; at += 2) sum += (part[at] << 8) | part[at + 1];
    if (part.length & 1) sum += part[even] << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}
