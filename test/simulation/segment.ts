/**
 * TCP segments as the simulation's hosts and middleboxes see them: a value, its bytes as an IPv4 or IPv6
 * packet, and back. Written apart from `sidecar/wire` on purpose, so that the two check one another.
 */

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

export interface Segment {
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  readonly dport: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  /** The header's option bytes, padding included; a multiple of four. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
}

export interface TcpOption {
  readonly kind: number;
  /** Kind and length included. */
  readonly bytes: Uint8Array;
}

/** Whole options; NOP and end of list are left out. An option list that cannot be read ends there. */
export function listOptions(options: Uint8Array): TcpOption[] {
  const out: TcpOption[] = [];
  for (let i = 0; i < options.length; ) {
    const kind = options[i]!;
    if (kind === 0) break;
    if (kind === 1) {
      i++;
      continue;
    }
    const length = options[i + 1] ?? 0;
    if (length < 2 || i + length > options.length) break;
    out.push({ kind, bytes: options.subarray(i, i + length) });
    i += length;
  }
  return out;
}

/** Concatenates and pads with NOPs to a multiple of four. */
export function joinOptions(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array((length + 3) & ~3).fill(1);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function encode(segment: Segment): Uint8Array {
  const v6 = segment.src.includes(':');
  const ipLength = v6 ? 40 : 20;
  const tcpLength = 20 + segment.options.length + segment.payload.length;
  const bytes = new Uint8Array(ipLength + tcpLength);
  const view = new DataView(bytes.buffer);
  if (v6) {
    view.setUint32(0, 0x60000000);
    view.setUint16(4, tcpLength);
    bytes[6] = 6;
    bytes[7] = 64;
    bytes.set(addressBytes(segment.src), 8);
    bytes.set(addressBytes(segment.dst), 24);
  } else {
    view.setUint16(0, 0x4500);
    view.setUint16(2, ipLength + tcpLength);
    view.setUint16(6, 0x4000);
    bytes[8] = 64;
    bytes[9] = 6;
    bytes.set(addressBytes(segment.src), 12);
    bytes.set(addressBytes(segment.dst), 16);
    view.setUint16(10, ~sum(bytes, 0, 20, 0) & 0xffff);
  }
  const t = ipLength;
  view.setUint16(t, segment.sport);
  view.setUint16(t + 2, segment.dport);
  view.setUint32(t + 4, segment.seq);
  view.setUint32(t + 8, segment.ack);
  bytes[t + 12] = ((20 + segment.options.length) / 4) << 4;
  bytes[t + 13] = segment.flags;
  view.setUint16(t + 14, segment.window);
  view.setUint16(t + 18, segment.urgent);
  bytes.set(segment.options, t + 20);
  bytes.set(segment.payload, t + 20 + segment.options.length);
  completeChecksum(bytes);
  return bytes;
}

/** A segment, or why the bytes are none (a host would drop them). */
export function decode(bytes: Uint8Array): Segment | string {
  const version = bytes.length > 0 ? bytes[0]! >> 4 : 0;
  if (version !== 4 && version !== 6) return 'not IP';
  const v6 = version === 6;
  const t = v6 ? 40 : 20;
  if (bytes.length < t + 20) return 'short';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[v6 ? 6 : 9] !== 6) return 'not TCP';
  if ((v6 ? 40 + view.getUint16(4) : view.getUint16(2)) !== bytes.length) return 'IP length';
  if (!v6 && bytes[0] !== 0x45) return 'IP options';
  if (!v6 && sum(bytes, 0, 20, 0) !== 0xffff) return 'IP checksum';
  const header = (bytes[t + 12]! >> 4) * 4;
  if (header < 20 || t + header > bytes.length) return 'data offset';
  if (tcpSum(bytes, v6, t) !== 0xffff) return 'TCP checksum';
  return {
    src: addressText(bytes.subarray(v6 ? 8 : 12, v6 ? 24 : 16)),
    dst: addressText(bytes.subarray(v6 ? 24 : 16, v6 ? 40 : 20)),
    sport: view.getUint16(t),
    dport: view.getUint16(t + 2),
    seq: view.getUint32(t + 4),
    ack: view.getUint32(t + 8),
    flags: bytes[t + 13]!,
    window: view.getUint16(t + 14),
    urgent: view.getUint16(t + 18),
    options: bytes.slice(t + 20, t + header),
    payload: bytes.slice(t + header),
  };
}

/** Writes a packet's TCP checksum, whatever there is. */
export function completeChecksum(bytes: Uint8Array): void {
  const v6 = bytes[0]! >> 4 === 6;
  const t = v6 ? 40 : 20;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint16(t + 16, 0);
  view.setUint16(t + 16, ~tcpSum(bytes, v6, t) & 0xffff);
}

/** Sequence space that a segment takes. */
export function spaceOf(segment: Segment): number {
  return segment.payload.length + (segment.flags & SYN ? 1 : 0) + (segment.flags & FIN ? 1 : 0);
}

function tcpSum(bytes: Uint8Array, v6: boolean, t: number): number {
  const pseudo = 6 + (bytes.length - t);
  return sum(bytes, t, bytes.length, sum(bytes, v6 ? 8 : 12, v6 ? 40 : 20, pseudo));
}

/** The ones' complement sum of [from, to) and `start`. */
function sum(bytes: Uint8Array, from: number, to: number, start: number): number {
  let total = start;
  let i = from;
  for (; i + 1 < to; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if (i < to) total += bytes[i]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total;
}

const byText = new Map<string, Uint8Array>();

export function addressBytes(text: string): Uint8Array {
  let out = byText.get(text);
  if (out === undefined) {
    if (text.includes(':')) {
      const [head = '', tail = ''] = text.split('::');
      const left = head === '' ? [] : head.split(':');
      const right = tail === '' ? [] : tail.split(':');
      const middle = new Array<string>(8 - left.length - right.length).fill('0');
      const groups = [...left, ...middle, ...right].map((group) => Number.parseInt(group, 16));
      out = new Uint8Array(groups.flatMap((group) => [group >> 8, group & 255]));
    } else {
      out = new Uint8Array(text.split('.').map(Number));
    }
    byText.set(text, out);
  }
  return out;
}

/** As Linux prints it; the simulation uses addresses with one run of zero groups only. */
function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16));
  return groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}
