/**
 * One segment of an encrypted connection on its way out: encrypted, authenticated, options laid out.
 * wire.md sections 1 ("Option space") and 5.
 */
import { associatedData, macTagOffset } from '../wire/assoc.ts';
import { buildSegment, fixChecksums } from '../wire/build.ts';
import { write16 } from '../wire/bytes.ts';
import {
  AGGREGATE_MAC_BYTES,
  cryptOption,
  KIND_SACK,
  layoutCompact,
  MAC_TAG_BYTES,
  macOption,
  optionKind,
  sackOption,
  timestampsOption,
} from '../wire/options.ts';
import { ACK, type Packet, TCP_HEADER_BYTES } from '../wire/packet.ts';
import { encodeSuboptions, REKEY, type Suboption } from '../wire/suboptions.ts';
import type { Connection } from './connection.ts';
import { ackToWire, seqAt } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';

const NO_TAG = new Uint8Array(MAC_TAG_BYTES);
/** An IP packet may be so long: what a verdict carries, and with it what the peer's queue takes whole. */
export const MAX_PACKET_BYTES = 65_531;

/** A segment in offsets on the wire. `sack` edges are sequence numbers on the wire. */
export interface OutgoingSegment {
  readonly template: Packet;
  readonly offset: number;
  /** Acknowledgement offset; undefined without ACK flag. */
  readonly ackOffset: number | undefined;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  /** Options of the kernel's other than SACK, NOP and ours. */
  readonly items: readonly Uint8Array[];
  readonly sack: readonly (readonly [number, number])[];
  /** Plaintext. */
  readonly payload: Uint8Array;
  readonly suboptions: readonly Suboption[];
}

/** Whether one MAC covers the segment as a super-segment: in an aggregate suite every one with data. */
const isAggregate = (c: Connection, s: OutgoingSegment): boolean =>
  c.secured!.aggregate && s.payload.length > 0;

/** The MAC option's body before its tag is known (wire.md section 6). */
function untagged(c: Connection, s: OutgoingSegment): Uint8Array {
  if (!isAggregate(c, s)) return NO_TAG;
  const body = new Uint8Array(AGGREGATE_MAC_BYTES);
  write16(body, MAC_TAG_BYTES, s.offset);
  write16(body, MAC_TAG_BYTES + 2, s.payload.length);
  return body;
}

/** Lays the options out: what does not fit gives way, SACK blocks beyond the first before anything else. */
function layout(rw: Rewriter, c: Connection, s: OutgoingSegment, label: number | undefined): Uint8Array {
  const suboptions = label === undefined ? s.suboptions : [{ opcode: REKEY, data: Uint8Array.of(label) }];
  const fixed = [...s.items, macOption(untagged(c, s), rw.encodings)];
  if (suboptions.length) fixed.push(cryptOption(encodeSuboptions(suboptions), rw.encodings));
  for (let blocks = s.sack.length; blocks > 0; blocks--) {
    const options = layoutCompact([...fixed, sackOption(s.sack.slice(0, blocks))]);
    if (options) return options;
  }
  const options = layoutCompact(fixed);
  if (options) return options;
  // Only an odd option of the kernel's can bring us here; timestamps alone always fit.
  const known = s.items.filter((item) => optionKind(item) === 8);
  return (
    layoutCompact([...known, ...fixed.slice(s.items.length)]) ?? layoutCompact(fixed.slice(s.items.length))!
  );
}

/** Seals one segment that lies within one generation. */
function sealOne(rw: Rewriter, c: Connection, s: OutgoingSegment): Packet {
  const { generations } = c.secured!;
  const generation = s.payload.length ? generations.at(s.offset).generation : generations.current;
  const label = generations.needsLabel(generation) ? generation.number & 0xff : undefined;
  const packet = buildSegment(s.template, {
    seq: seqAt(c.isnLocal, s.offset),
    ack: s.ackOffset === undefined ? 0 : seqAt(c.isnRemote, s.ackOffset),
    flags: s.flags,
    window: s.window,
    urgent: s.urgent,
    options: layout(rw, c, s, label),
    payload: s.payload,
  });
  const whole = { length: packet.bytes.length - packet.tcp, flags: s.flags };
  const data = packet.bytes.subarray(packet.payload);
  generation.tx.crypt(s.offset, data);
  const superSegment = isAggregate(c, s) ? whole : undefined;
  const assoc = associatedData(packet, s.offset, c.isnRemote, rw.encodings, superSegment);
  packet.bytes.set(generation.tx.tag(data, assoc, s.ackOffset ?? 0), macTagOffset(packet, rw.encodings)!);
  fixChecksums(packet);
  return packet;
}

/** Whether a segment says which generation it is of. */
function isLabelled(c: Connection, s: OutgoingSegment): boolean {
  const { generations } = c.secured!;
  const generation = s.payload.length ? generations.at(s.offset).generation : generations.current;
  return generations.needsLabel(generation);
}

/** Options that `seal` would write, but for the values of label and tag. */
function optionsOf(rw: Rewriter, c: Connection, s: OutgoingSegment): Uint8Array {
  return layout(rw, c, s, isLabelled(c, s) ? 0 : undefined);
}

/**
 * A segment without data that says what SACK a segment with data has no room for, to go ahead of it; beside REKEY it
 * waits (wire.md section 1). Call it before the data count as sent.
 */
export function sealSackAhead(rw: Rewriter, c: Connection, s: OutgoingSegment): Packet | undefined {
  if (!isAggregate(c, s) || s.sack.length === 0 || isLabelled(c, s)) return undefined;
  const without = optionsOf(rw, c, { ...s, sack: [] });
  if (optionsOf(rw, c, s).length > without.length) return undefined;
  return sealOne(rw, c, {
    ...s,
    offset: c.txNext,
    flags: ACK,
    urgent: 0,
    payload: s.payload.subarray(0, 0),
  });
}

/** TCP header and data that a segment may have on the wire, and where the kernel's GSO cuts it, a super-segment. */
function mostBytes(c: Connection, s: OutgoingSegment): number {
  return isAggregate(c, s) ? MAX_PACKET_BYTES - s.template.tcp : c.maxSegmentBytes;
}

/**
 * Seals a segment, as several where it spans generations or is larger than the path takes; the last carries
 * FIN and PSH. At least one results. In an aggregate suite each is a super-segment that the path may have to have cut.
 */
export function seal(rw: Rewriter, c: Connection, segment: OutgoingSegment): Packet[] {
  const packets: Packet[] = [];
  let rest = segment;
  for (;;) {
    const toBoundary = c.secured!.generations.at(rest.offset).end - rest.offset;
    const room = Math.max(64, mostBytes(c, rest) - TCP_HEADER_BYTES - optionsOf(rw, c, rest).length);
    const length = Math.min(rest.payload.length, toBoundary, room);
    if (length >= rest.payload.length) {
      packets.push(sealOne(rw, c, rest));
      return packets;
    }
    const head = rest.payload.subarray(0, length);
    packets.push(sealOne(rw, c, { ...rest, payload: head, flags: rest.flags & ~(1 | 8) }));
    const urgent = Math.max(0, rest.urgent - length);
    rest = {
      ...rest,
      offset: rest.offset + length,
      payload: rest.payload.subarray(length),
      urgent,
      flags: urgent || !rest.urgent ? rest.flags : rest.flags & ~32,
    };
  }
}

/** A segment without data of the rewriter's own (wire.md section 4, "Encrypting"). */
export function sealOwn(rw: Rewriter, c: Connection, suboptions: readonly Suboption[], flags = ACK): Packet {
  const items = c.tsVal === undefined ? [] : [timestampsOption(c.tsVal, c.tsEcho)];
  return sealOne(rw, c, {
    template: c.template!,
    offset: c.txNext,
    ackOffset: flags & ACK ? ackToWire(c.kernelAck, c.rxDelta) : undefined,
    flags,
    window: c.window,
    urgent: 0,
    items,
    sack: [],
    payload: new Uint8Array(0),
    suboptions,
  });
}

/** The kernel's items without SACK, and SACK's edges moved by `move`. */
export function splitSack(
  items: readonly Uint8Array[],
  sack: readonly (readonly [number, number])[],
  move: (edge: number) => number,
): { items: readonly Uint8Array[]; sack: [number, number][] } {
  return {
    items: items.filter((item) => optionKind(item) !== KIND_SACK),
    sack: sack.map(([left, right]) => [move(left), move(right)]),
  };
}
