/**
 * One segment of an encrypted connection on its way out: encrypted, authenticated, options laid out.
 * wire.md sections 1 ("Option space") and 5.
 */
import { associatedData, macTagOffset } from '../wire/assoc.ts';
import { buildSegment, fixChecksums } from '../wire/build.ts';
import {
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

/** Lays the options out: what does not fit gives way, SACK blocks beyond the first before anything else. */
function layout(rw: Rewriter, s: OutgoingSegment, label: number | undefined): Uint8Array {
  const suboptions = label === undefined ? s.suboptions : [{ opcode: REKEY, data: Uint8Array.of(label) }];
  const fixed = [...s.items, macOption(NO_TAG, rw.encodings)];
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
    options: layout(rw, s, label),
    payload: s.payload,
  });
  const data = packet.bytes.subarray(packet.payload);
  generation.tx.crypt(s.offset, data);
  const assoc = associatedData(packet, s.offset, c.isnRemote, rw.encodings);
  packet.bytes.set(generation.tx.tag(data, assoc, s.ackOffset ?? 0), macTagOffset(packet, rw.encodings)!);
  fixChecksums(packet);
  return packet;
}

/** Option bytes that `seal` would use at the most, for the size of a segment's data. */
function optionBytesOf(rw: Rewriter, c: Connection, s: OutgoingSegment): number {
  const { generations } = c.secured!;
  const generation = s.payload.length ? generations.at(s.offset).generation : generations.current;
  return layout(rw, s, generations.needsLabel(generation) ? 0 : undefined).length;
}

/**
 * Seals a segment, as several where it spans generations or is larger than the path takes; the last carries
 * FIN and PSH. At least one results.
 */
export function seal(rw: Rewriter, c: Connection, segment: OutgoingSegment): Packet[] {
  const packets: Packet[] = [];
  let rest = segment;
  for (;;) {
    const toBoundary = c.secured!.generations.at(rest.offset).end - rest.offset;
    const room = Math.max(64, c.maxSegmentBytes - TCP_HEADER_BYTES - optionBytesOf(rw, c, rest));
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
