/**
 * ENCRYPTING: segments of a bound connection, both ways. wire.md section 4, "Encrypting", and section 5.
 * Invariant: nothing leaves without MAC but a SYN-ACK, and nothing reaches the kernel that did not verify
 * but a SYN, and an RST where policy lets it.
 */
import { equalTags } from '../crypto/asm.ts';
import { SuperSegmentSize } from '../protocol/super-segment-size.ts';
import { associatedData } from '../wire/assoc.ts';
import { buildSegment, segmentsOf } from '../wire/build.ts';
import {
  AGGREGATE_MAC_BYTES,
  layoutLinux,
  MAC_TAG_BYTES,
  parseOptions,
  sackOption,
  type TcpOptions,
} from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  payloadLength,
  payloadOf,
  RST,
  SYN,
  seqNumber,
  TCP_HEADER_BYTES,
  URG,
  urgentOf,
  windowOf,
} from '../wire/packet.ts';
import {
  parseSuboptions,
  REKEY,
  type Suboption,
  SYNC_OK,
  SYNC_REQ,
  UNKNOWN,
  uint32,
} from '../wire/suboptions.ts';
import { collect } from './collect.ts';
import type { Connection } from './connection.ts';
import { noteVerified } from './lifecycle.ts';
import { ackToKernel, ackToWire, extend, seqAt, toKernel, toWire } from './offsets.ts';
import { receiveSyn as receiveNewSyn } from './passive-syn.ts';
import type { Rewriter } from './rewriter.ts';
import { type OutgoingSegment, seal, sealOwn, sealSackAhead, splitSack } from './seal.ts';

/** Most bytes under one generation, whatever policy says (wire.md section 5). */
export const MAX_GENERATION_BYTES = 2 ** 36;
/** How far a stream may run ahead of its checkpoint: the low 32 bits must stay unambiguous. */
export const CHECKPOINT_BYTES = 2 ** 30;

/** A segment of our kernel's: what later segments of the rewriter's own repeat (wire.md section 4). */
export function noteKernelSegment(c: Connection, p: Packet, options: TcpOptions): void {
  c.window = windowOf(p);
  if (options.timestamps) c.tsVal = options.timestamps.val;
  if (!(flagsOf(p) & ACK)) return;
  c.kernelAcked = true;
  c.kernelAck = Math.max(c.kernelAck, extend(ackNumber(p), c.isnRemote, c.kernelAck));
}

/** `superSegment`: the kernel will cut `p` into segments, or what it is given back in its place. */
export function sendEncrypted(
  rw: Rewriter,
  c: Connection,
  p: Packet,
  token: number,
  superSegment: boolean,
): void {
  const options = parseOptions(optionBytes(p), rw.encodings);
  if (options === 'malformed') return rw.drop(token, 'kernel_options');
  noteKernelSegment(c, p, options);
  const { generations } = c.secured!;
  const flags = flagsOf(p);
  let payload = payloadOf(p);
  let urgent = flags & URG ? urgentOf(p) : 0;
  let offset = toWire(extend(seqNumber(p), c.isnLocal, c.txNext - c.txDelta), c.txDelta);
  const ack = flags & ACK ? extend(ackNumber(p), c.isnRemote, c.rxNext - c.rxDelta) : undefined;
  // A kernel answers a stray segment in that one's numbers: not a part of this stream.
  if (offset < c.txDelta || (ack ?? 0) < 0) return rw.drop(token, 'before_stream');

  // What the peer has acknowledged leaves no more: a garbage byte there would show keystream.
  const acked = c.txAcked - offset;
  if (acked > 0 && payload.length > 0) {
    const cut = Math.min(acked, payload.length);
    payload = payload.subarray(cut);
    offset += cut;
    urgent = Math.max(0, urgent - cut);
    if (payload.length === 0 && !(flags & FIN)) offset = c.txAcked - 1;
  }

  const { rekey } = rw.policy;
  if (payload.length > 0 && offset >= c.txNext && generations.settled) {
    const since = offset - (generations.current.txStart ?? 0);
    const due = rw.now - c.generationSince >= rekey.afterMs;
    if (since >= Math.min(rekey.afterBytes, MAX_GENERATION_BYTES) || due) {
      generations.initiate(offset);
      c.generationSince = rw.now;
      rw.observer.rekeyed('out');
      rw.checkpoint(c);
    }
  }

  const moved = splitSack(options.items, options.sack, (edge) => {
    const kernel = extend(edge, c.isnRemote, c.rxNext - c.rxDelta);
    return seqAt(c.isnRemote, toWire(kernel, c.rxDelta));
  });
  const segment: OutgoingSegment = {
    template: p,
    offset,
    ackOffset: ack === undefined ? undefined : ackToWire(ack, c.rxDelta),
    flags: urgent || !(flags & URG) ? flags : flags & ~URG,
    window: windowOf(p),
    urgent,
    items: moved.items,
    sack: moved.sack,
    payload,
    suboptions: [],
  };
  rw.toNetwork(sealSackAhead(rw, c, segment));
  if (payload.length > 0 && offset < c.txNext) {
    c.superSegmentSize ??= new SuperSegmentSize();
    c.superSegmentSize.retransmitted(c.txNext);
  }
  const end = offset + payload.length + (flags & FIN ? 1 : 0);
  if (end > c.txNext) {
    c.bytesOut += Math.max(0, offset + payload.length - c.txNext);
    c.txNext = end;
    keepUp(rw, c);
  }
  const { aggregate } = c.secured!;
  const sealed = seal(rw, c, segment);
  const unchanged = sealed.length === 1 && payload.length === payloadLength(p);
  if (c.path && rw.now >= c.path.untilMs) c.path = undefined;
  if (superSegment && unchanged && aggregate && !c.cutsHere && !c.path) return rw.pass(token, sealed[0]);

  // A MAC of one segment would not survive the cut; `seal` has seen to their size.
  const segments = aggregate ? sealed.flatMap((each) => segmentsOf(each, maxWireBytes(c))) : sealed;
  // Of a super-segment the kernel would not take less than it was, and nothing that is larger than it believes to fit.
  const tooLarge = segments.at(-1)!.bytes.length > (c.path?.toldBytes ?? Number.POSITIVE_INFINITY);
  const last = superSegment || tooLarge ? undefined : segments.pop();
  for (const each of segments) rw.toNetwork(each);
  if (last) rw.pass(token, last);
  else rw.goesOnElsewhere(token);
}

/** TCP header and data that one segment may have on the wire, as far as is known. */
export function maxWireBytes(c: Connection): number {
  const most = Math.min(c.maxSegmentBytes, TCP_HEADER_BYTES + c.mssRemote);
  return c.path ? Math.min(most, c.path.takesBytes - (c.template!.version === 4 ? 20 : 40)) : most;
}

/** Checkpoints before the low 32 bits of an offset could be read two ways. */
function keepUp(rw: Rewriter, c: Connection): void {
  if (c.txNext + c.rxNext - c.checkpointedAt >= CHECKPOINT_BYTES) rw.checkpoint(c);
}

interface Verified {
  readonly offset: number;
  readonly ackOffset: number;
  readonly options: TcpOptions;
  readonly suboptions: readonly Suboption[];
  readonly unknownMandatory: readonly number[];
  readonly payload: Uint8Array;
}

/**
 * Verifies and decrypts (in place) a segment from the peer and takes note of it. Undefined: it does not
 * verify, and nothing changed.
 */
export function open(rw: Rewriter, c: Connection, p: Packet): Verified | undefined {
  const options = parseOptions(optionBytes(p), rw.encodings);
  if (options === 'malformed' || options.macs !== 1) return undefined;
  // In an aggregate suite the form of the option says whether there are data; which, `collect` has seen to.
  const aggregate = c.secured!.aggregate && payloadLength(p) > 0;
  if (options.mac?.length !== (aggregate ? AGGREGATE_MAC_BYTES : MAC_TAG_BYTES)) return undefined;
  const crypt = parseSuboptions(options.crypt);
  if (crypt === 'malformed') return undefined;
  const flags = flagsOf(p);
  const offset = extend(seqNumber(p), c.isnRemote, c.rxNext);
  if (offset < c.rxDelta) return undefined;
  const ackOffset = flags & ACK ? extend(ackNumber(p), c.isnLocal, c.txNext) : 0;
  if (ackOffset < 0) return undefined;
  const { generations } = c.secured!;
  const label = crypt.list.find((each) => each.opcode === REKEY)?.data[0];
  const generation = generations.forReceived(label);
  const payload = payloadOf(p);
  const received = toWire(c.kernelAck, c.rxDelta);
  if (!generation) {
    // Of a generation that is over: the peer repeats it because our acknowledgement was lost.
    if (offset + payload.length <= received && c.hasTemplate) rw.toNetwork(sealOwn(rw, c, []));
    return undefined;
  }
  // SACK edges of the peer's refer to our stream.
  const superSegment = aggregate ? { length: p.bytes.length - p.tcp, flags } : undefined;
  const assoc = associatedData(p, offset, c.isnLocal, rw.encodings, superSegment);
  const tag = options.mac.subarray(0, MAC_TAG_BYTES);
  if (!equalTags(generation.rx.tag(payload, assoc, ackOffset), tag)) {
    rw.observer.macFailure();
    return undefined;
  }
  generation.rx.crypt(offset, payload);

  const txNumber = generations.txNumber;
  if (options.timestamps) c.tsEcho = options.timestamps.val;
  if (ackOffset <= c.txNext && ackOffset > c.txAcked) {
    c.txAcked = ackOffset;
    c.superSegmentSize?.acknowledged(ackOffset);
  }
  const changed = generations.verified(generation, {
    labelled: label !== undefined,
    from: payload.length || offset >= c.rxNext ? offset : undefined,
    ackOffset: c.txAcked,
    nextOffset: c.txNext,
    received,
  });
  if (generations.txNumber !== txNumber) {
    c.generationSince = rw.now;
    rw.observer.rekeyed('in');
  }
  const end = offset + payload.length + (flags & FIN ? 1 : 0);
  if (end > c.rxNext) {
    c.bytesIn += Math.max(0, offset + payload.length - c.rxNext);
    c.rxNext = end;
  }
  if (changed) rw.checkpoint(c);
  else keepUp(rw, c);
  return {
    offset,
    ackOffset,
    options,
    suboptions: crypt.list,
    unknownMandatory: crypt.unknownMandatory,
    payload,
  };
}

/** Hands a verified segment to the kernel and answers what it asks of the rewriter. */
export function deliver(rw: Rewriter, c: Connection, p: Packet, v: Verified, token: number): void {
  const moved = splitSack(v.options.items, v.options.sack, (edge) => {
    const wire = extend(edge, c.isnLocal, c.txNext);
    return seqAt(c.isnLocal, ackToKernel(wire, c.txDelta));
  });
  const items = moved.sack.length ? [...moved.items, sackOption(moved.sack)] : moved.items;
  const packet = buildSegment(p, {
    seq: seqAt(c.isnRemote, toKernel(v.offset, c.rxDelta)),
    ack: flagsOf(p) & ACK ? seqAt(c.isnLocal, ackToKernel(v.ackOffset, c.txDelta)) : 0,
    flags: flagsOf(p),
    window: windowOf(p),
    urgent: urgentOf(p),
    options: layoutLinux(items) ?? new Uint8Array(0),
    payload: v.payload,
  });
  rw.pass(token, packet);

  const replies: Suboption[] = [];
  const request = v.suboptions.find((each) => each.opcode === SYNC_REQ);
  if (request) {
    const clock = uint32(request.data);
    if (clock !== c.lastSyncClock) replies.push({ opcode: SYNC_OK, data: request.data });
    c.lastSyncClock = clock;
  }
  if (v.unknownMandatory.length) {
    replies.push({ opcode: UNKNOWN, data: Uint8Array.from(v.unknownMandatory.slice(0, 4)) });
  }
  if (replies.length && c.hasTemplate && !c.secured!.generations.labelling) {
    for (const reply of replies) rw.toNetwork(sealOwn(rw, c, [reply]));
  }
}

export function receiveEncrypted(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const flags = flagsOf(p);
  if (flags & SYN) return receiveSyn(rw, c, p, token);
  const options = parseOptions(optionBytes(p), rw.encodings);
  const macs = options === 'malformed' ? 0 : options.macs;
  if (macs === 0 && flags & RST && !rw.policy.rstCheck) return passReset(rw, c, p, token);
  if (macs === 0 && isLateInit2(c, p, options)) {
    rw.toNetwork(sealOwn(rw, c, []));
    return rw.drop(token, 'repeated_init');
  }
  const whole = collect(rw, c, p, token);
  if (!whole) return;
  const verified = open(rw, c, whole);
  if (!verified) return rw.drop(token, macs === 0 ? 'no_mac' : 'mac');
  noteVerified(rw, c);
  deliver(rw, c, whole, verified, token);
}

/** S asks again because our answer to its INIT2 was lost; it is answered in whatever state. */
function isLateInit2(c: Connection, p: Packet, options: TcpOptions | 'malformed'): boolean {
  if (!c.active || options === 'malformed' || !options.crypt.length || !c.hasTemplate) return false;
  return extend(seqNumber(p), c.isnRemote, 1) === 1 && c.isInit2(payloadOf(p));
}

/** An RST without MAC is the kernel's to judge, by RFC 5961, in the kernel's numbers. */
function passReset(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const flags = flagsOf(p);
  const offset = toKernel(extend(seqNumber(p), c.isnRemote, c.rxNext), c.rxDelta);
  const ack = extend(ackNumber(p), c.isnLocal, c.txNext);
  const packet = buildSegment(p, {
    seq: seqAt(c.isnRemote, offset),
    ack: flags & ACK ? seqAt(c.isnLocal, ackToKernel(ack, c.txDelta)) : ackNumber(p),
    flags,
    window: windowOf(p),
    urgent: 0,
    options: new Uint8Array(0),
    payload: new Uint8Array(0),
  });
  rw.pass(token, packet);
}

/**
 * A repeated SYN-ACK says that S has not heard from us: it is answered. Any other SYN proves nothing; it goes
 * to the kernel untranslated, whose challenge ACK leaves under the present keys.
 */
function receiveSyn(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const repeated = flagsOf(p) & ACK && c.active && seqNumber(p) === c.isnRemote;
  if (repeated && c.kernelAcked && c.hasTemplate && rw.isMarked) {
    rw.toNetwork(sealOwn(rw, c, []));
    return rw.drop(token, 'repeated_syn_ack');
  }
  if (repeated) return rw.pass(token, rw.withoutOurOptions(p, rw.clampMss(p, c.mssRemote, c.mssLocal)));
  if (!(flagsOf(p) & ACK)) return receiveNewSyn(rw, c, p, token);
  rw.pass(token);
}
