/**
 * The ordinary packet of an encrypted connection, rewritten where it lies: a segment or super-segment with data, a
 * bare ACK or a FIN, with timestamps or no option at all, in the one key generation there is. Nothing is allocated.
 *
 * Invariant: what it does is what `encrypting.ts` does with the same packet (fast-path.test.ts compares them); anything
 * out of the ordinary, or wrong, is left to that path, and nothing has changed then.
 */
import { type SegmentInPlace, UNCHECKED } from '../crypto/asm.ts';
import type { Generations } from '../protocol/generations.ts';
import { read16, read32, write16, write32, write64 } from '../wire/bytes.ts';
import { onesComplementSum } from '../wire/checksum.ts';
import { completeAt, pseudoHeaderSumAt } from '../wire/in-place.ts';
import {
  AGGREGATE_MAC_BYTES,
  EXID_MAC,
  KIND_EXPERIMENT_1,
  KIND_NOP,
  KIND_TIMESTAMPS,
  MAC_TAG_BYTES,
} from '../wire/options.ts';
import {
  ACK,
  CWR,
  FIN,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_TCP,
  RST,
  SYN,
  TCP_HEADER_BYTES,
  URG,
} from '../wire/packet.ts';
import { type Connection, comeWhole } from './connection.ts';
import { CHECKPOINT_BYTES, MAX_GENERATION_BYTES, maxWireBytes } from './encrypting.ts';
import { emptyPlace, placeFlow } from './flows.ts';
import { ackToKernel, ackToWire, extend, seqAt, toKernel, toWire } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';
import { MAX_PACKET_BYTES } from './seal.ts';
import type { ConnectionMark, Direction, Offload } from './types.ts';

/** How far a packet's headers move at the most: free bytes that must lie before one on its way out. */
export const HEADROOM_BYTES = 24;

const TIMESTAMPS_BYTES = 12;
/** NOP, NOP, timestamps: as Linux writes them. */
const TIMESTAMPS_HEAD = 0x0101080a;
const ASSOC_FIXED_BYTES = 20;

/** Options on the wire, as `seal.ts` lays them out: timestamps or none, MAC in the experimental encoding, NOPs. */
interface Shape {
  readonly optionBytes: number;
  readonly timestamps: boolean;
  /** Kind, length and ExID of the MAC option, where it begins in the options, and where its tag does. */
  readonly macHead: number;
  readonly macAt: number;
  readonly tagAt: number;
  /** Assoc-Data; all of it but the first 20 bytes is the same for each packet. */
  readonly assoc: Uint8Array;
}

function shapeOf(timestamps: boolean, macBodyBytes: number): Shape {
  const before = timestamps ? [KIND_TIMESTAMPS, 10, 0, 0, 0, 0, 0, 0, 0, 0] : [];
  const head = [KIND_EXPERIMENT_1, 4 + macBodyBytes, EXID_MAC >> 8, EXID_MAC & 0xff];
  const options = [...before, ...head, ...new Array<number>(macBodyBytes).fill(0)];
  while (options.length % 4 !== 0) options.push(KIND_NOP);
  const assoc = new Uint8Array(ASSOC_FIXED_BYTES + options.length);
  assoc[0] = 0x80;
  assoc.set(options, ASSOC_FIXED_BYTES);
  return {
    optionBytes: options.length,
    timestamps,
    macHead: read32(Uint8Array.from(head), 0),
    macAt: before.length,
    tagAt: before.length + head.length,
    assoc,
  };
}

/** By whether there are timestamps, and whether the MAC is an aggregate's. */
const segmentShapes = [shapeOf(false, MAC_TAG_BYTES), shapeOf(true, MAC_TAG_BYTES)] as const;
const aggregateShapes = [shapeOf(false, AGGREGATE_MAC_BYTES), shapeOf(true, AGGREGATE_MAC_BYTES)] as const;

export class FastPath {
  private readonly rw: Rewriter;
  private readonly flow = emptyPlace();
  private readonly segment: SegmentInPlace = {
    bytes: new Uint8Array(0),
    tagAt: 0,
    dataAt: 0,
    end: 0,
    assoc: new Uint8Array(0),
    assocBytes: 0,
    offset: 0,
    ackOffset: 0,
  };

  constructor(rw: Rewriter) {
    this.rw = rw;
  }

  /**
   * Rewrites the packet ring[start, end) and returns where it begins now; it still ends at `end`. -1: it is not for
   * this path, and is as it was. A packet on its way out needs HEADROOM_BYTES before it, which are overwritten.
   */
  rewrite(
    direction: Direction,
    ring: Uint8Array,
    start: number,
    end: number,
    mark: ConnectionMark,
    offload: Offload,
  ): number {
    // The legacy encoding has other lengths.
    if (this.rw.encodings.write !== 'experimental') return -1;
    const tcp = tcpAt(ring, start, end);
    if (tcp < 0) return -1;
    if ((ring[tcp + 13] & (SYN | RST | URG | ACK)) !== ACK) return -1;
    const dataAt = tcp + (ring[tcp + 12] >>> 4) * 4;
    if (dataAt < tcp + TCP_HEADER_BYTES || dataAt > end) return -1;
    const out = direction === 'out';
    placeFlow(this.flow, start, tcp, out);
    const c = this.rw.flows.find(ring, this.flow);
    if (c === undefined || c.phase !== 'encrypting') return -1;
    const { generations, aggregate } = c.secured!;
    // What came over the other queue than its connection asks for puts that right.
    if (mark !== (comeWhole(c) ? 'superSegment' : 'tcpcrypt')) return -1;
    const isAggregate = aggregate && dataAt < end;
    if (isAggregate && ring[tcp + 13] & CWR) return -1;
    // One generation, and both ends know it: there is nothing to note about generations, and `settled` is true.
    if (generations.labelling || generations.live.length !== 1) return -1;
    const shapes = isAggregate ? aggregateShapes : segmentShapes;
    return out
      ? this.send(c, generations, shapes, ring, start, tcp, dataAt, end, offload)
      : this.receive(c, generations, shapes, ring, start, tcp, dataAt, end, offload);
  }

  private send(
    c: Connection,
    generations: Generations,
    shapes: readonly [Shape, Shape],
    ring: Uint8Array,
    start: number,
    tcp: number,
    dataAt: number,
    end: number,
    offload: Offload,
  ): number {
    const options = dataAt - tcp - TCP_HEADER_BYTES;
    const timestamps = options === TIMESTAMPS_BYTES && read32(ring, dataAt - options) === TIMESTAMPS_HEAD;
    if ((options !== 0 && !timestamps) || start < HEADROOM_BYTES) return -1;
    const shape = shapes[timestamps ? 1 : 0];
    const added = shape.optionBytes - options;
    const isAggregate = shapes === aggregateShapes;
    const length = end - dataAt;
    if (offload.superSegment && !isAggregate) return -1;
    const most = isAggregate ? mostAggregateBytes(c, tcp - start, offload) : c.maxSegmentBytes;
    if (end - tcp + added > most) return -1;
    if (c.path !== undefined && end - start + added > c.path.toldBytes) return -1;

    const generation = generations.current;
    const txDelta = c.txDelta;
    const offset = toWire(extend(read32(ring, tcp + 4), c.isnLocal, c.txNext - txDelta), txDelta);
    const kernelAck = read32(ring, tcp + 8);
    const ack = extend(kernelAck, c.isnRemote, c.rxNext - c.rxDelta);
    if (offset < txDelta || ack < 0) return -1;
    const next = offset + length + (ring[tcp + 13] & FIN);
    if (length > 0) {
      // What is acknowledged already, or the first byte of a new key. All else is of the one key there is.
      if (offset < c.txAcked) return -1;
      // Repeated: super-segments shrink.
      if (isAggregate && offset < c.txNext) return -1;
      if (offset >= c.txNext && this.rekeyIsDue(c, offset - generation.txStart!)) return -1;
    }
    if (next > c.txNext && next + c.rxNext - c.checkpointedAt >= CHECKPOINT_BYTES) return -1;

    c.window = read16(ring, tcp + 14);
    c.kernelAcked = true;
    c.kernelAck = Math.max(c.kernelAck, extend(kernelAck, c.isnRemote, c.kernelAck));
    if (next > c.txNext) {
      c.bytesOut += Math.max(0, offset + length - c.txNext);
      c.txNext = next;
    }

    const value = timestamps ? read32(ring, dataAt - 8) : 0;
    const echo = timestamps ? read32(ring, dataAt - 4) : 0;
    if (timestamps) c.tsVal = value;
    const movedStart = start - added;
    const movedTcp = tcp - added;
    ring.copyWithin(movedStart, start, tcp + TCP_HEADER_BYTES);
    const ackOffset = ackToWire(ack, c.rxDelta);
    const at = movedTcp + TCP_HEADER_BYTES;
    if (timestamps) {
      ring[at] = KIND_TIMESTAMPS;
      ring[at + 1] = 10;
      write32(ring, at + 2, value);
      write32(ring, at + 6, echo);
      ring[dataAt - 2] = KIND_NOP;
      ring[dataAt - 1] = KIND_NOP;
    }
    write32(ring, at + shape.macAt, shape.macHead);
    if (isAggregate) {
      write16(ring, at + shape.tagAt + MAC_TAG_BYTES, offset);
      write16(ring, at + shape.tagAt + MAC_TAG_BYTES + 2, length);
    }
    write16(ring, movedTcp + 18, 0); // no urgent pointer
    writeNumbers(ring, movedTcp, dataAt, seqAt(c.isnLocal, offset), seqAt(c.isnRemote, ackOffset));
    this.describe(shape, ring, movedTcp, dataAt, end, offset, ackOffset);
    // The kernel makes a super-segment's checksum itself when it leaves, whatever there is.
    const sum = generation.tx.seal(this.segment, !offload.superSegment);
    completeAt(ring, movedStart, movedTcp, dataAt, end, sum);
    return movedStart;
  }

  /** As `sendEncrypted` decides it; `since`: bytes under the present key. */
  private rekeyIsDue(c: Connection, since: number): boolean {
    const { rekey } = this.rw.policy;
    return (
      since >= Math.min(rekey.afterBytes, MAX_GENERATION_BYTES) ||
      this.rw.now - c.generationSince >= rekey.afterMs
    );
  }

  private receive(
    c: Connection,
    generations: Generations,
    shapes: readonly [Shape, Shape],
    ring: Uint8Array,
    start: number,
    tcp: number,
    dataAt: number,
    end: number,
    offload: Offload,
  ): number {
    const at = tcp + TCP_HEADER_BYTES;
    const shape = shapes[dataAt - at === shapes[1].optionBytes ? 1 : 0];
    const generation = generations.forReceived(undefined);
    if (!hasShape(shape, ring, at, dataAt) || generation === undefined || !c.verified) return -1;
    const length = end - dataAt;
    const offset = extend(read32(ring, tcp + 4), c.isnRemote, c.rxNext);
    const ackOffset = extend(read32(ring, tcp + 8), c.isnLocal, c.txNext);
    if (offset < c.rxDelta || ackOffset < 0) return -1;
    // A part of a super-segment, or a path that is clean again.
    if (shapes === aggregateShapes && !coversExactly(shape, ring, at, offset, length)) return -1;
    if (c.superSegmentSize?.isWholeAgainBy(ackOffset)) return -1;
    const next = offset + length + (ring[tcp + 13] & FIN);
    if (c.txNext + Math.max(next, c.rxNext) - c.checkpointedAt >= CHECKPOINT_BYTES) return -1;

    const isIpv4 = tcp - start === IPV4_HEADER_BYTES;
    const { checksumLater } = offload;
    if (!checksumLater && isIpv4 && onesComplementSum(ring, start, tcp) !== 0xffff) return -1;
    this.describe(shape, ring, tcp, dataAt, end, offset, ackOffset);
    const rest = checksumLater
      ? UNCHECKED
      : onesComplementSum(ring, tcp, dataAt, pseudoHeaderSumAt(ring, start, tcp, end));
    const sum = generation.rx.open(this.segment, rest);
    if (sum < 0) return -1;

    if (ackOffset <= c.txNext && ackOffset > c.txAcked) {
      c.txAcked = ackOffset;
      c.superSegmentSize?.acknowledged(ackOffset);
    }
    if (next > c.rxNext) {
      c.bytesIn += Math.max(0, offset + length - c.rxNext);
      c.rxNext = next;
    }

    const value = shape.timestamps ? read32(ring, at + 2) : 0;
    const echo = shape.timestamps ? read32(ring, at + 6) : 0;
    if (shape.timestamps) c.tsEcho = value;
    const removed = shape.optionBytes - (shape.timestamps ? TIMESTAMPS_BYTES : 0);
    const movedStart = start + removed;
    const movedTcp = tcp + removed;
    ring.copyWithin(movedStart, start, at);
    if (shape.timestamps) {
      write32(ring, dataAt - 12, TIMESTAMPS_HEAD);
      write32(ring, dataAt - 8, value);
      write32(ring, dataAt - 4, echo);
    }
    const seq = seqAt(c.isnRemote, toKernel(offset, c.rxDelta));
    writeNumbers(ring, movedTcp, dataAt, seq, seqAt(c.isnLocal, ackToKernel(ackOffset, c.txDelta)));
    completeAt(ring, movedStart, movedTcp, dataAt, end, sum);
    return movedStart;
  }

  /** Fills `segment` for a packet whose header is as it is on the wire. */
  private describe(
    shape: Shape,
    ring: Uint8Array,
    tcp: number,
    dataAt: number,
    end: number,
    offset: number,
    ackOffset: number,
  ): void {
    // Assoc-Data, wire.md section 5, "MAC".
    const { assoc } = shape;
    write16(assoc, 2, end - tcp);
    for (let i = 0; i < 4; i++) assoc[4 + i] = ring[tcp + 12 + i];
    assoc[10] = ring[tcp + 18];
    assoc[11] = ring[tcp + 19];
    write64(assoc, 12, offset);
    const s = this.segment;
    s.bytes = ring;
    s.tagAt = tcp + TCP_HEADER_BYTES + shape.tagAt;
    s.dataAt = dataAt;
    s.end = end;
    s.assoc = assoc;
    s.assocBytes = assoc.length;
    s.offset = offset;
    s.ackOffset = ackOffset;
  }
}

/** Where the TCP header begins, in a packet without IP options or extension headers that is whole; else -1. */
function tcpAt(ring: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (ring[start] === 0x45) {
    const whole = length >= IPV4_HEADER_BYTES + TCP_HEADER_BYTES && read16(ring, start + 2) === length;
    const isTcp = ring[start + 9] === PROTOCOL_TCP && (read16(ring, start + 6) & 0x3fff) === 0;
    return whole && isTcp ? start + IPV4_HEADER_BYTES : -1;
  }
  if (ring[start] >>> 4 !== 6 || length < IPV6_HEADER_BYTES + TCP_HEADER_BYTES) return -1;
  const whole = read16(ring, start + 4) === length - IPV6_HEADER_BYTES;
  return whole && ring[start + 6] === PROTOCOL_TCP ? start + IPV6_HEADER_BYTES : -1;
}

/** Whether the options of a packet from the peer are laid out as our own are. */
function hasShape(shape: Shape, ring: Uint8Array, at: number, dataAt: number): boolean {
  if (dataAt - at !== shape.optionBytes || read32(ring, at + shape.macAt) !== shape.macHead) return false;
  if (!shape.timestamps) return true;
  return ring[at] === KIND_TIMESTAMPS && ring[at + 1] === 10 && read16(ring, dataAt - 2) === 0x0101;
}

/** Whether an aggregate MAC covers these bytes of the stream. */
function coversExactly(shape: Shape, ring: Uint8Array, at: number, offset: number, length: number): boolean {
  const covered = at + shape.tagAt + MAC_TAG_BYTES;
  return read16(ring, covered) === (offset & 0xffff) && read16(ring, covered + 2) === length;
}

/** TCP header and data of a packet with an aggregate MAC that need not be cut here. */
function mostAggregateBytes(c: Connection, ipHeaderBytes: number, { superSegment }: Offload): number {
  const most = MAX_PACKET_BYTES - ipHeaderBytes;
  return superSegment ? most : Math.min(most, maxWireBytes(c));
}

function writeNumbers(ring: Uint8Array, tcp: number, dataAt: number, seq: number, ack: number): void {
  write32(ring, tcp + 4, seq);
  write32(ring, tcp + 8, ack);
  ring[tcp + 12] = ((dataAt - tcp) << 2) | (ring[tcp + 12] & 0x0f);
}
