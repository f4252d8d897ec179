/**
 * The connection table's entry: plain data, and what may be in it in which phase. There may be many thousands of them, so
 * it is small once it is encrypted: what set-up alone needs is gone then, what is the same for all is shared, and bytes
 * that are seldom looked at are a string of latin1 characters, for a Uint8Array takes 200 bytes beside its own.
 */
import type { Generations } from '../protocol/generations.ts';
import type { Initiation } from '../protocol/handshake.ts';
import type { PathMtu } from '../protocol/path-mtus.ts';
import type { Reassembly } from '../protocol/reassembly.ts';
import type { CachedSession } from '../protocol/session-cache.ts';
import type { SuperSegmentSize } from '../protocol/super-segment-size.ts';
import { type Packet, parsePacket } from '../wire/packet.ts';
import type { Decision, FallbackReason, Role } from './types.ts';

/**
 * - `syn_sent`: our SYN with CRYPT went out (the draft's HELLO-SENT and NEXTK-SENT)
 * - `c_mode`: the PKCONF came; INIT1 goes out as soon as the kernel has acknowledged
 * - `listen`: our SYN-ACK with PKCONF went out; the first segment decides (S-MODE)
 * - `s_mode`: INIT1 accepted, INIT2 sent; no segment with a valid MAC yet (ENCRYPTING, not yet bound)
 * - `encrypting`: bound
 * - `plain`: DISABLED
 */
export type Phase = 'syn_sent' | 'c_mode' | 'listen' | 's_mode' | 'encrypting' | 'plain';

/** Algorithms and identity of an encrypted connection, and of its session. */
export interface Secured {
  readonly generations: Generations;
  readonly sessionRole: Role;
  /** Hex of SID[i]. */
  readonly sessionId: string;
  readonly keyExchange: number;
  readonly suite: number;
  /** Whether one MAC covers a super-segment (wire.md section 6). */
  readonly aggregate: boolean;
  readonly authenticated: boolean;
  readonly keyId: string | undefined;
  readonly handshake: 'full' | 'cached';
}

/** A packet from our kernel whose verdict waits. */
export interface Held {
  readonly token: number;
  readonly packet: Packet;
  readonly superSegment: boolean;
}

/** What is known of a connection from its first packet. */
export type Identity = Pick<
  Connection,
  'key' | 'local' | 'remote' | 'peer' | 'active' | 'decision' | 'openedAt'
>;

const NO_BYTES = new Uint8Array(0);
const NO_NUMBERS: readonly number[] = [];
/** The nonce, which no other INIT2 has, is within so much of it (wire.md section 2). */
const INIT2_HEAD_BYTES = 64;

export class Connection {
  readonly key: string;
  readonly local: string;
  readonly remote: string;
  /** The remote address alone, as text: key of the session cache and the lists. */
  readonly peer: string;
  readonly active: boolean;
  readonly decision: Decision;
  readonly openedAt: number;
  phase: Phase;
  reason: FallbackReason | undefined = undefined;
  /** Reported to the observer already. */
  decided = false;

  /** ISN of our stream. Passive, before the first segment: the first of our SYN-ACKs'. */
  isnLocal = 0;
  /** With SYN cookies: all that SYN-ACKs had, if they were several, newest first. */
  isnCandidates: readonly number[] = NO_NUMBERS;
  isnRemote = 0;
  txDelta = 0;
  rxDelta = 0;
  /** Wire offsets: the first byte we have not sent, the first the peer has not acknowledged, the first not seen. */
  txNext = 1;
  txAcked = 1;
  rxNext = 1;
  /** Most TCP header and data that a segment of ours may have on the wire. */
  maxSegmentBytes = 65535;
  /** Our kernel's segments may be larger with what we add: they are cut here, and come one by one for that. */
  cutsHere = false;
  /** What ICMP errors said of the path, while it holds. */
  path: PathMtu | undefined = undefined;

  /** Bodies of both SYNs' CRYPT options, the same bytes at each repetition. */
  synBody: Uint8Array = NO_BYTES;
  synAckBody: Uint8Array = NO_BYTES;
  /** MSS options of both SYNs as they were on the wire. */
  mssLocal = 536;
  mssRemote = 536;
  /** What our PKCONF offered, or a peer's. */
  offered: readonly number[] = NO_NUMBERS;
  /** A SYN of ours left without CRYPT, at this TSval: the connection stays plain. */
  plainSyn: { readonly tsVal: number | undefined } | undefined = undefined;
  /** When our kernel last sent its SYN. */
  synAt: number;
  resume: CachedSession | undefined = undefined;
  ackCookie: Uint8Array | undefined = undefined;

  /** `template` as latin1. */
  private headers: string | undefined = undefined;
  /** What of our kernel's last segment a segment of the rewriter's own repeats. */
  window = 0;
  tsVal: number | undefined = undefined;
  tsEcho = 0;
  /** Kernel offset of the peer's stream that our kernel has acknowledged. */
  kernelAck = 1;
  /** Our kernel has sent a segment without SYN. */
  kernelAcked = false;

  initiation: Initiation | undefined = undefined;
  /** INIT bytes that we sent, and that we saw from the peer; of an encrypted connection see `init2Head`. */
  initSent: Uint8Array | undefined = undefined;
  initSeen: Uint8Array | undefined = undefined;
  /** What tells the peer's INIT2 when it comes again, as latin1. */
  init2Head: string | undefined = undefined;
  retransmitAt: number | undefined = undefined;
  retransmitMs = 0;
  deadline: number | undefined = undefined;
  held: Held[] | undefined = undefined;

  /** DECLINE, and perhaps UNKNOWN, that our next segment carries. */
  goodbye: Uint8Array | undefined = undefined;
  declined = false;
  /** After a fallback: see `plain.ts`. */
  plainNext = 1;
  peerPlainSeen = false;
  finished = false;

  secured: Secured | undefined = undefined;
  /** Undefined: nothing was retransmitted yet, super-segments are whole. */
  superSegmentSize: SuperSegmentSize | undefined = undefined;
  /** While super-segments of the peer's are incomplete. */
  reassembly: Reassembly | undefined = undefined;
  /** Chain of session secrets that this connection extended or used. */
  chain: object | undefined = undefined;
  verified = false;
  peerAppSupport = false;
  lastSyncClock: number | undefined = undefined;
  checkpointedAt = 0;
  generationSince: number;
  bytesIn = 0;
  bytesOut = 0;
  /** Successive reconciliations that did not find the socket. */
  missing = 0;
  icmpQuotedInit = false;
  /** Its socket takes packets of one interface only. */
  boundToInterface = false;

  constructor({ key, local, remote, peer, active, decision, openedAt }: Identity, phase: Phase) {
    this.key = key;
    this.local = local;
    this.remote = remote;
    this.peer = peer;
    this.active = active;
    this.decision = decision;
    this.openedAt = openedAt;
    this.phase = phase;
    this.synAt = openedAt;
    this.generationSince = openedAt;
  }

  /** The headers of a packet of our kernel's, which segments of the rewriter's own have. Made anew at each look. */
  get template(): Packet | undefined {
    const packet = this.headers === undefined ? undefined : parsePacket(bytesOf(this.headers));
    return typeof packet === 'string' ? undefined : packet;
  }

  /** Keeps the headers of a packet that has no data. */
  set template(p: Packet) {
    this.headers = latin1(p.bytes);
  }

  get hasTemplate(): boolean {
    return this.headers !== undefined;
  }

  /** Drops what set-up alone needs, once the connection is bound: INIT messages most of all. */
  endSetup(): void {
    const { active, initSeen } = this;
    if (active && initSeen) this.init2Head = latin1(initSeen.subarray(0, INIT2_HEAD_BYTES));
    this.initSent = undefined;
    this.initSeen = undefined;
    // A SYN-ACK of ours may still be repeated.
    if (active) this.synAckBody = NO_BYTES;
    else this.synBody = NO_BYTES;
    this.offered = NO_NUMBERS;
    this.ackCookie = undefined;
  }

  /** As `endSetup`, once the peer has proved itself: our kernel, past its SYN, repeats it no more. */
  endSyn(): void {
    if (this.kernelAcked) this.synBody = NO_BYTES;
  }

  /** Whether the data are those of the INIT2 that bound the connection. */
  isInit2(data: Uint8Array): boolean {
    const head = this.init2Head;
    return (
      head !== undefined && data.length === this.rxDelta && latin1(data.subarray(0, head.length)) === head
    );
  }
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));

/** Whether super-segments of a bound connection's come, and leave, as the kernel has them. */
export function comeWhole(c: Connection): boolean {
  return c.secured!.aggregate && (c.superSegmentSize?.whole ?? true) && !c.cutsHere && c.path === undefined;
}
