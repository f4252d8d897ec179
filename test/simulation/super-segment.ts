/**
 * What a host's offloads do to its packets: GSO (and TSO, which the wire cannot tell from it) cuts a super-segment
 * behind the packet filter, GRO joins segments before it. As Linux: net/ipv4/tcp_offload.c. Written apart from
 * `sidecar/wire` on purpose.
 */

import { ACK, CWR, decode, encode, FIN, PSH, RST, type Segment, SYN, URG } from './segment.ts';

/** A packet and, where it is a super-segment, how much data each of its segments has (gso_size). */
export interface HostPacket {
  readonly bytes: Uint8Array;
  readonly gsoBytes: number | undefined;
}

/** The longest packet that GRO builds, where `gro_max_size` is what netfilter/sysctls.ts makes it. */
const MAX_GRO_BYTES = 65_531;

/** The segments that a packet goes over the wire as. */
export function cut({ bytes, gsoBytes }: HostPacket): Uint8Array[] {
  const segment = gsoBytes === undefined ? undefined : decode(bytes);
  if (segment === undefined || typeof segment === 'string') return [bytes];
  const { payload, flags } = segment;
  const parts: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += gsoBytes!) {
    const last = at + gsoBytes! >= payload.length;
    let own = flags;
    if (!last) own &= ~(FIN | PSH);
    if (at > 0) own &= ~CWR;
    const seq = (segment.seq + at) >>> 0;
    parts.push(encode({ ...segment, seq, flags: own, payload: payload.subarray(at, at + gsoBytes!) }));
  }
  return parts;
}

/** Joins segments that come in one after the other, those of a flow that differ in nothing but place. */
export class Gro {
  private readonly waiting = new Map<string, { whole: Segment; gsoBytes: number; parts: Uint8Array[] }>();
  private readonly deliver: (packet: HostPacket) => void;

  constructor(deliver: (packet: HostPacket) => void) {
    this.deliver = deliver;
  }

  /** Takes a packet whose checksum is right. True: it waits for `flush`. */
  take(bytes: Uint8Array, segment: Segment): boolean {
    const flow = `${segment.src} ${segment.sport} ${segment.dport}`;
    const before = this.waiting.get(flow);
    if (before !== undefined) {
      if (joins(before.whole, before.gsoBytes, segment, before.parts)) {
        before.whole = join(before.whole, segment);
        before.parts.push(bytes);
        if (segment.payload.length < before.gsoBytes || segment.flags & (PSH | FIN)) this.flushFlow(flow);
        return true;
      }
      this.flushFlow(flow);
    }
    if (segment.payload.length === 0 || segment.flags & (SYN | RST | FIN | URG | PSH)) return false;
    this.waiting.set(flow, { whole: segment, gsoBytes: segment.payload.length, parts: [bytes] });
    return true;
  }

  flush(): void {
    for (const flow of [...this.waiting.keys()]) this.flushFlow(flow);
  }

  private flushFlow(flow: string): void {
    const { whole, gsoBytes, parts } = this.waiting.get(flow)!;
    this.waiting.delete(flow);
    const [first] = parts;
    this.deliver(
      parts.length === 1 ? { bytes: first!, gsoBytes: undefined } : { bytes: encode(whole), gsoBytes },
    );
  }
}

function joins(whole: Segment, gsoBytes: number, next: Segment, parts: readonly unknown[]): boolean {
  const { length } = next.payload;
  return (
    next.seq === (whole.seq + whole.payload.length) >>> 0 &&
    length > 0 &&
    length <= gsoBytes &&
    whole.payload.length === gsoBytes * parts.length &&
    next.ack === whole.ack &&
    next.window === whole.window &&
    (next.flags & ~(FIN | PSH)) === (whole.flags & ~(FIN | PSH)) &&
    (next.flags & (ACK | CWR | URG)) === ACK &&
    Buffer.from(next.options).equals(whole.options) &&
    whole.payload.length + length + 100 <= MAX_GRO_BYTES
  );
}

function join(whole: Segment, next: Segment): Segment {
  const payload = new Uint8Array(whole.payload.length + next.payload.length);
  payload.set(whole.payload);
  payload.set(next.payload, whole.payload.length);
  return { ...whole, payload, flags: whole.flags | next.flags };
}
