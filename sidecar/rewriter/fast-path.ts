/**
 * The ordinary packet of an encrypted connection, rewritten where it lies: data or a bare ACK, with timestamps or no
 * option at all, in the one key generation there is. Nothing is allocated.
 *
 * Invariant: what it does is what `encrypting.ts` does with the same packet (fast-path.test.ts compares them); anything
 * out of the ordinary, or wrong, is left to that path, and nothing has changed then.
 */
import type { SegmentInPlace } from '../crypto/asm.ts';
import type { Generations } from '../protocol/generations.ts';
import { read16, read32, write16, write32, write64 } from '../wire/bytes.ts';
import { onesComplementSum } from '../wire/checksum.ts';
import { completeAt, pseudoHeaderSumAt } from '../wire/in-place.ts';
import { EXID_MAC, KIND_EXPERIMENT_1, KIND_NOP, KIND_TIMESTAMPS, MAC_TAG_BYTES } from '../wire/options.ts';
import {
  ACK,
  FIN,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_TCP,
  RST,
  SYN,
  TCP_HEADER_BYTES,
  URG,
} from '../wire/packet.ts';
import type { Connection } from './connection.ts';
import { CHECKPOINT_BYTES, MAX_GENERATION_BYTES } from './encrypting.ts';
import { type FlowPlace, Flows, placeFlow } from './flows.ts';
import { ackToKernel, ackToWire, extend, seqAt, toKernel, toWire } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';
import type { Direction } from './types.ts';

/** A MAC option in the experimental encoding; with timestamps its alignment takes the place of theirs. */
const MAC_OPTION_BYTES = 20;
/** How far a packet's headers move: free bytes that must lie before a packet on its way out. */
export const HEADROOM_BYTES = MAC_OPTION_BYTES;

const TIMESTAMPS_BYTES = 12;
/** NOP, NOP, timestamps: as Linux writes them. */
const TIMESTAMPS_HEAD = 0x0101080a;
const MAC_HEAD = (KIND_EXPERIMENT_1 << 24) | (MAC_OPTION_BYTES << 16) | EXID_MAC;
const ASSOC_FIXED_BYTES = 20;

/** Options on the wire, as `seal.ts` lays them out: timestamps or none, MAC, NOPs. */
interface Shape {
  readonly optionBytes: number;
  readonly timestamps: boolean;
  /** Where the MAC option begins in the options, and the tag. */
  readonly macAt: number;
  readonly tagAt: number;
  /** Assoc-Data; all of it but the first 20 bytes is the same for each packet. */
  readonly assoc: Uint8Array;
}

const withTimestamps = shapeOf([KIND_TIMESTAMPS, 10, 0, 0, 0, 0, 0, 0, 0, 0], [KIND_NOP, KIND_NOP]);
const withoutTimestamps = shapeOf([], []);

function shapeOf(before: readonly number[], after: readonly number[]): Shape {
  const mac = [KIND_EXPERIMENT_1, MAC_OPTION_BYTES, EXID_MAC >> 8, EXID_MAC & 0xff];
  const tag = new Array<number>(MAC_TAG_BYTES).fill(0);
  const options = [...before, ...mac, ...tag, ...after];
  const assoc = new Uint8Array(ASSOC_FIXED_BYTES + options.length);
  assoc[0] = 0x80;
  assoc.set(options, ASSOC_FIXED_BYTES);
  return {
    optionBytes: options.length,
    timestamps: before.length > 0,
    macAt: before.length,
    tagAt: before.length + mac.length,
    assoc,
  };
}

export class FastPath {
  private readonly rw: Rewriter;
  private readonly flows: Flows;
  private readonly flow: FlowPlace = {
    localAt: 0,
    remoteAt: 0,
    addressBytes: 0,
    localPortAt: 0,
    remotePortAt: 0,
  };
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
    this.flows = new Flows(rw.table);
  }

  /**
   * Rewrites the packet ring[start, end) and returns where it begins now; it still ends at `end`. -1: it is not for
   * this path, and is as it was. A packet on its way out needs HEADROOM_BYTES before it, which are overwritten.
   */
  rewrite(direction: Direction, ring: Uint8Array, start: number, end: number): number {
    // The legacy encoding has other lengths.
    if (this.rw.encodings.write !== 'experimental') return -1;
    const tcp = tcpAt(ring, start, end);
    if (tcp < 0) return -1;
    if ((ring[tcp + 13] & (SYN | FIN | RST | URG | ACK)) !== ACK) return -1;
    const dataAt = tcp + (ring[tcp + 12] >>> 4) * 4;
    if (dataAt < tcp + TCP_HEADER_BYTES || dataAt > end) return -1;
    const out = direction === 'out';
    placeFlow(this.flow, start, tcp, out);
    const c = this.flows.find(ring, this.flow);
    if (c === undefined || c.phase !== 'encrypting' || c.secured!.aggregate) return -1;
    const { generations } = c.secured!;
    // One generation, and both ends know it: there is nothing to note about generations, and `settled` is true.
    if (generations.labelling || generations.live.length !== 1) return -1;
    return out
      ? this.send(c, generations, ring, start, tcp, dataAt, end)
      : this.receive(c, generations, ring, start, tcp, dataAt, end);
  }

  private send(
    c: Connection,
    generations: Generations,
    ring: Uint8Array,
    start: number,
    tcp: number,
    dataAt: number,
    end: number,
  ): number {
    const options = dataAt - tcp - TCP_HEADER_BYTES;
    const timestamps = options === TIMESTAMPS_BYTES && read32(ring, dataAt - options) === TIMESTAMPS_HEAD;
    if ((options !== 0 && !timestamps) || start < HEADROOM_BYTES) return -1;
    const shape = timestamps ? withTimestamps : withoutTimestamps;
    const length = end - dataAt;
    if (tcp - HEADROOM_BYTES + c.maxSegmentBytes < end) return -1;

    const generation = generations.current;
    const txDelta = c.txDelta;
    const offset = toWire(extend(read32(ring, tcp + 4), c.isnLocal, c.txNext - txDelta), txDelta);
    const kernelAck = read32(ring, tcp + 8);
    const ack = extend(kernelAck, c.isnRemote, c.rxNext - c.rxDelta);
    if (offset < txDelta || ack < 0) return -1;
    const next = offset + length;
    if (length > 0) {
      // What is acknowledged already, or the first byte of a new key. All else is of the one key there is.
      if (offset < c.txAcked) return -1;
      if (offset >= c.txNext && this.rekeyIsDue(c, offset - generation.txStart!)) return -1;
    }
    if (next > c.txNext && next + c.rxNext - c.checkpointedAt >= CHECKPOINT_BYTES) return -1;

    c.window = read16(ring, tcp + 14);
    c.kernelAcked = true;
    c.kernelAck = Math.max(c.kernelAck, extend(kernelAck, c.isnRemote, c.kernelAck));
    if (next > c.txNext) {
      c.bytesOut += next - c.txNext;
      c.txNext = next;
    }

    const value = timestamps ? read32(ring, dataAt - 8) : 0;
    const echo = timestamps ? read32(ring, dataAt - 4) : 0;
    if (timestamps) c.tsVal = value;
    const movedStart = start - HEADROOM_BYTES;
    const movedTcp = tcp - HEADROOM_BYTES;
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
    write32(ring, at + shape.macAt, MAC_HEAD);
    write16(ring, movedTcp + 18, 0); // no urgent pointer
    writeNumbers(ring, movedTcp, dataAt, seqAt(c.isnLocal, offset), seqAt(c.isnRemote, ackOffset));
    this.describe(shape, ring, movedTcp, dataAt, end, offset, ackOffset);
    completeAt(ring, movedStart, movedTcp, dataAt, end, generation.tx.seal(this.segment));
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
    ring: Uint8Array,
    start: number,
    tcp: number,
    dataAt: number,
    end: number,
  ): number {
    const at = tcp + TCP_HEADER_BYTES;
    const shape = wireShape(ring, at, dataAt);
    const generation = generations.forReceived(undefined);
    if (shape === undefined || generation === undefined || !c.verified) return -1;
    const length = end - dataAt;
    const offset = extend(read32(ring, tcp + 4), c.isnRemote, c.rxNext);
    const ackOffset = extend(read32(ring, tcp + 8), c.isnLocal, c.txNext);
    if (offset < c.rxDelta || ackOffset < 0) return -1;
    const next = offset + length;
    if (c.txNext + Math.max(next, c.rxNext) - c.checkpointedAt >= CHECKPOINT_BYTES) return -1;

    const isIpv4 = tcp - start === IPV4_HEADER_BYTES;
    if (isIpv4 && onesComplementSum(ring, start, tcp) !== 0xffff) return -1;
    this.describe(shape, ring, tcp, dataAt, end, offset, ackOffset);
    const rest = onesComplementSum(ring, tcp, dataAt, pseudoHeaderSumAt(ring, start, tcp, end));
    const sum = generation.rx.open(this.segment, rest);
    if (sum < 0) return -1;

    if (ackOffset <= c.txNext && ackOffset > c.txAcked) c.txAcked = ackOffset;
    if (next > c.rxNext) {
      c.bytesIn += next - c.rxNext;
      c.rxNext = next;
    }

    const value = shape.timestamps ? read32(ring, at + 2) : 0;
    const echo = shape.timestamps ? read32(ring, at + 6) : 0;
    if (shape.timestamps) c.tsEcho = value;
    const movedStart = start + MAC_OPTION_BYTES;
    const movedTcp = tcp + MAC_OPTION_BYTES;
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

/** What the options of a packet from the peer look like, if it is one of ours. */
function wireShape(ring: Uint8Array, at: number, dataAt: number): Shape | undefined {
  const shape = dataAt - at === withTimestamps.optionBytes ? withTimestamps : withoutTimestamps;
  if (dataAt - at !== shape.optionBytes || (read32(ring, at + shape.macAt) | 0) !== MAC_HEAD)
    return undefined;
  if (!shape.timestamps) return shape;
  const isShape = ring[at] === KIND_TIMESTAMPS && ring[at + 1] === 10 && read16(ring, dataAt - 2) === 0x0101;
  return isShape ? shape : undefined;
}

function writeNumbers(ring: Uint8Array, tcp: number, dataAt: number, seq: number, ack: number): void {
  write32(ring, tcp + 4, seq);
  write32(ring, tcp + 8, ack);
  ring[tcp + 12] = ((dataAt - tcp) << 2) | (ring[tcp + 12] & 0x0f);
}
