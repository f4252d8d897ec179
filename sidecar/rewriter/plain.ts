/**
 * DISABLED: the return to plain, and what is watched after it. wire.md section 4, "Falling back".
 *
 * Invariants: an end that comes here has put no ciphertext on the wire (rule 1); no byte of an INIT message
 * reaches the kernel (rule 2), known by its position for as long as the stream has not passed the longest.
 */
import { buildReply, buildSegment, fieldsOf, type SegmentFields } from '../wire/build.ts';
import { beginsLikeInit, MAX_INIT_BYTES } from '../wire/init.ts';
import { cryptOption, layoutCompact } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  FIN,
  flagsOf,
  type Packet,
  payloadLength,
  payloadOf,
  RST,
  SYN,
  seqNumber,
} from '../wire/packet.ts';
import { INIT1 } from '../wire/suboptions.ts';
import type { Connection } from './connection.ts';
import { becomePlain, forgetSyn, refused, resetBoth, storeKey } from './lifecycle.ts';
import { extend, seqAt } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';
import { carriesInit, copyOf, goodbye, has, ownSegment, viewOf } from './setup.ts';
import type { Direction, FallbackReason } from './types.ts';

const NO_DATA = new Uint8Array(0);

/** Leaves setup for plain: what was withheld and held goes out. In Strict mode it is a refusal. */
export function fallBack(rw: Rewriter, c: Connection, reason: FallbackReason): void {
  if (c.decision.mode === 'Strict') return resetBoth(rw, c, reason);
  const withheld = c.kernelAcked;
  becomePlain(rw, c, reason);
  forgetSyn(rw, c);
  if (withheld && c.active) rw.toNetwork(withGoodbye(rw, c, ownSegment(c, rw, [])));
  rw.releaseHeld(c, 'plain');
}

/** Our next segment after DISABLED may say DECLINE, once. */
function withGoodbye(rw: Rewriter, c: Connection, p: Packet | undefined): Packet | undefined {
  const body = c.goodbye;
  c.goodbye = undefined;
  const { options } = p && body ? viewOf(rw, p) : {};
  const laid = options && layoutCompact([...options.items, cryptOption(body!, rw.encodings)]);
  return laid ? buildSegment(p!, { ...fieldsOf(p!), options: laid }) : p;
}

/** A segment of our kernel's on a plain connection that is still queued. */
export function sendPlain(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const flags = flagsOf(p);
  if (flags & ACK) {
    const ack = extend(ackNumber(p), c.isnRemote, c.kernelAck);
    if (ack > c.kernelAck) c.kernelAck = ack;
  }
  const said = c.goodbye && !(flags & SYN) ? withGoodbye(rw, c, p) : undefined;
  rw.pass(token, said, markWhenDone(rw, c));
}

/** Nothing is left to watch: the peer is plain, and no INIT can stand where its stream is now. */
function markWhenDone(rw: Rewriter, c: Connection): 'plain' | undefined {
  if (!c.finished && c.peerPlainSeen && !c.goodbye) {
    const nothingOfOurs = c.active && !c.initSent;
    c.finished = nothingOfOurs || c.kernelAck > 1 + MAX_INIT_BYTES;
    if (c.finished) {
      c.initSent = undefined;
      c.initSeen = undefined;
      rw.store?.delete(storeKey(c));
    }
  }
  return c.finished ? 'plain' : undefined;
}

/** Whether the data are an INIT's, known by position and bytes (rule 2). */
export function isInitData(c: Connection, p: Packet, offset: number): boolean {
  const data = payloadOf(p);
  if (data.length === 0 || offset < 1 || offset > MAX_INIT_BYTES) return false;
  if (offset === 1 && beginsLikeInit(data, c.active ? 2 : 1)) {
    c.initSeen ??= copyOf(data);
    return true;
  }
  return standsIn(c.initSeen, data, offset - 1) || standsIn(c.initSent, data, offset - 1);
}

function standsIn(init: Uint8Array | undefined, data: Uint8Array, at: number): boolean {
  if (!init || at >= init.length) return false;
  const length = Math.min(data.length, init.length - at);
  return Buffer.compare(init.subarray(at, at + length), data.subarray(0, length)) === 0;
}

/** A segment from the peer on a plain connection that is still watched. */
export function receivePlain(rw: Rewriter, c: Connection, p: Packet, token: number): void {
  const flags = flagsOf(p);
  const view = viewOf(rw, p);
  if (c.finished && carriesInit(view.crypt)) return rw.drop(token, 'init_after_fallback');
  if (c.finished || flags & RST) return rw.pass(token, rw.withoutOurOptions(p), markWhenDone(rw, c));
  if (flags & SYN) return rw.pass(token, rw.withoutOurOptions(p));
  if (view.hasMac) return rw.drop(token, 'mac_after_fallback');
  if (carriesInit(view.crypt)) {
    if (c.declined && has(view.crypt, INIT1)) rw.toNetwork(ownSegment(c, rw, goodbye([])));
    return rw.drop(token, 'init_after_fallback');
  }
  const offset = extend(seqNumber(p), c.isnRemote, c.kernelAck);
  if (isInitData(c, p, offset)) return rw.drop(token, 'stripped_init');
  // Nothing beyond a gap where an INIT may stand, which fits one segment: it may be the rest of one that was cut.
  const end = offset + payloadLength(p);
  const next = Math.max(c.plainNext, c.kernelAck);
  const mayBeInit = offset <= Math.min(MAX_INIT_BYTES, c.mssLocal) && (end > offset || flags & FIN);
  if (offset > next && mayBeInit) return rw.drop(token, 'beyond_gap');
  if (offset <= next) c.plainNext = Math.max(next, end);
  if (!view.crypt) c.peerPlainSeen = true;
  rw.pass(token, rw.withoutOurOptions(p), markWhenDone(rw, c));
}

/** Strict: the segment that would have made the connection plain is dropped, and both ends are reset. */
export function refuse(
  rw: Rewriter,
  c: Connection,
  p: Packet,
  token: number,
  direction: Direction,
  reason: FallbackReason,
): void {
  rw.drop(token, 'refused');
  const flags = flagsOf(p);
  const reset: SegmentFields = {
    seq: 0,
    ack: 0,
    flags: RST,
    window: 0,
    urgent: 0,
    options: NO_DATA,
    payload: NO_DATA,
  };
  const after = (seqNumber(p) + payloadLength(p) + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0)) >>> 0;
  // To the sender: an answer to its segment (RFC 9293 section 3.10.7.1). To the other: as if it came from it.
  const answer = flags & ACK ? { ...reset, seq: ackNumber(p) } : { ...reset, ack: after, flags: RST | ACK };
  const forward = { ...reset, seq: seqNumber(p), ack: ackNumber(p), flags: flags & ACK ? RST | ACK : RST };
  if (direction === 'out') {
    rw.toKernel(buildReply(p, answer));
    if (flags & ACK) rw.toNetwork(buildSegment(p, forward));
  } else {
    rw.toNetwork(buildReply(p, answer));
    if (flags & ACK) rw.toKernel(buildSegment(p, forward));
  }
  refused(rw, c, reason);
}

/** RST to both ends of a connection in setup or beyond, in numbers that each accepts. */
export function resets(c: Connection): { toNetwork: Packet; toKernel: Packet } | undefined {
  const { template } = c;
  if (!template) return undefined;
  const base: SegmentFields = {
    seq: 0,
    ack: 0,
    flags: RST | ACK,
    window: 0,
    urgent: 0,
    options: NO_DATA,
    payload: NO_DATA,
  };
  const toNetwork = buildSegment(template, {
    ...base,
    seq: seqAt(c.isnLocal, c.txNext),
    ack: seqAt(c.isnRemote, Math.max(c.rxNext, 1 + c.rxDelta)),
  });
  const toKernel = buildReply(template, {
    ...base,
    seq: seqAt(c.isnRemote, c.kernelAck),
    ack: seqAt(c.isnLocal, Math.max(1, c.txNext - c.txDelta)),
  });
  return { toNetwork, toKernel };
}
