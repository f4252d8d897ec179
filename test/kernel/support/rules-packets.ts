/** Packets made by hand, for the tests of the packet-filter rules. IPv4 only: the rules are alike. */
import { checksum, completeChecksums } from '../../../sidecar/nfqueue-bindings/index.ts';

export interface SegmentFields {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly flags: number;
  /** A multiple of four bytes. */
  readonly options?: readonly number[];
}

function ipv4(protocol: number, source: string, destination: string, payload: Uint8Array): Buffer {
  const header = Buffer.from([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
  const addresses = [source, destination].flatMap((address) => address.split('.').map(Number));
  const packet = Buffer.concat([header, Buffer.from(addresses), payload]);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt16BE(~checksum(packet, 0, 20) & 0xffff, 10);
  return packet;
}

export function tcpSegment(fields: SegmentFields): Buffer {
  const options = fields.options ?? [];
  const header = Buffer.alloc(20 + options.length);
  header.writeUInt16BE(fields.sourcePort, 0);
  header.writeUInt16BE(fields.destinationPort, 2);
  header[12] = (header.length / 4) << 4;
  header[13] = fields.flags;
  header.set(options, 20);
  const packet = ipv4(6, fields.source, fields.destination, header);
  completeChecksums(packet);
  return packet;
}

/** An ICMP error that quotes the first bytes of a packet. */
export function icmpError(
  source: string,
  destination: string,
  type: number,
  code: number,
  quoted: Uint8Array,
): Buffer {
  const body = Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0, 0]), quoted.subarray(0, 40)]);
  body.writeUInt16BE(~checksum(body, 0, body.length) & 0xffff, 2);
  return ipv4(1, source, destination, body);
}
